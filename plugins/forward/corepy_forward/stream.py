"""One TCP or TLS connection to an upstream, with many queries in flight.

Replies arrive in any order (RFC 7766 section 6.2.1.1). When a connection ends, the queries in
flight are sent again over another one. The usual causes, an idle timeout or a restart of the
server, are not related to the queries.
"""

from __future__ import annotations

import asyncio
import socket
import time
from typing import TYPE_CHECKING, cast

from corepy.net.frames import FrameReader
from corepy_forward.attempt import Attempt, answers, draw_ident, is_bare
from corepy_forward.problems import CLOSED, OTHER_QUESTION, explain

if TYPE_CHECKING:
    from corepy_forward.streams import StreamPool

USER_TIMEOUT = 1.0
"""Seconds that sent data may stay unacknowledged before the kernel aborts the connection.

This happens if a device on the path lost the connection's state, or if the server disappeared
without closing the connection (RFC 5482).
"""

REDIALS = 2
"""How often one query may be moved to another connection."""

_USUAL = 512
_SIZES = tuple(size.to_bytes(2, "big") for size in range(_USUAL))
"""Length prefixes of queries of usual sizes, by size."""


class Stream(asyncio.BufferedProtocol):
    """One connection, from the start of connecting."""

    def __init__(self, pool: StreamPool, max_age: float) -> None:
        """Take the pool and the maximum age in seconds."""
        self._pool = pool
        self._transport: asyncio.Transport | None = None
        self._reader = FrameReader()
        self._out: list[bytes] = []  # three pieces for each query: length, ID, body
        self._flushing = False
        self.pending: dict[bytes, Attempt] = {}
        self.last_used = self._opened = self._heard = time.monotonic()
        self._max_age = max_age
        self.dialling: asyncio.Task[None] | None = None

    @property
    def is_connected(self) -> bool:
        """Whether the connection is established."""
        return self._transport is not None

    @property
    def has_answered(self) -> bool:
        """Whether the server has sent any data."""
        return self._heard > self._opened

    @property
    def heard(self) -> float:
        """Monotonic time in seconds of the last data from the server."""
        return self._heard

    def is_aged(self, now: float) -> bool:
        """Whether the connection has reached its maximum age and gets no more queries."""
        return now - self._opened >= self._max_age

    def send(self, attempt: Attempt) -> None:
        """Send a query, as soon as the connection is established."""
        pending = self.pending
        ident = draw_ident()
        while ident in pending:
            ident = draw_ident()
        attempt.ident = ident
        attempt.link = self
        pending[ident] = attempt
        body = attempt.body
        size = len(body) + 2
        self._out += (_SIZES[size] if size < _USUAL else size.to_bytes(2, "big"), ident, body)
        self.last_used = attempt.sent
        if self._transport is not None:
            self._schedule_flush()

    def _schedule_flush(self) -> None:
        """Schedule one write for all queries of this turn of the event loop."""
        if not self._flushing:
            self._flushing = True
            self._pool.upstream.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if self._transport is not None and self._out:
            self._transport.write(b"".join(self._out))
            self._out.clear()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the waiting queries."""
        self._transport = cast("asyncio.Transport", transport)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(USER_TIMEOUT * 1000))
        self._flush()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the receive buffer, which all connections to an upstream share."""
        return self._pool.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Process `nbytes` received bytes, and the replies that they complete."""
        pending, upstream = self.pending, self._pool.upstream
        now = self._heard = time.monotonic()
        upstream.tcp.dead_until = 0.0
        upstream.wakeups.hold()
        try:
            for wire in self._reader.feed(self._pool.buffer[:nbytes].tobytes()):
                attempt = pending.get(wire[:2])
                if attempt is None:
                    upstream.dropped("id")
                    continue
                del pending[attempt.ident]
                if answers(wire, attempt) or is_bare(wire, attempt):
                    upstream.arrived(attempt, wire, now)
                else:
                    # Over a connection it cannot be a forgery, so no correct reply will follow.
                    upstream.dropped("question")
                    upstream.broke(attempt, OTHER_QUESTION)
        finally:
            upstream.wakeups.release()

    def connection_lost(self, exc: Exception | None) -> None:
        """Send the pending queries again over another connection."""
        self._transport = None
        self._pool.remove(self)
        reason = CLOSED if exc is None else explain(exc, "read")
        waiting = list(self.pending.values())
        self.pending.clear()
        for attempt in waiting:
            attempt.redials += 1
            if attempt.redials > REDIALS:
                attempt.upstream.broke(attempt, reason)
            else:
                self._pool.send(attempt)

    def refused(self, reason: str) -> None:
        """Fail all pending attempts, because the connection cannot be established."""
        self._pool.remove(self)
        waiting = list(self.pending.values())
        self.pending.clear()
        for attempt in waiting:
            attempt.upstream.broke(attempt, reason)

    def forget(self, attempt: Attempt) -> None:
        """Stop waiting for the reply to `attempt`; abort if no data arrived since the query."""
        self.pending.pop(attempt.ident, None)
        if self._heard < attempt.sent and self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Abort the connection without notifying the pending attempts."""
        self.pending.clear()
        if self.dialling is not None:
            self.dialling.cancel()
        if self._transport is not None:
            self._transport.abort()
