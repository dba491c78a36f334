"""Asking the server itself, from within a chain (CoreDNS: plugin/pkg/upstream)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from corepy.dns import Reply, Request

DEEPEST: Final = 8
"""Look-ups within look-ups: an alias that leads back to itself ends here."""

_DEPTH: Final = "corepy/lookups"


async def lookup(request: Request, name_wire: bytes) -> Reply | None:
    """Return what this server answers to `request` for another name, in wire form.

    The question takes the whole way, as if the client had asked it: the block with the longest
    zone, its whole chain. None when it leads too deep, or `request` did not come through a server.
    Metadata goes along, but for labels that begin with a dot: those are of one way down the chain.
    """
    router, depth = request.router, request.metadata.get(_DEPTH, 0)
    if router is None or depth >= DEEPEST:
        return None
    asked = request.derive(name_wire=name_wire)
    asked.metadata = {k: v for k, v in request.metadata.items() if not k.startswith(".")}
    asked.metadata[_DEPTH] = depth + 1
    reply: Reply = await router.lookup(asked)
    return reply
