"""Manages the connections to one upstream: few, long-lived, each with many queries in flight.

A connection gets no more queries after `max_age`, which has a random part so that connections do
not all end at the same time.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING

from corepy_forward.problems import NOT_CONNECTED, explain

if TYPE_CHECKING:
    from collections.abc import Callable

    from corepy_forward.attempt import Attempt
    from corepy_forward.stream import Stream
    from corepy_forward.upstream import Upstream

MAX_CONNECTIONS = 4
"""Maximum number of connections to one upstream; many servers limit connections per client."""

SHARE = 32
"""Queries in flight on a connection before another connection is used.

Some servers process the queries of a connection one after the other.
"""

MAX_AGE = 300.0
"""Default of `max_age` in seconds.

With a load balancer, a connection of unlimited age would use one backend forever.
"""

DIAL_TIMEOUT = 4.0
"""Timeout for connecting in seconds, including the TLS handshake."""

REDIAL_PAUSE = 0.1
"""Seconds after a failed connect during which queries fail without a new one.

There may be thousands of queries, and connecting costs more than a query.
"""

_BUFFER_SIZE = 65536


class StreamPool:
    """The connections to one upstream."""

    def __init__(self, upstream: Upstream, make: Callable[[StreamPool, float], Stream]) -> None:
        """Take the upstream, and a factory of connections with the arguments pool and max_age."""
        self.upstream = upstream
        self._make = make
        settings = upstream.settings
        idle = settings.max_idle_conns
        self._limit = min(MAX_CONNECTIONS, idle) if idle else MAX_CONNECTIONS
        self._expire = settings.expire
        self._streams: list[Stream] = []
        self._current: Stream | None = None
        self._problem = ""
        self._no_dial_until = 0.0
        self.buffer = memoryview(bytearray(_BUFFER_SIZE))
        self._hits, self._misses = upstream.connection_counters(upstream.stream_proto)

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
            self._cannot_connect(stream, NOT_CONNECTED)
        except (OSError, ValueError) as error:
            self._cannot_connect(stream, explain(error, "connect"))
        finally:
            stream.dialling = None

    def _cannot_connect(self, stream: Stream, problem: str) -> None:
        self._problem = problem
        self._no_dial_until = time.monotonic() + REDIAL_PAUSE
        stream.refused(problem)

    def remove(self, stream: Stream) -> None:
        """Remove a connection that has ended from the pool."""
        if stream is self._current:
            self._current = None
        if stream in self._streams:
            self._streams.remove(stream)

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
