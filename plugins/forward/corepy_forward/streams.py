"""The connections to one upstream: a few, long-lived, with many queries in flight on each.

A connection is not used beyond `max_age`, which differs from connection to connection so that they
do not all end at once.
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

REDIAL_PAUSE = 0.1
"""Seconds after an attempt to connect that failed during which queries fail without another one:
there may be thousands, and each attempt costs more than a query.
"""

_BUFFER_SIZE = 65536


class StreamPool:
    """The connections to one upstream."""

    def __init__(self, upstream: Upstream, make: Callable[[StreamPool, float], Stream]) -> None:
        """`make` returns a new connection; it is given the pool and the seconds of its life."""
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
        """Send a query over the connection that is in use, while it has not too much to do."""
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
