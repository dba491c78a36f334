"""TCP and TLS connections to one upstream: few, long-lived, each with many queries in flight.

Replies arrive in any order (RFC 7766 section 6.2.1.1). When a connection ends, the queries in
flight are sent again over another one. The usual causes, an idle timeout or a restart of the
server, are not related to the queries. A connection gets no more queries after `max_age`, which has
a random part so that connections do not all end at the same time.
"""

from __future__ import annotations

import asyncio
import os
import socket
from ssl import SSLContext
from time import monotonic
from typing import TYPE_CHECKING, ClassVar, Final, cast

from corepy.compiled_classes import mypyc_attr
from corepy.net.frames import FrameReader
from corepy_forward.attempt import Attempt, answers, draw_ident, is_bare
from corepy_forward.failures import CLOSED, NOT_CONNECTED, OTHER_QUESTION, explain
from corepy_forward.sessions import Sessions

if TYPE_CHECKING:
    import ssl

    from corepy_forward.attempt import UpstreamLike

USER_TIMEOUT: Final = 1.0
"""Seconds that sent data may stay unacknowledged before the kernel aborts the connection.

This happens if a device on the path lost the connection's state, or if the server disappeared
without closing the connection (RFC 5482).
"""

REDIALS: Final = 2
"""How often one query may be moved to another connection."""

_USUAL: Final = 512
_SIZES: Final = tuple(size.to_bytes(2, "big") for size in range(_USUAL))
"""Length prefixes of queries of usual sizes, by size."""

MAX_CONNECTIONS: Final = 4
"""Maximum number of connections to one upstream; many servers limit connections per client."""

SHARE: Final = 32
"""Queries in flight on a connection before another connection is used.

Some servers process the queries of a connection one after the other.
"""

MAX_AGE: Final = 300.0
"""Default of `max_age` in seconds.

With a load balancer, a connection of unlimited age would use one backend forever.
"""

DIAL_TIMEOUT: Final = 4.0
"""Default of `StreamPool.dial_timeout`: seconds for connecting, including the TLS handshake."""

REDIAL_PAUSE: Final = 0.1
"""Seconds after a failed connect during which queries fail without a new one.

There may be thousands of queries, and connecting costs more than a query.
"""

_BUFFER_SIZE: Final = 65536


@mypyc_attr(allow_interpreted_subclasses=True)
class Stream(asyncio.BufferedProtocol):
    """One connection, from the start of connecting."""

    most_connections: ClassVar[int] = MAX_CONNECTIONS

    def __init__(self, pool: StreamPool, max_age: float) -> None:
        """Take the pool and the maximum age in seconds."""
        self._pool = pool
        self._transport: asyncio.Transport | None = None
        self._reader = FrameReader()
        self._out: list[bytes] = []  # three pieces for each query: length, ID, body
        self._flushing = False
        self.pending: dict[bytes, Attempt] = {}
        self.last_used = self._opened = self._heard = monotonic()
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

    @property
    def local_name(self) -> tuple[str, int] | None:
        """The address of this server's socket; None before the connection is established."""
        name = None if self._transport is None else self._transport.get_extra_info("sockname")
        return None if name is None else (name[0], name[1])

    @property
    def secure(self) -> ssl.SSLObject | None:
        """The TLS object; None without TLS, and before the connection is established."""
        transport = self._transport
        return None if transport is None else transport.get_extra_info("ssl_object")

    async def connect(self) -> None:
        """Connect to the upstream; raises OSError and ValueError."""
        upstream, sessions = self._pool.upstream, self._pool.sessions
        target, source = upstream.target, upstream.settings.source_address
        name = upstream.settings.tls_servername or target.server_name or target.host
        await upstream.loop.create_connection(
            lambda: self,
            target.connect_host,
            target.port,
            ssl=cast("SSLContext | None", sessions),
            server_hostname=None if sessions is None else name,
            local_addr=(source, 0) if source else None,
        )
        if sessions is not None and self.secure is not None:
            sessions.connected(self.secure)

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
        now = self._heard = monotonic()
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
        self._pool.remove(self)
        self._transport = None
        reason = CLOSED if exc is None else explain(exc, "read")
        waiting = list(self.pending.values())
        self.pending.clear()
        for attempt in waiting:
            self._move(attempt, reason)

    def _move(self, attempt: Attempt, reason: str) -> None:
        """Send a query again over another connection, or fail it after several of them."""
        attempt.redials += 1
        if attempt.redials > REDIALS:
            attempt.upstream.broke(attempt, reason)
        else:
            self._pool.send(attempt)

    def retire(self) -> None:
        """Take no more queries; the connection closes after the last reply."""
        self._max_age = 0.0
        self._pool.replace(self)

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


class StreamPool:
    """The connections to one upstream."""

    def __init__(self, upstream: UpstreamLike, make: type[Stream]) -> None:
        """Take the upstream, and the class of its connections."""
        self.upstream = upstream
        self._make = make
        settings = upstream.settings
        idle = settings.max_idle_conns
        self._limit = min(make.most_connections, idle) if idle else make.most_connections
        self.dial_timeout = DIAL_TIMEOUT
        self._expire = settings.expire
        self._streams: list[Stream] = []
        self._current: Stream | None = None
        self._problem = ""
        self._no_dial_until = 0.0
        self.buffer = memoryview(bytearray(_BUFFER_SIZE))
        self._hits, self._misses = upstream.connection_counters(upstream.stream_proto)
        context = upstream.context
        self.memory: object = None
        """What connections keep for their successors, besides `sessions`."""

        self.sessions = Sessions(context) if isinstance(context, SSLContext) else None

    def send(self, attempt: Attempt) -> None:
        """Send a query over the current connection, or over another one if that is busy."""
        current = self._current
        if current is None or len(current.pending) >= SHARE:
            if not self._streams and attempt.sent < self._no_dial_until:
                upstream = self.upstream
                upstream.loop.call_soon(upstream.broke, attempt, self._problem)
                return
            current = self._current = self._choose()
        else:
            self._hits.value += 1
        current.send(attempt)

    def _choose(self) -> Stream:
        """Return the connection with the fewest pending queries; a new one if all are busy."""
        now = monotonic()
        streams, may_dial = self._streams, len(self._streams) < self._limit
        usable = [stream for stream in streams if not stream.is_aged(now)]
        best = min(usable or streams, key=_load, default=None)
        if best is None or (may_dial and (not usable or len(best.pending) >= SHARE)):
            self._misses.value += 1
            return self._dial()
        self._hits.value += 1
        return best

    def _dial(self) -> Stream:
        for other in self._streams:
            self._keep_session(other)
        stream = self._make(self, self._max_age())
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
        try:
            async with asyncio.timeout(self.dial_timeout):
                await stream.connect()
        except TimeoutError:
            self._cannot_connect(stream, NOT_CONNECTED)
        except (OSError, ValueError) as error:
            self._cannot_connect(stream, explain(error, "connect"))
        finally:
            stream.dialling = None

    def _cannot_connect(self, stream: Stream, problem: str) -> None:
        self._problem = problem
        self._no_dial_until = monotonic() + REDIAL_PAUSE
        stream.refused(problem)

    def _keep_session(self, stream: Stream) -> None:
        """Keep the TLS session of a connection, which the next one resumes."""
        if self.sessions is not None and stream.has_answered and stream.secure is not None:
            self.sessions.keep(stream.secure)

    def remove(self, stream: Stream) -> None:
        """Remove a connection that has ended from the pool."""
        self._keep_session(stream)
        self.replace(stream)
        if stream in self._streams:
            self._streams.remove(stream)

    def replace(self, stream: Stream) -> None:
        """Choose another connection than `stream` for the next query."""
        if stream is self._current:
            self._current = None

    def tidy(self, now: float) -> None:
        """Close connections without pending queries that are idle for `expire`, or too old."""
        self._current = None  # so that the next query selects a younger connection, if any
        for stream in list(self._streams):
            idle = now - stream.last_used >= self._expire
            if not stream.pending and stream.dialling is None and (idle or stream.is_aged(now)):
                self.remove(stream)
                stream.close()

    def close(self) -> None:
        """Close all connections without notifying the pending attempts."""
        for stream in list(self._streams):
            self.remove(stream)
            stream.close()

    @property
    def connections(self) -> int:
        """Number of connections, including those not yet established."""
        return len(self._streams)


def _load(stream: Stream) -> int:
    return len(stream.pending)
