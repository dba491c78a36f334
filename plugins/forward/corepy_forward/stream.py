"""TCP and TLS to one upstream: a few long-lived connections, many queries in flight on each.

Replies come in any order (RFC 7766 section 6.2.1.1). When a connection ends, what was in flight on
it is asked again over another one: the server has closed it while it was idle, or was restarted,
which says nothing about the queries. A connection is not used beyond `max_age`, which differs from
connection to connection so that they do not all end at once.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from typing import TYPE_CHECKING, cast

from corepy.net.frames import FrameReader
from corepy_forward.attempt import Attempt, answers, draw_ident, is_bare_refusal
from corepy_forward.problems import explain

if TYPE_CHECKING:
    from corepy_forward.upstream import Upstream

MAX_CONNECTIONS = 4
"""To one upstream. Many servers limit connections, most of all those per client."""

SHARE = 32
"""Queries in flight on a connection before another one takes the next: some servers answer one
after the other.
"""

MAX_AGE = 300.0
"""Seconds, where `max_age` is not given: a connection that never ends would stay with one backend
behind a virtual address for ever.
"""

DIAL_TIMEOUT = 4.0
"""Seconds to connect, handshake included."""

USER_TIMEOUT = 1.0
"""Seconds that sent data may stay unacknowledged before the connection counts as dead: the path has
forgotten it, or the server is gone without a word (RFC 5482).
"""

REDIALS = 2
"""How often one query is moved to another connection."""


_BUFFER_SIZE = 65536


class Stream(asyncio.BufferedProtocol):
    """One connection, from its dialling on."""

    def __init__(self, pool: StreamPool, max_age: float) -> None:
        """`max_age` in seconds."""
        self._pool = pool
        self._transport: asyncio.Transport | None = None
        self._reader = FrameReader()
        self._out: list[bytes] = []
        self._flushing = False
        self.pending: dict[bytes, Attempt] = {}
        self.last_used = self._opened = self._heard = time.monotonic()
        self._max_age = max_age
        self.dialling: asyncio.Task[None] | None = None

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
        self._out.append(b"".join(((len(body) + 2).to_bytes(2, "big"), ident, body)))
        self.last_used = attempt.sent
        if not self._flushing and self._transport is not None:
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
        for wire in self._reader.feed(self._pool.buffer[:nbytes].tobytes()):
            attempt = pending.get(wire[:2])
            if attempt is None:
                upstream.dropped("id")
            elif answers(wire, attempt) or is_bare_refusal(wire, attempt):
                del pending[attempt.ident]
                upstream.arrived(attempt, wire, now)
            else:
                upstream.dropped("question")

    def connection_lost(self, exc: Exception | None) -> None:
        """Ask again over another connection what has no reply yet."""
        self._transport = None
        self._pool.remove(self)
        reason = "connection closed" if exc is None else explain(exc)
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


class StreamPool:
    """The connections to one upstream."""

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        settings = upstream.settings
        idle = settings.max_idle_conns
        self._limit = min(MAX_CONNECTIONS, idle) if idle else MAX_CONNECTIONS
        self._expire = settings.expire
        self._streams: list[Stream] = []
        self._current: Stream | None = None
        self.buffer = memoryview(bytearray(_BUFFER_SIZE))
        proto = "tcp" if upstream.context is None else "tcp-tls"
        self._hits, self._misses = upstream.connection_counters(proto)

    def send(self, attempt: Attempt) -> None:
        """Send a query over the connection that is in use, while it has not too much to do."""
        current = self._current
        if current is None or len(current.pending) >= SHARE:
            current = self._current = self._choose()
        else:
            self._hits.value += 1
        current.send(attempt)

    def _choose(self) -> Stream:
        """Return the connection with the least to do, a new one if all have much."""
        now = time.monotonic()
        streams, may_dial = self._streams, len(self._streams) < self._limit
        usable = [stream for stream in streams if not stream.is_aged(now)]
        best = min(usable or streams, key=_load, default=None)
        if best is None or (may_dial and (not usable or len(best.pending) >= SHARE)):
            self._misses.value += 1
            return self._dial()
        self._hits.value += 1
        return best

    def _dial(self) -> Stream:
        stream = Stream(self, self._max_age())
        self._streams.append(stream)
        stream.dialling = self.upstream.loop.create_task(self._connect(stream))
        return stream

    def _max_age(self) -> float:
        configured = self.upstream.settings.max_age
        if configured == 0:
            return float("inf")
        jitter = 0.8 + 0.2 * os.urandom(1)[0] / 255
        return (MAX_AGE if configured is None else configured) * jitter

    async def _connect(self, stream: Stream) -> None:
        upstream = self.upstream
        target, source = upstream.target, upstream.settings.source_address
        name = upstream.settings.tls_servername or target.server_name or target.host
        try:
            async with asyncio.timeout(DIAL_TIMEOUT):
                await upstream.loop.create_connection(
                    lambda: stream,
                    target.connect_host,
                    target.port,
                    ssl=upstream.context,
                    server_hostname=None if upstream.context is None else name,
                    local_addr=(source, 0) if source else None,
                )
        except TimeoutError:
            stream.refused("cannot connect: no answer")
        except (OSError, ValueError) as error:
            stream.refused(f"cannot connect: {explain(error)}")
        finally:
            stream.dialling = None

    def remove(self, stream: Stream) -> None:
        """Forget a connection that has ended."""
        if stream is self._current:
            self._current = None
        if stream in self._streams:
            self._streams.remove(stream)

    def tidy(self, now: float) -> None:
        """Close connections that have nothing in flight and are idle, or too old."""
        self._current = None  # so that a younger one is chosen where there is one
        for stream in list(self._streams):
            idle = now - stream.last_used >= self._expire
            if not stream.pending and stream.dialling is None and (idle or stream.is_aged(now)):
                self.remove(stream)
                stream.close()

    def close(self) -> None:
        """Close all, without a word to those who wait."""
        for stream in list(self._streams):
            self.remove(stream)
            stream.close()

    @property
    def connections(self) -> int:
        """Number of connections, those being dialled included."""
        return len(self._streams)


def _load(stream: Stream) -> int:
    return len(stream.pending)
