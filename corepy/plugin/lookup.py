"""Queries the server itself, from within a chain (CoreDNS: plugin/pkg/upstream)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from corepy.dns import Reply, Request

DEEPEST: Final = 8
"""Maximum depth of nested look-ups, which ends alias loops."""

_DEPTH: Final = "corepy/lookups"


async def lookup(request: Request, name_wire: bytes, qtype: int | None = None) -> Reply | None:
    """Return this server's reply to `request` for another name, in wire form, or another type.

    `qtype` is the number of the type to ask for, by default that of `request`. All else is that of
    `request`, also EDNS.

    The query is handled as if the client had sent it: by the block with the longest matching zone
    and its whole chain. The result is None above the maximum depth, or if `request` did not come
    through a server. It may be dropped (`Reply.is_dropped`). Metadata is passed on, except labels
    that begin with a dot, which belong to one pass through a chain.
    """
    router, depth = request.context.router, request.metadata.get(_DEPTH, 0)
    if router is None or depth >= DEEPEST:
        return None
    asked = request.derive(name_wire=name_wire, qtype=qtype)
    asked.metadata = {k: v for k, v in request.metadata.items() if not k.startswith(".")}
    asked.metadata[_DEPTH] = depth + 1
    reply: Reply = await router.lookup(asked)
    return reply
