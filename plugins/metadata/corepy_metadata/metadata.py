"""The handler that lets plugins provide labels for a query (CoreDNS: plugin/metadata)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final

from corepy.plugin import (
    Cacheability,
    ExplainedHandler,
    Handler,
    LifecycleContext,
    ZoneMatcher,
    hookimpl,
)
from corepy.plugin.failures import report

if TYPE_CHECKING:
    import pluggy

    from corepy.dns import Reply, Request

    Provider = Callable[[Request], Mapping[str, str] | None]


_INTERNAL: Final = (".", "corepy/")
"""Prefixes of labels that only mark a query, for the server and for plugins."""


class Labels(dict[str, Any]):
    """The metadata of one query: labels set by plugins, and labels of providers on demand.

    Providers are called at each access to a label that is not set. Most queries end without such an
    access, and a provider may return more labels once the reply exists. Labels that begin with a
    dot have no providers: they belong to one pass through the chain.
    """

    __slots__ = ("_is_asking", "_providers", "_request")

    def __init__(
        self, known: Mapping[str, Any], providers: Sequence[Provider], request: Request
    ) -> None:
        super().__init__(known)
        self._providers = providers
        self._request = request
        self._is_asking = False

    def collect(self) -> None:
        """Call the providers; labels that are already set do not change."""
        if self._is_asking:
            return  # a provider reads a label
        self._is_asking = True
        try:
            for provider in self._providers:
                for label, value in (provider(self._request) or {}).items():
                    self.setdefault(label, value)
        finally:
            self._is_asking = False

    def complete(self) -> dict[str, Any]:
        """Return a copy that has the labels of the providers, too."""
        labels = Labels(self, self._providers, self._request)
        labels.collect()
        return dict(labels)

    def __missing__(self, label: str) -> Any:
        if label in self:
            return super().__getitem__(label)
        raise KeyError(label)

    def get(self, label: str, default: Any = None) -> Any:
        """Return the value of a label, or `default` if it is not set."""
        try:
            return self[label]
        except KeyError:
            return default

    def __contains__(self, label: object) -> bool:
        if super().__contains__(label):
            return True
        if isinstance(label, str) and label.startswith("."):
            return False
        self.collect()
        return super().__contains__(label)


class Metadata(ExplainedHandler):
    """Puts `Labels` into `request.metadata` of queries for its zones.

    It changes no reply, so the packet cache may repeat replies. A plugin whose reply or log line
    depends on metadata must declare that with its own cacheability.
    """

    name: ClassVar[str] = "metadata"
    cacheability = Cacheability.SAFE
    inputs = b""

    def __init__(self, zones: Sequence[str]) -> None:
        """Collect metadata of queries for `zones`, which are in presentation form."""
        self._zones = ZoneMatcher(zones)
        self._providers: tuple[Provider, ...] = ()

    @property
    def zones(self) -> tuple[str, ...]:
        """The zones of the queries that get metadata."""
        return self._zones.zones

    @hookimpl
    def before_listen(self, context: LifecycleContext) -> None:
        """Find the providers: those in the block's chain, and objects that are not handlers."""
        chain: set[Handler] = set()
        link: Handler | None = self
        while link is not None:
            chain.add(link)
            link = getattr(link, "next", None)
        self._providers = tuple(
            _provider(implementation)
            for implementation in context.plugins.hook.metadata.get_hookimpls()
            if not isinstance(implementation.plugin, Handler) or implementation.plugin in chain
        )

    @hookimpl
    def rehearse(self, context: LifecycleContext) -> None:
        """Find the providers."""
        self.before_listen(context)

    async def serve_dns(self, request: Request) -> Reply:
        """Return the next handler's reply."""
        if type(request.metadata) is not Labels:
            self._attach(request)
        return await self.next.serve_dns(request)

    def collect(self, request: Request) -> None:
        """Provide the metadata before the filters of the block, whose labels may be of any plugin.

        A `corepy.plugin.MetadataCollector`.
        """
        self._attach(request)
        if type(request.metadata) is Labels:
            request.metadata.collect()

    def explain_state(self, request: Request, reply: Reply | None = None) -> dict[str, str | int]:
        """Return the labels that are not empty, after the query."""
        labels = request.metadata
        if reply is None or type(labels) is not Labels:
            return {}
        known = labels.complete().items()
        return {
            label: value
            for label, value in known
            if isinstance(value, str) and value and not label.startswith(_INTERNAL)
        }

    def _attach(self, request: Request) -> None:
        if self._providers and self._zones.find(request.name_wire) is not None:
            request.metadata = Labels(request.metadata, self._providers, request)


def _provider(implementation: pluggy.HookImpl) -> Provider:
    """Wrap a plugin's hook: the function takes a request, returns labels and raises nothing.

    The hook may omit the parameter.
    """
    function: Any = implementation.function
    takes_request = bool(implementation.argnames)
    plugin = implementation.plugin_name.rpartition(".")[0]

    def provide(request: Request) -> Mapping[str, str]:
        try:
            return dict((function(request) if takes_request else function()) or {})
        except BaseException as error:  # foreign code: the query continues without its labels
            report(plugin, "hook", "failed to provide metadata", error)
            return {}

    return provide
