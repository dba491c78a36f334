"""Queries the server itself, from within a chain (CoreDNS: plugin/pkg/upstream)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from corepy.dns import Reply, Request

DEEPEST: Final = 8
"""Maximum depth of nested look-ups, which ends alias loops."""

DEPENDS_ON_CLIENT: Final = ".corepy/depends-on-client"
"""Metadata label of a query during which `lookup` got a reply that other queries do not get.

It is the reply of a block that is selected by a filter which reads more than the question, or that
has a handler that `denies_clients`. A cache does not store a reply that is made of it.
"""

MADE_WITH_LOOKUPS: Final = ".corepy/made-with-lookups"
"""Metadata label of a query during which `lookup` was called.

What is made of it depends on the server blocks that have answered. A cache that contains it is
valid after a reload only if they are unchanged.
"""

PREFERS_FRESH: Final = ".corepy/prefers-fresh"
"""Metadata label of a plugin's own query, for which an expired reply is of little use.

A cache that would answer with one and ask for a new one meanwhile waits for the new one first.
"""

_DEPTH: Final = "corepy/lookups"


def is_lookup(request: Request) -> bool:
    """Return whether `request` comes from `lookup`, so that no client has sent it."""
    return bool(request.metadata) and _DEPTH in request.metadata


async def lookup(request: Request, name_wire: bytes, qtype: int | None = None) -> Reply | None:
    """Return this server's reply to `request` for another name, in wire form, or another type.

    `qtype` is the number of the type to ask for, by default that of `request`. All else is that of
    `request`, also EDNS.

    The query is handled as if the client had sent it: by the block with the longest matching zone
    and its whole chain. The result is None above the maximum depth, or if `request` did not come
    through a server. It may be dropped (`Reply.is_dropped`). Metadata is passed on, except labels
    that begin with a dot, which belong to one pass through a chain.
    """
    router, depth = request.context.router, dict.get(request.metadata, _DEPTH, 0)
    if router is None or depth >= DEEPEST:
        return None
    asked = request.derive(name_wire=name_wire, qtype=qtype)
    asked.metadata = {k: v for k, v in request.metadata.items() if not k.startswith(".")}
    asked.metadata[_DEPTH] = depth + 1
    request.metadata[MADE_WITH_LOOKUPS] = True
    reply: Reply = await router.lookup(asked)
    if DEPENDS_ON_CLIENT in asked.metadata:
        request.metadata[DEPENDS_ON_CLIENT] = True
    return reply
