"""Explains which server block answers a question, and why it is that one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from corepy.dns import constants as c
from corepy.dns.names import is_subdomain
from corepy.server.listen.router import RoutingError

if TYPE_CHECKING:
    from corepy.dns import Reply, Request
    from corepy.server.explain.trace import WatchedRouter
    from corepy.server.listen.router import Router, ZoneRoute

SHOWN_BLOCKS: Final = 50


class Choice(NamedTuple):
    """The block for a question, and how it was found."""

    route: ZoneRoute | None
    """None if no block answers."""

    verdicts: dict[ZoneRoute, bool]
    """The blocks that were considered, each with the verdict of its filters."""

    failure: Reply | None = None
    """The answer after an exception in a filter."""

    @classmethod
    def of(cls, router: WatchedRouter, request: Request) -> Choice:
        """Return the choice for `request`, which gets the metadata of the block."""
        considered: list[tuple[ZoneRoute, bool]] = []
        try:
            route = router.route(request, considered)
        except RoutingError as error:
            return cls(None, dict(considered), error.reply)
        return cls(route, dict(considered))


def reason(router: Router, choice: Choice, request: Request) -> str:
    """Return why the block of `choice` answers, or why none does."""
    route = choice.route
    if choice.failure is not None:
        return f"a filter failed ({choice.failure.error})"
    if request.qclass != c.CLASS_IN and not router.any_class:
        return f"class {request.class_} is refused, because no plugin accepts it"
    if route is None:
        return (
            "the filters of all blocks whose zone contains the name reject the query"
            if choice.verdicts
            else "no zone of this server contains the name"
        )
    if route.chain is None:
        return "the block has no plugin that answers, so the query is refused"
    parts = [_zone_reason(router, choice, route, request)]
    if not all(choice.verdicts.values()):
        parts.append("filters of earlier blocks reject the query")
    if route.filters.filters:
        parts.append("its filter accepts the query")
    return "; ".join(parts)


def _zone_reason(router: Router, choice: Choice, route: ZoneRoute, request: Request) -> str:
    """Return why the zone of `route` is the one that answers."""
    if len(router.routes) == 1:
        return "the only zone of this server"
    if request.qtype == c.TYPE_DS and route.zone == request.name:
        return "the zone itself; its parent is not served here"
    if request.qtype == c.TYPE_DS:
        return "a DS record belongs to the parent zone, so the shortest zone above it answers"
    if any(len(it.zone) > len(route.zone) for it in choice.verdicts):
        return "the longest zone whose blocks accept the query"
    return "the longest zone that contains the name"


def candidates(router: Router, choice: Choice, request: Request) -> list[dict[str, Any]]:
    """Return the blocks of the server: first those whose zone has the name, longest first."""
    found = [
        {
            "zone": route.zone,
            "place": route.position,
            "view": route.filters.view,
            "fits": is_subdomain(request.name_wire, wire),
            "accepts": choice.verdicts.get(route) if route.filters.filters else None,
        }
        for wire, blocks in router.zones.items()
        for route in blocks
    ]
    found.sort(key=lambda it: (not it["fits"], -len(str(it["zone"]))))
    return found[:SHOWN_BLOCKS]
