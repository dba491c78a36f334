"""The handler that lets plugins provide labels for a query (CoreDNS: plugin/metadata)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from corepy.plugin import Cacheability, Handler, LifecycleContext, ZoneMatcher, hookimpl
from corepy.plugin.failures import report

if TYPE_CHECKING:
    import pluggy

    from corepy.dns import Reply, Request

    Provider = Callable[[Request], Mapping[str, str] | None]


class Labels(dict[str, Any]):
    """The metadata of one query: labels set by plugins, and labels of providers on demand.

    Providers are called once, at the first access to a label that is not set. Most queries end
    without such an access, and a provider may return more labels once the reply exists.
    """

    __slots__ = ("_providers", "_request")

    def __init__(
        self, known: Mapping[str, Any], providers: Sequence[Provider], request: Request
    ) -> None:
        super().__init__(known)
        self._providers = providers
        self._request = request

    def collect(self) -> None:
        """Call the providers; labels that are already set do not change."""
        providers, self._providers = self._providers, ()
        for provider in providers:
            for label, value in (provider(self._request) or {}).items():
                self.setdefault(label, value)

    def __missing__(self, label: str) -> Any:
        if not self._providers:
            raise KeyError(label)
        self.collect()
        return self[label]

    def get(self, label: str, default: Any = None) -> Any:
        """Return the value of a label, or `default` if it is not set."""
        try:
            return self[label]
        except KeyError:
            return default

    def __contains__(self, label: object) -> bool:
        if self._providers and not super().__contains__(label):
            self.collect()
        return super().__contains__(label)


class Metadata(Handler):
    """Puts `Labels` into `request.metadata` of queries for its zones.

    It changes no reply, so the packet cache may repeat replies. A plugin whose reply or log line
    depends on metadata must declare that with its own cacheability.
    """

    name: ClassVar[str] = "metadata"
    cacheability = Cacheability.SAFE

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
        if self._providers and self._zones.find(request.name_wire) is not None:
            request.metadata = Labels(request.metadata, self._providers, request)
        return await self.next.serve_dns(request)


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
