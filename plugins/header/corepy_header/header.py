"""The handler that changes header flags (CoreDNS: plugin/header/handler.go, header.go)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NamedTuple

from corepy.dns.constants import FLAG_RD
from corepy.plugin import Cacheability, FastHandler, apply_step

if TYPE_CHECKING:
    from corepy.dns import Reply, Request
    from corepy.plugin.handler import Answer


class FlagChange(NamedTuple):
    """Flags to set and to clear, as bits of the header's second word; no flag is in both."""

    set: int = 0
    clear: int = 0

    def then_set(self, flag: int) -> FlagChange:
        """Return this change followed by setting `flag`."""
        return FlagChange(self.set | flag, self.clear & ~flag)

    def then_clear(self, flag: int) -> FlagChange:
        """Return this change followed by clearing `flag`."""
        return FlagChange(self.set & ~flag, self.clear | flag)

    def apply(self, flags: int) -> int:
        """Return `flags` after this change."""
        return flags & ~self.clear | self.set


class Header(FastHandler):
    """Changes flags of the queries that it passes on, and of their replies.

    The change depends only on the query's bytes, so the packet cache may repeat the reply.
    """

    name: ClassVar[str] = "header"
    cacheability = Cacheability.SAFE
    inputs = b""

    def __init__(self, query: FlagChange, response: FlagChange) -> None:
        self.query = query
        self.response = response
        # A reply repeats RD of the client's query (RFC 1035 section 4.1.1), not of the changed one.
        self._copied = FLAG_RD & (query.set | query.clear)

    def begin_dns(self, request: Request) -> Answer:
        """Return the next handler's answer to the changed query, with its flags changed."""
        set_, clear = self.query
        changes_query = self.query.apply(request.flags) != request.flags
        asked = request.with_flags(set_, clear) if changes_query else request
        return apply_step(self.next.begin_dns(asked), self._change, request)

    def _change(self, request: Request, reply: Reply | None) -> Reply | None:
        if reply is not None:
            wire, copied = reply.wire, self._copied
            flags = wire[2] << 8 | wire[3]
            changed = self.response.apply(flags & ~copied | request.flags & copied)
            if changed != flags:
                reply.patch(b"".join((wire[:2], changed.to_bytes(2, "big"), wire[4:])))
        return reply
