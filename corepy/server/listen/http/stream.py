"""`Stream`: the state of a request in HTTP/2 that is being received or answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from corepy.plugin import Timeouts
    from corepy.server.listen.http.http_exchange import Exchange, Fields


@final
class Stream:
    """One request and its response."""

    __slots__ = (
        "block",
        "blocked_since",
        "exchange",
        "has_no_content",
        "is_answered",
        "is_complete",
        "is_head",
        "received",
        "rest",
        "started",
        "trailers",
        "version",
    )

    def __init__(self, started: float, block: bytes) -> None:
        """`block` is the header block if the same bytes always mean this request, else empty."""
        self.started, self.block = started, block
        self.version = 0
        """That of the compression table when the block arrived."""
        self.exchange: Exchange | None = None
        self.has_no_content = self.is_head = False
        self.is_complete = self.is_answered = False
        self.received = 0
        """Bytes of the content so far."""
        self.rest = b""
        """The part of the response that the client does not accept yet."""
        self.trailers: Fields = ()
        self.blocked_since = 0.0

    def is_late(self, now: float, timeouts: Timeouts) -> bool:
        """Return whether the client takes too long for the request or for the response."""
        if self.is_answered:
            return bool(self.rest) and now - self.blocked_since > timeouts.write
        return not self.is_complete and now - self.started > timeouts.read
