"""The lines printed when the server has started: one per zone and address.

As core/dnsserver/onstartup.go.
"""

from __future__ import annotations

import string
from typing import TYPE_CHECKING

from corepy.server.listen import transports
from corepy.server.listen.packet_cache import SWITCH, is_enabled

if TYPE_CHECKING:
    from corepy.server.build.generation import Generation
    from corepy.server.listen.router import ZoneRoute
    from corepy.server.server import Server

_LETTERS = frozenset(string.ascii_letters)
_INSIDE = _LETTERS | frozenset(string.digits) | {"-"}


def banner(generation: Generation, server: Server) -> str:
    """Return the lines for all zones of `generation`, by address."""
    lines: list[str] = []
    for listen, router in generation.routers.items():
        endpoint = server.endpoints[listen]
        prefix = transports.get(listen.transport).prefix
        where = f" on {listen.host}" if listen.host else ""
        for zone in sorted({route.zone for route in router.routes}):
            if not follows_preferred_syntax(zone):
                lines.append(f'Warning: Domain "{zone}" does not follow RFC1035 preferred syntax')
            lines.append(f"{prefix}{zone}:{endpoint.port}{where}")
    return "".join(f"{line}\n" for line in lines)


def packet_cache_lines(generation: Generation, server: Server) -> list[str]:
    """Return a line per server: whether the packet cache is on, and why it is not."""
    lines = []
    for listen, router in generation.routers.items():
        off = [
            (_block(route), route.obstacle) for route in router.routes if route.obstacle is not None
        ]
        reasons = ", ".join(
            f"{block} ({f'because of {why}' if why else 'nothing is cached'})" for block, why in off
        )
        state = "on" if not off else "off" if len(off) == len(router.routes) else "on, but off"
        state += f" for {reasons}" if off else ""
        if not is_enabled():
            state = f"off (environment variable {SWITCH})"
        lines.append(f"{server.endpoints[listen].label}: packet cache {state}")
    return lines


def _block(route: ZoneRoute) -> str:
    """Return the zone of a block, with its view if it has one."""
    view = route.filters.view
    return f"{route.zone} view {view}" if view else route.zone


def follows_preferred_syntax(zone: str) -> bool:
    """Return whether `zone` has the preferred host name syntax (RFC 1035 section 2.3.1).

    True for the root and for reverse zones in any case.
    """
    if zone == "." or zone.endswith(("in-addr.arpa.", "ip6.arpa.")):
        return True
    return all(
        label
        and label[0] in _LETTERS
        and label[-1] in _INSIDE
        and label[-1] != "-"
        and _INSIDE.issuperset(label)
        for label in zone.removesuffix(".").split(".")
    )
