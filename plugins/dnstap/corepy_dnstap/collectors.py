"""Limits the collectors that connect to an address.

Anyone who reaches the address can connect. A client that holds many connections, completes no
handshake or reads no messages must not keep the collectors of others out, nor take the memory and
the descriptors that the server needs to answer queries.
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Final

from corepy.net.connection_limit import ConnectionLimit, client_of
from corepy_dnstap.output import LOG, describe
from corepy_dnstap.stream import Stream

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

MOST_COLLECTORS = 32
"""Connections to one address, with those that have not completed the handshake."""

MOST_HANDSHAKES: Final = 16
"""TLS handshakes at a time: each has a buffer of 256 KiB (asyncio.sslproto)."""

MOST_REFUSALS: Final = 10
REFUSALS_INTERVAL: Final = 60.0
"""Refused connections that are logged in this number of seconds."""

_DEAD_PEER: Final = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)
"""Ends connections to hosts that have gone, which would hold their places for hours."""


class Collectors:
    """The connections to one address."""

    def __init__(self, label: str) -> None:
        """`label` is the address in the log."""
        self._label = label
        self._refusals = 0
        self._refusals_end = 0.0
        self._limit: ConnectionLimit[CollectorStream] = ConnectionLimit(
            MOST_COLLECTORS, MOST_COLLECTORS
        )

    def admit(self, added: CollectorStream) -> None:
        """Add a connection; above the limit, end one of the client that has the most.

        A client loses a connection that is stalled first. If none of its own is, the new one ends.
        """
        evicted = self._limit.take(added.client, added)
        if evicted is not None and evicted.client == added.client and not evicted.is_idle:
            self._limit.remove(added)
            self._limit.take(evicted.client, evicted)
            evicted = added
        if evicted is not None:
            evicted.refuse(f"{MOST_COLLECTORS} collectors are connected")

    def forget(self, stream: CollectorStream) -> None:
        """Remove a connection that has ended."""
        self._limit.remove(stream)

    def log_refusal(self, error: Exception) -> None:
        """Log why a collector is refused, but not the thousands of a flood."""
        now = time.monotonic()
        if now >= self._refusals_end:
            self._refusals, self._refusals_end = 0, now + REFUSALS_INTERVAL
        self._refusals += 1
        if self._refusals <= MOST_REFUSALS:
            LOG.warning("a collector at %s is refused: %s", self._label, describe(error))


class CollectorStream(Stream):
    """A connection that a collector has opened (`corepy.net.connection_limit`)."""

    def __init__(self, on_ready: Callable[[], object], collectors: Collectors) -> None:
        super().__init__(on_ready)
        self.client = b""
        """The client's identity."""
        self._waits_since = time.monotonic()
        self._collectors = collectors

    @property
    def is_idle(self) -> bool:
        """Whether it has not completed the handshake, or does not read."""
        return not self.is_writable

    @property
    def last_activity(self) -> float:
        """When it was opened, or stopped reading; now for one that reads."""
        return self._waits_since if self.is_idle else time.monotonic()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake, if there is a place for it."""
        self.client = client_of(transport.get_extra_info("peername"))
        sock = transport.get_extra_info("socket")
        if sock.family != socket.AF_UNIX:
            for level, option, value in _DEAD_PEER:
                sock.setsockopt(level, option, value)
        super().connection_made(transport)
        self._collectors.admit(self)

    def pause_writing(self) -> None:
        """Let messages wait in the queue, and remember since when."""
        super().pause_writing()
        self._waits_since = time.monotonic()

    def refuse(self, reason: str) -> None:
        """Close the connection in favour of another one."""
        if not self.opened.done():
            self.opened.set_exception(OSError(reason))
        self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Release the place."""
        self._collectors.forget(self)
        super().connection_lost(exc)
