"""Selects the server block for a query at an address where at least one block has a filter.

As core/dnsserver/server.go: ServeDNS. The blocks of the longest zone are considered first, in the
order of the Corefile, then those of shorter zones; the first block whose filters accept the query
answers. Other addresses have a plain `Router`, so they pay nothing for filters.

The packet cache must not repeat a reply whose block another client would not have reached. So a
query for which a filter was called that depends on more than the query's bytes gets a route with an
obstacle. For all other queries the same blocks are considered with the same verdicts, whoever the
client is, so their replies may be repeated.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from corepy.dns.context import ECHOED_OPTIONS
from corepy.plugin.lookup import DEPENDS_ON_CLIENT
from corepy.server.contain.failure_report import report_failure
from corepy.server.listen.router import CLASS_IN, ROOT, TYPE_DS, Router, RoutingError, ZoneRoute

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from corepy.dns import Reply, Request
    from corepy.plugin.block_filter import BlockFilter

    Considered = list[tuple[ZoneRoute, bool]]


class FilteringRouter(Router):
    """The zones served at one address, several blocks for each."""

    __slots__ = ("_blocks", "_collects", "_uncached")

    has_filters: ClassVar[bool] = True

    def __init__(
        self,
        zones: Mapping[bytes, Sequence[ZoneRoute]],
        *,
        any_class: bool,
        dropped: Callable[..., object] | None,
        echoed_options: frozenset[int] = ECHOED_OPTIONS,
    ) -> None:
        """`zones` has the blocks of each zone in the order of the Corefile; see `Router`."""
        first = {wire: blocks[0] for wire, blocks in zones.items()}
        super().__init__(first, any_class=any_class, dropped=dropped, echoed_options=echoed_options)
        self._blocks = {wire: _with_obstacles(blocks) for wire, blocks in zones.items()}
        self.routes = [route for blocks in self._blocks.values() for route in blocks]
        self._look_at_routes()
        self._collects = any(route.filters.filters for route in self.routes)
        obstacles = [it.filter_obstacle for it in self.routes if it.filter_obstacle is not None]
        self._uncached = {
            route: _uncached(route, obstacles[0])
            for route in self.routes
            if obstacles and (route.obstacle is None or not route.depends_on_client)
        }

    @property
    def zones(self) -> Mapping[bytes, Sequence[ZoneRoute]]:
        """The routes by the wire names of their zones, in the order of the Corefile."""
        return self._blocks

    def _reachable(self) -> Sequence[ZoneRoute]:
        return [*self.routes, *self._uncached.values()]

    def route(self, request: Request, considered: Considered | None = None) -> ZoneRoute | None:
        """Return the route of the first block whose filters accept `request`, or None (REFUSED).

        Its metadata becomes that of the block. `considered` gets each block that was considered,
        with the verdict. Raises `RoutingError` after an exception in a filter.
        """
        return self._choose(request, considered)[0]

    def _choose(
        self, request: Request, considered: Considered | None = None
    ) -> tuple[ZoneRoute | None, bool]:
        """Return the route for `request`, and whether the choice depends on the question only."""
        if request.qclass != CLASS_IN and not self.any_class:
            return None, True
        try:
            route, depends_on_client, is_about_question = self._search(request, considered)
        except BaseException as error:  # the filter may be that of a third party
            raise RoutingError(report_failure(request, error)) from error
        if route is not None and depends_on_client:
            route = self._uncached.get(route, route)
        return route, is_about_question

    def _search(
        self, request: Request, considered: Considered | None
    ) -> tuple[ZoneRoute | None, bool, bool]:
        """Return the block for `request`, and what the choice depends on.

        That is, whether the packet cache cannot repeat it, and whether *cache* can: then it depends
        on nothing but the question.
        """
        known, labels, is_ds = request.metadata, request.metadata, request.qtype == TYPE_DS
        found: ZoneRoute | None = None
        depends_on_client, is_about_question = False, True
        for is_root, blocks in self._groups(request.name_wire):
            if is_root and found is not None:
                break  # a query for DS
            for route in blocks:
                request.metadata = dict(known)  # no block sees the labels of another one
                if self._collects and route.collect_metadata is not None:
                    route.collect_metadata(request)
                is_accepted, called = _verdict(route.filters.filters, request)
                depends_on_client = depends_on_client or called > route.safe_filter_count
                is_about_question = is_about_question and called <= route.question_filter_count
                if considered is not None:
                    considered.append((route, is_accepted))
                if is_accepted:
                    found, labels = route, request.metadata
                    break
            if found is not None and (not is_ds or found.chain is None):
                break
        request.metadata = labels
        return found, depends_on_client, is_about_question

    def _groups(self, name: bytes) -> Iterator[tuple[bool, Sequence[ZoneRoute]]]:
        """Yield the blocks of each zone that contains `name`, and whether it is the root."""
        zones, offset = self._blocks, 0
        while True:
            blocks = zones.get(name[offset:])
            if blocks is not None:
                yield name[offset:] == ROOT, blocks
            if not name[offset]:
                return
            offset += name[offset] + 1

    async def lookup(self, request: Request) -> Reply:
        """Return the reply to a question of the server itself; see `Router.lookup`."""
        request.context = replace(request.context, zone="", view="", route=None)
        try:
            route, is_about_question = self._choose(request)
            reply = await self._serve(request, route)
        except RoutingError as error:
            reply, is_about_question = error.reply, False
        if not is_about_question or request.context.route is None:
            # Another query for the same question may have got a reply of another block.
            request.metadata[DEPENDS_ON_CLIENT] = True
        return reply


def _verdict(filters: Sequence[BlockFilter], request: Request) -> tuple[bool, int]:
    """Return whether a block accepts the query, and the number of filters that were called."""
    for called, it in enumerate(filters, 1):
        if not it.accepts(request):
            return False, called
    return True, len(filters)


def _with_obstacles(blocks: Sequence[ZoneRoute]) -> list[ZoneRoute]:
    """Return the blocks of a zone; the packet cache is off where a filter is always called.

    That is from the first block on whose first filter depends on the client.
    """
    obstacle: str | None = None
    found = []
    for route in blocks:
        here = obstacle or route.filter_obstacle
        found.append(route if here is None else _uncached(route, here))
        obstacle = here if not route.safe_filter_count else obstacle
    return found


def _uncached(route: ZoneRoute, obstacle: str) -> ZoneRoute:
    """Return a route whose replies the packet cache does not repeat, because of a filter."""
    reason = obstacle if route.obstacle is None else route.obstacle
    return replace(route, obstacle=reason, depends_on_client=True)
