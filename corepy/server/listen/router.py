"""Selects the server block that answers a query: the one with the longest matching zone.

As core/dnsserver/server.go: ServeDNS. A query of type DS for a zone's apex belongs to the parent
zone, so the search continues towards the root, and the shortest matching zone except the root
answers.
"""

from __future__ import annotations

from asyncio import CancelledError
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Final

from corepy.dns import RequestContext
from corepy.dns.context import ECHOED_OPTIONS
from corepy.dns.reply_validation import reply_problem
from corepy.plugin.block_filter import BlockFilters
from corepy.plugin.handler import REFUSED
from corepy.plugin.lookup import DEPENDS_ON_CLIENT
from corepy.server.contain.failure_report import InvalidReplyError, report_failure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from corepy.dns import Reply, Request
    from corepy.plugin import Gate, Handler, ObservingHandler

_NO_FILTERS = BlockFilters()
ROOT = b"\0"
TYPE_DS = 43
CLASS_IN: Final = 1


@dataclass(frozen=True, slots=True, eq=False)
class ZoneRoute:
    """One zone of one server block."""

    zone: str
    """Fully qualified, in lower case."""

    chain: Handler | None
    """The first handler of the block's chain; None if the block has no handler (REFUSED)."""

    obstacle: str | None = ""
    """Why the packet cache must not store replies of this block; None if it may.

    The directive of the handler that prevents it, or "" if no handler sets a deadline for replies.
    """

    entry: Handler | None = None
    """The first handler of the chain that is not an `ObservingHandler`; queries enter here."""

    observing_handlers: tuple[ObservingHandler, ...] = ()
    """The observing handlers above `entry`, the lowest first."""

    position: str = ""
    """The position of the block in the configuration, such as "Corefile:3"."""

    directives: tuple[str, ...] = ()
    """The directives of the block, in the order of the file."""

    has_hit_listeners: bool = False
    """Whether a handler of the chain observes each query that the packet cache answers."""

    gates: tuple[Gate, ...] = ()
    """The gates of the block that may be asked before a query is parsed."""

    has_hit_gates: bool = False
    """Whether replies of the block may have gates besides `gates`."""

    time_limit: float = 0.0
    """Seconds that a query may take; 0 for the limit of the process."""

    filters: BlockFilters = _NO_FILTERS
    """The filters that decide whether the block answers a query (`FilteringRouter`)."""

    safe_filter_count: int = 0
    """The number of filters before the first one whose verdict the packet cache cannot repeat."""

    question_filter_count: int = 0
    """The number of filters before the first one that depends on more than the question."""

    collect_metadata: Callable[[Request], None] | None = None
    """Collects the metadata of a query for the filters; see `corepy.plugin.MetadataCollector`."""

    depends_on_client: bool = False
    """Whether some clients are denied its replies, by a filter or a handler (`denies_clients`)."""

    @property
    def filter_obstacle(self) -> str | None:
        """The directive of a filter whose verdict the packet cache cannot repeat, None without."""
        return next((it.name for it in self.filters.filters[self.safe_filter_count :]), None)

    async def serve(self, request: Request) -> Reply:
        """Return the valid reply of the block to `request`, whose context names this route.

        A failure of a handler is reported and becomes SERVFAIL; a block without handlers answers
        REFUSED. Raises CancelledError and GeneratorExit, which end the caller as well.
        """
        if self.chain is None:
            return request.error(REFUSED)
        try:
            reply = await self.chain.serve_dns(request)
        except (CancelledError, GeneratorExit):
            raise
        except BaseException as error:
            return report_failure(request, error, self.chain)
        problem = reply_problem(request, reply)
        if problem is None:
            return reply
        return report_failure(request, InvalidReplyError(problem, self.chain))


class RoutingError(Exception):
    """The block for a query cannot be determined; `reply` is the answer."""

    def __init__(self, reply: Reply) -> None:
        super().__init__("a filter of a server block failed")
        self.reply = reply


class Router:
    """The zones served at one address. Immutable: a reload replaces it."""

    __slots__ = (
        "_zones",
        "any_class",
        "dropped",
        "echoed_options",
        "gates",
        "has_hit_gates",
        "has_hit_listeners",
        "only_root",
        "routes",
    )

    has_filters: ClassVar[bool] = False
    """Whether `route` calls filters, which read the request's context."""

    def __init__(
        self,
        zones: Mapping[bytes, ZoneRoute],
        *,
        any_class: bool,
        dropped: Callable[..., object] | None,
        echoed_options: frozenset[int] = ECHOED_OPTIONS,
    ) -> None:
        """`zones` is keyed by wire name in lower case; `dropped` is the hook of that name.

        `echoed_options` is for `RequestContext.echoed_options`.
        """
        self.echoed_options = echoed_options
        self.dropped = dropped
        self._zones = dict(zones)
        self.only_root = self._zones.get(ROOT) if len(self._zones) == 1 else None
        """The route of all queries of class IN, unless filters have to be asked."""
        self.any_class = any_class
        self.routes = list(self._zones.values())
        self._look_at_routes()

    def _look_at_routes(self) -> None:
        """Set what a listener needs to know of all routes."""
        self.has_hit_listeners = any(route.has_hit_listeners for route in self.routes)
        gates = {route.gates for route in self.routes}
        self.gates: tuple[Gate, ...] = gates.pop() if len(gates) == 1 else ()
        """The gates that all routes have, for datagrams that are not parsed yet."""
        self.has_hit_gates = any(
            route.has_hit_gates or (route.gates and not self.gates) for route in self.routes
        )

    def route(self, request: Request) -> ZoneRoute | None:
        """Return the route for `request`; None means REFUSED, as does a route without a chain.

        May raise `RoutingError` if a block has a filter, and replaces the metadata of `request`.
        """
        if request.qclass != CLASS_IN and not self.any_class:
            return None
        if self.only_root is not None:
            return self.only_root
        if request.qtype == TYPE_DS:
            return self._route_ds(request.name_wire)
        name, zones, offset = request.name_wire, self._zones, 0
        while True:
            route = zones.get(name[offset:])
            if route is not None:
                return route
            length = name[offset]
            if not length:
                return None
            offset += length + 1

    def contexts(
        self, unrouted: RequestContext, *, with_packet_cache: bool
    ) -> dict[ZoneRoute, RequestContext]:
        """Return the context of each route for the queries of the listener of `unrouted`."""
        return {
            route: replace(
                unrouted,
                zone=route.zone,
                view=route.filters.view,
                uses_deadlines=with_packet_cache and route.obstacle is None,
                router=self,
                route=route,
            )
            for route in self._reachable()
        }

    def _reachable(self) -> Sequence[ZoneRoute]:
        """Return all routes that `route` may return."""
        return self.routes

    @property
    def zones(self) -> Mapping[bytes, Sequence[ZoneRoute]]:
        """The routes by the wire names of their zones, in the order of the Corefile."""
        return {wire: (route,) for wire, route in self._zones.items()}

    async def lookup(self, request: Request) -> Reply:
        """Return the reply to a question of the server itself; see `corepy.plugin.lookup`.

        A failure in the block that answers becomes SERVFAIL, as for a client; the block that asks
        sees no exception. The reply has no deadline if the packet cache may not repeat those of
        that block, so that a reply which is made of it is not repeated either. If other clients are
        denied the reply, `request` is marked with `DEPENDS_ON_CLIENT`. A reply of several messages
        is REFUSED.
        """
        return await self._serve(request, self.route(request))

    async def _serve(self, request: Request, route: ZoneRoute | None) -> Reply:
        """Return the reply of the block of `route` to a question of the server itself."""
        if route is None:
            return request.error(REFUSED)
        request.context = replace(
            request.context,
            zone=route.zone,
            view=route.filters.view,
            route=route,
            takes_series=False,
        )
        reply = await route.serve(request)
        if route.obstacle is not None:
            reply.deadline = None
        if route.depends_on_client:
            request.metadata[DEPENDS_ON_CLIENT] = True
        return reply

    def _route_ds(self, name: bytes) -> ZoneRoute | None:
        found, offset = None, 0
        while name[offset]:  # the root matches only if no other zone does
            route = self._zones.get(name[offset:])
            if route is not None:
                if route.chain is None:
                    return route
                found = route
            offset += name[offset] + 1
        return found or self._zones.get(ROOT)
