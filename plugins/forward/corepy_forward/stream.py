"""One connection to an upstream, TCP or TLS, with many queries in flight.

Replies come in any order (RFC 7766 section 6.2.1.1). When a connection ends, what was in flight on
it is asked again over another one: the server has closed it while it was idle, or was restarted,
which says nothing about the queries.
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
"""Seconds that sent data may stay unacknowledged before the connection counts as dead: the path has
forgotten it, or the server is gone without a word (RFC 5482).
"""

REDIALS = 2
"""How often one query is moved to another connection."""

_USUAL = 512
_SIZES = tuple(size.to_bytes(2, "big") for size in range(_USUAL))
"""Of the usual queries, as it stands in front of them."""


class Stream(asyncio.BufferedProtocol):
    """One connection, from its dialling on."""

    def __init__(self, pool: StreamPool, max_age: float) -> None:
        """`max_age` in seconds."""
        self._pool = pool
        self._transport: asyncio.Transport | None = None
        self._reader = FrameReader()
        self._out: list[bytes] = []  # three pieces for each query: its length, ID and the rest
        self._flushing = False
        self.pending: dict[bytes, Attempt] = {}
        self.last_used = self._opened = self._heard = time.monotonic()
        self._max_age = max_age
        self.dialling: asyncio.Task[None] | None = None

    @property
    def is_connected(self) -> bool:
        """Whether the connection stands."""
        return self._transport is not None

    @property
    def has_answered(self) -> bool:
        """Whether the server has sent anything."""
        return self._heard > self._opened

    @property
    def heard(self) -> float:
        """When the server sent something last, monotonic seconds."""
        return self._heard

    def is_aged(self, now: float) -> bool:
        """Whether it should take no more queries."""
        return now - self._opened >= self._max_age

    def send(self, attempt: Attempt) -> None:
        """Send a query, as soon as the connection stands."""
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
        """Send at the end of this turn of the event loop, with what else it brings."""
        if not self._flushing:
            self._flushing = True
            self._pool.upstream.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if self._transport is not None and self._out:
            self._transport.write(b"".join(self._out))
            self._out.clear()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send what has been waiting."""
        self._transport = cast("asyncio.Transport", transport)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(USER_TIMEOUT * 1000))
        self._flush()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Lend the memory to receive into: all connections to an upstream use the same."""
        return self._pool.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take the replies that `nbytes` more complete."""
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
                    # Nobody else can have sent it, so nothing better will come.
                    upstream.dropped("question")
                    upstream.broke(attempt, OTHER_QUESTION)
        finally:
            upstream.wakeups.release()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ask again over another connection what has no reply yet."""
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
        """End all that wait: there is no connection to be had."""
        self._pool.remove(self)
        waiting = list(self.pending.values())
        self.pending.clear()
        for attempt in waiting:
            attempt.upstream.broke(attempt, reason)

    def forget(self, attempt: Attempt) -> None:
        """Stop waiting for the reply to `attempt`; a silent connection is given up."""
        self.pending.pop(attempt.ident, None)
        if self._heard < attempt.sent and self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """End the connection; nothing that waits is told."""
        self.pending.clear()
        if self.dialling is not None:
            self.dialling.cancel()
        if self._transport is not None:
            self._transport.abort()
