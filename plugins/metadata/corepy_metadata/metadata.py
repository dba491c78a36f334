"""The handler: lets plugins say what they know about a query (CoreDNS: plugin/metadata)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from corepy.dns.names import ROOT, InvalidName, from_text, is_subdomain, lower
from corepy.plugin import Handler, LifecycleContext, Purity, hookimpl
from corepy.plugin.failures import report

if TYPE_CHECKING:
    import pluggy

    from corepy.dns import Reply, Request

    Provider = Callable[[Request], Mapping[str, str] | None]


class Labels(dict[str, Any]):
    """The metadata of one query: what plugins have set, and what providers say when asked.

    Providers are asked once, when somebody wants a label that nobody has set. Most queries end
    before that, and a provider may say more when the reply is there.
    """

    __slots__ = ("_providers", "_request")

    def __init__(
        self, known: Mapping[str, Any], providers: Sequence[Provider], request: Request
    ) -> None:
        super().__init__(known)
        self._providers = providers
        self._request = request

    def collect(self) -> None:
        """Ask the providers; what was set by hand stays."""
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
        """Return the value of a label, or `default` if nobody knows it."""
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

    It changes no reply, so it does not keep the packet cache from repeating one: a plugin whose
    reply or log line goes by metadata says so by its own purity.
    """

    name: ClassVar[str] = "metadata"
    purity = Purity.PURE

    def __init__(self, zones: Sequence[str]) -> None:
        """Take zones in presentation form; those that cannot be on the wire match nothing."""
        self.zones = tuple(zones)
        self._wires = [wire for zone in zones if (wire := _to_wire(zone)) is not None]
        self._providers: tuple[Provider, ...] = ()

    @hookimpl
    def before_listen(self, context: LifecycleContext) -> None:
        """Find the providers: those of the block's chain, and objects that stand in no chain."""
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
        if self._providers and self._covers(request.name_wire):
            request.metadata = Labels(request.metadata, self._providers, request)
        return await self.next.serve_dns(request)

    def _covers(self, name_wire: bytes) -> bool:
        return any(wire == ROOT or is_subdomain(name_wire, wire) for wire in self._wires)


def _to_wire(zone: str) -> bytes | None:
    try:
        return lower(from_text(zone))
    except InvalidName:
        return None


def _provider(implementation: pluggy.HookImpl) -> Provider:
    """Return a function of the request that returns labels, whatever the plugin's does.

    An implementation may do without the parameter.
    """
    function: Any = implementation.function
    takes_request = bool(implementation.argnames)
    plugin = implementation.plugin_name.rpartition(".")[0]

    def provide(request: Request) -> Mapping[str, str]:
        try:
            return dict((function(request) if takes_request else function()) or {})
        except BaseException as error:  # other people's code: the query goes on without its labels
            report(plugin, "hook", "cannot say what it knows of a query", error)
            return {}

    return provide
