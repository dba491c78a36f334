"""Answers queries that arrive over TCP (RFC 7766).

Queries are pipelined: each is answered as soon as its reply is ready, in any order (section
6.2.1.1). CoreDNS's timeouts (core/dnsserver/server.go) limit slow and idle clients. Connections are
limited in total and per client: a connection beyond the limit closes one of the client with the
most connections, busy or idle (`corepy.net.connection_limit`). The server's own self-check
connections do not count.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from corepy.net.acceptor import Acceptor
from corepy.net.connection_limit import ConnectionLimit, client_of
from corepy.net.descriptors import descriptor_limit
from corepy.net.frames import FrameReader, frame
from corepy.net.own_connections import is_own
from corepy.plugin.log import server_logger
from corepy.server.listen.chain_runner import ChainRunner
from corepy.server.listen.pipeline import QueryPipeline

if TYPE_CHECKING:
    import socket

    from corepy.dns import Reply
    from corepy.plugin import Timeouts
    from corepy.server.listen.chain_runner import ChainTask
    from corepy.server.listen.packet_cache import MemoryPool

MAX_CONNECTIONS = 1000
"""Open connections per listener.

They are also limited to 1/8 of the process's descriptors: other listeners and upstreams need some,
too.
"""

SHARE_OF_ONE = 2
"""One client may have 1/SHARE_OF_ONE of these connections."""

DRAIN_IDLE = 0.2
"""Seconds without a query after which a stopping server closes a connection.

This answers the queries that the client sent before it could notice the stop.
"""

MAX_PENDING = 100
"""Pending queries per connection, beyond which the server stops reading (back-pressure)."""

MAX_OUT = 64 * 1024
"""Bytes of replies made before the client has to read them.

One read may contain eight thousand queries, and each of their replies may have the maximum size of
a message.
"""


class TCPListener:
    """One listening TCP socket of an endpoint, and its connections."""

    def __init__(self, sock: socket.socket, memory_pool: MemoryPool, label: str) -> None:
        """Listen at `sock`; `memory_pool` is shared by all listeners of the loop."""
        self.timeouts: Timeouts
        self.pipeline = QueryPipeline(label, "tcp", memory_pool)
        self.connections: dict[TCPConnection, None] = {}
        self.draining = False
        most = max(min(MAX_CONNECTIONS, descriptor_limit() // 8), 1)
        self._limit: ConnectionLimit[TCPConnection] = ConnectionLimit(
            most, max(most // SHARE_OF_ONE, 1)
        )
        self._acceptor = Acceptor(sock, lambda: TCPConnection(self), label, server_logger())

    def start(self) -> None:
        """Start accepting connections."""
        self._acceptor.start()

    def pause(self) -> None:
        """Accept no connections until `start` is called again; keep those that are open."""
        self._acceptor.pause()

    def admit(self, added: TCPConnection, peer: object) -> None:
        """Register `added`, and close another connection if there are too many."""
        self.connections[added] = None
        if is_own(peer):
            return
        evicted = self._limit.take(client_of(peer), added)
        if evicted is not None:
            evicted.make_room()

    def forget(self, connection: TCPConnection) -> None:
        """Unregister a closed connection."""
        self.connections.pop(connection, None)
        self._limit.remove(connection)

    def waiting(self) -> set[ChainTask]:
        """Return the queries that have no answer yet."""
        return {query for connection in self.connections for query in connection.runner.waiting}

    @property
    def label(self) -> str:
        """The server's address in logs and metrics."""
        return self.pipeline.label

    def stop(self, *, leave_queue: bool = False) -> None:
        """Accept the connections that are queued and no more; close idle connections.

        With `leave_queue` the queued connections are left to the process that continues with the
        socket.
        """
        if self.draining:
            return
        self.draining = True
        self._acceptor.stop(leave_queue=leave_queue)
        for connection in list(self.connections):
            connection.drain()

    @property
    def is_drained(self) -> bool:
        """Whether no connection is open or being opened."""
        return not self.connections and not self._acceptor.is_opening

    def close(self) -> None:
        """Flush ready replies, then close all connections."""
        self.stop()
        self.pipeline.packets.clear()
        for connection in list(self.connections):
            connection.finish()


class TCPConnection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, listener: TCPListener) -> None:
        self.runner = ChainRunner(self._deliver)
        self.last_activity = time.monotonic()
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._reader = FrameReader()
        self._out: list[bytes] = []
        self._transport: asyncio.Transport
        self._timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._asked = False
        self._queries = 0
        self._closing = False
        self._paused = False
        self._is_behind = False  # queries were read but not processed yet

    @property
    def is_idle(self) -> bool:
        """Whether all queries of this connection are answered."""
        return not self.runner.waiting and not self._out and not self._is_behind

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register the connection and start its read timeout."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._peer = transport.get_extra_info("peername")
        self._listener.admit(self, self._peer)
        self._local = transport.get_extra_info("sockname")
        if self._listener.draining:
            self.drain()
            return
        self._timer = self._loop.call_later(self._listener.timeouts.read, self._check_idle)

    def connection_lost(self, exc: Exception | None) -> None:
        """Unregister the connection and cancel its pending queries."""
        self._closing = True
        self._listener.forget(self)
        for timer in (self._timer, self._write_timer):
            if timer is not None:
                timer.cancel()
        self.runner.cancel()

    def data_received(self, data: bytes) -> None:
        """Answer the queries in `data`, up to the limits on replies and pending queries."""
        now, size = time.monotonic(), 0
        most = self._listener.timeouts.max_queries
        self._is_behind = False
        for message in self._reader.feed(data):
            if most is not None and self._queries >= most:
                break
            self._queries += 1
            self.last_activity, self._asked = now, True
            try:
                reply = self._answer(message, now)
                if reply is not None:
                    self._out.append(frame(reply))
                    size += len(reply)
            except Exception:
                label = self._listener.label
                server_logger().exception("a query over TCP to %s was dropped", label)
            if size > MAX_OUT or len(self.runner.waiting) >= MAX_PENDING:
                self._is_behind = True
                break
        self._flush()
        self._throttle()
        if most is not None and self._queries >= most:
            self.close_when_done()

    def _go_on(self) -> None:
        """Process queries that were read before, if the client has read enough of its replies."""
        if self._is_behind and not self._wants_pause() and not self._transport.is_closing():
            self.data_received(b"")

    def eof_received(self) -> bool:
        """Answer the queries that precede the end of the client's stream, then close."""
        self.close_when_done()
        return not self._transport.is_closing()

    def _answer(self, message: bytes, now: float) -> bytes | None:
        pipeline = self._listener.pipeline
        entry = pipeline.packets.find(message[2:], now)
        if entry is None:
            return pipeline.begin(message, now, self._peer, self._local, self.runner)
        if entry.hit_listeners:
            entry.show(message[:2], self._peer, now)
        return message[:2] + entry.body

    def _deliver(self, query: ChainTask, reply: Reply) -> None:
        if self._closing and self._transport.is_closing():
            return
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(frame(self._listener.pipeline.complete(query.request, reply)))

    def _flush(self) -> None:
        if self._out and not self._transport.is_closing():
            self.last_activity = time.monotonic()
            self._transport.write(b"".join(self._out))
        self._out.clear()
        if self._closing:
            self.close_when_done()
        elif self._paused:
            self._throttle()
        if self._is_behind:
            self._loop.call_soon(self._go_on)

    def _wants_pause(self) -> bool:
        return len(self.runner.waiting) >= MAX_PENDING or self._write_timer is not None

    def _throttle(self) -> None:
        """Stop reading while the client is too far ahead of its replies."""
        wants_pause = self._is_behind or self._wants_pause()
        if wants_pause != self._paused and not self._transport.is_closing():
            self._paused = wants_pause
            (self._transport.pause_reading if wants_pause else self._transport.resume_reading)()

    def pause_writing(self) -> None:
        """Give the client `Timeouts.write` seconds to read its replies."""
        self._write_timer = self._loop.call_later(self._listener.timeouts.write, self.abort)
        self._throttle()

    def resume_writing(self) -> None:
        """Continue after the client has read its replies."""
        if self._transport.is_closing():
            return  # the close ends with the last byte written, or with the write timeout
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
        self._throttle()
        self._go_on()

    def _check_idle(self) -> None:
        """Close the connection if it was idle for its timeout, otherwise check again later."""
        timeouts = self._listener.timeouts
        limit = timeouts.idle if self._asked else timeouts.read
        left = self.last_activity + limit - time.monotonic()
        if left <= 0 and self.is_idle:
            self.close()
        else:
            self._timer = self._loop.call_later(max(left, 0.1), self._check_idle)

    def drain(self) -> None:
        """Answer the queries that the client has sent, then close."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(DRAIN_IDLE, self._check_drained)

    def _check_drained(self) -> None:
        left = self.last_activity + DRAIN_IDLE - time.monotonic()
        if left <= 0 and self.is_idle:
            self.close()
        else:
            self._timer = self._loop.call_later(max(left, 0.02), self._check_drained)

    def finish(self) -> None:
        """Flush ready replies and close."""
        self._flush()
        self.close()

    def close_when_done(self) -> None:
        """Close once every query that was read is answered."""
        self._closing = True
        if self.is_idle:
            self.close()

    def close(self) -> None:
        """Close after all written bytes are sent; abort if that exceeds `Timeouts.write`."""
        self._closing = True
        self._transport.close()
        if self._write_timer is None and self._transport.get_write_buffer_size():
            timeout = self._listener.timeouts.write
            self._write_timer = self._loop.call_later(timeout, self.abort)

    def make_room(self) -> None:
        """Close in favour of another client's connection: abort if anything is left to do."""
        if self.is_idle and not self._transport.get_write_buffer_size():
            self.close()
        else:
            self.abort()

    def abort(self) -> None:
        """Close at once."""
        self._closing = True
        self._transport.abort()
