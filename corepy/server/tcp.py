"""Answering queries that come over TCP (RFC 7766).

Queries are pipelined and answered as they are ready, in any order (section 6.2.1.1). Against slow
and idle clients there are CoreDNS's timeouts (core/dnsserver/server.go), and connections are
capped, in all and for each client: one more closes a connection of the client that has most of
them, busy or idle (`corepy.net.clients`). Questions that the server asks itself do not count.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from corepy.net.accept import Acceptor
from corepy.net.clients import Seats, client_of
from corepy.net.descriptors import descriptor_limit
from corepy.net.frames import FrameReader, frame
from corepy.net.selfasking import is_own
from corepy.plugin.log import server_logger
from corepy.server.answer import Answerer
from corepy.server.query import Runner

if TYPE_CHECKING:
    import socket

    from corepy.dns import Reply
    from corepy.plugin import BlockConfig
    from corepy.server.packet_cache import Room
    from corepy.server.query import Query

MAX_CONNECTIONS = 1000
"""Open connections per listener, where the process may have eight times as many descriptors: other
listeners and upstreams need some, too.
"""

SHARE_OF_ONE = 2
"""One client may have one in so many of them."""

DRAIN_IDLE = 0.2
"""Seconds without a query after which a connection of a stopping server is closed: what the client
had sent before it could know is answered.
"""

MAX_PENDING = 100
"""Queries of one connection that may wait for an answer; beyond that no more are taken from it
(back-pressure).
"""

MAX_OUT = 64 * 1024
"""Bytes of answers made before the client has to take them: eight thousand queries fit into what is
read at once, and their answers may be as long as messages get.
"""


class TCPListener:
    """One listening TCP socket of an endpoint and its connections."""

    def __init__(self, sock: socket.socket, room: Room, label: str) -> None:
        """Listen at `sock`; `room` is shared by all listeners of the loop."""
        self.settings: BlockConfig
        self.answers = Answerer(label, "tcp", room)
        self.connections: dict[Connection, None] = {}
        self.draining = False
        most = max(min(MAX_CONNECTIONS, descriptor_limit() // 8), 1)
        self._seats: Seats[Connection] = Seats(most, max(most // SHARE_OF_ONE, 1))
        self._acceptor = Acceptor(sock, lambda: Connection(self), label, server_logger())

    def start(self) -> None:
        """Accept and answer from now on."""
        self._acceptor.start()

    def pause(self) -> None:
        """Accept no connections until `start` is called again; those that are open go on."""
        self._acceptor.pause()

    def admit(self, newcomer: Connection, peer: object) -> None:
        """Take `newcomer` in, and close another connection if there are too many."""
        self.connections[newcomer] = None
        if is_own(peer):
            return
        leaver = self._seats.take(client_of(peer), newcomer)
        if leaver is not None:
            leaver.make_room()

    def forget(self, connection: Connection) -> None:
        """Take account of a connection that is closed."""
        self.connections.pop(connection, None)
        self._seats.leave(connection)

    def waiting(self) -> set[Query]:
        """Return the queries that have no answer yet."""
        return {query for connection in self.connections for query in connection.runner.waiting}

    @property
    def label(self) -> str:
        """The server's name in logs and metrics."""
        return self.answers.label

    def stop(self, *, leave_queue: bool = False) -> None:
        """Accept what waits and no more; end connections that have nothing in flight.

        With `leave_queue` what waits is left to the process that goes on with the socket.
        """
        if self.draining:
            return
        self.draining = True
        self._acceptor.stop(leave_queue=leave_queue)
        for connection in list(self.connections):
            connection.drain()

    @property
    def is_drained(self) -> bool:
        """Whether no connection is left, or being opened."""
        return not self.connections and not self._acceptor.is_opening

    def close(self) -> None:
        """Close everything, after what is ready has been sent."""
        self.stop()
        self.answers.packets.clear()
        for connection in list(self.connections):
            connection.finish()


class Connection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, listener: TCPListener) -> None:
        self.runner = Runner(self._deliver)
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
        self._is_behind = False  # there are queries that were read and not looked at yet

    @property
    def is_idle(self) -> bool:
        """Whether no query of this connection waits for an answer."""
        return not self.runner.waiting and not self._out and not self._is_behind

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for queries."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._peer = transport.get_extra_info("peername")
        self._listener.admit(self, self._peer)
        self._local = transport.get_extra_info("sockname")
        if self._listener.draining:
            self.drain()
            return
        self._timer = self._loop.call_later(self._listener.settings.read_timeout, self._check_idle)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection; what its queries still wait for is not delivered."""
        self._closing = True
        self._listener.forget(self)
        for timer in (self._timer, self._write_timer):
            if timer is not None:
                timer.cancel()
        self.runner.cancel()

    def data_received(self, data: bytes) -> None:
        """Answer the queries in `data`, as many as the client may have answers of at once."""
        now, size = time.monotonic(), 0
        most = self._listener.settings.max_tcp_queries
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
        """Look at what was read before, if the client has taken enough of its answers."""
        if self._is_behind and not self._wants_pause() and not self._transport.is_closing():
            self.data_received(b"")

    def eof_received(self) -> bool:
        """Answer what was asked before the client's end of the stream, then close."""
        self.close_when_done()
        return not self._transport.is_closing()

    def _answer(self, message: bytes, now: float) -> bytes | None:
        answers = self._listener.answers
        entry = answers.packets.find(message[2:], now)
        if entry is None:
            return answers.begin(message, now, self._peer, self._local, self.runner)
        if entry.witnesses:
            entry.show(message[:2], self._peer, now)
        return message[:2] + entry.body

    def _deliver(self, query: Query, reply: Reply) -> None:
        if self._closing and self._transport.is_closing():
            return
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(frame(self._listener.answers.complete(query.request, reply)))

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
        """Read from the client only while it is not too far ahead of its answers."""
        wants_pause = self._is_behind or self._wants_pause()
        if wants_pause != self._paused and not self._transport.is_closing():
            self._paused = wants_pause
            (self._transport.pause_reading if wants_pause else self._transport.resume_reading)()

    def pause_writing(self) -> None:
        """Give the client `write_timeout` seconds to take its answers."""
        self._write_timer = self._loop.call_later(self._listener.settings.write_timeout, self.abort)
        self._throttle()

    def resume_writing(self) -> None:
        """Go on: the client has read."""
        if self._transport.is_closing():
            return  # until all is taken, or the time is over
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
        self._throttle()
        self._go_on()

    def _check_idle(self) -> None:
        """Close the connection if nothing has happened for its timeout; look again when it may be
        over.
        """
        settings = self._listener.settings
        limit = settings.idle_timeout if self._asked else settings.read_timeout
        left = self.last_activity + limit - time.monotonic()
        if left <= 0 and self.is_idle:
            self.close()
        else:
            self._timer = self._loop.call_later(max(left, 0.1), self._check_idle)

    def drain(self) -> None:
        """Answer what the client has sent, then close."""
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
        """Send what is ready and close."""
        self._flush()
        self.close()

    def close_when_done(self) -> None:
        """Close once every query that was read is answered."""
        self._closing = True
        if self.is_idle:
            self.close()

    def close(self) -> None:
        """Close after what is written has been sent, if the client takes it in time."""
        self._closing = True
        self._transport.close()
        if self._write_timer is None and self._transport.get_write_buffer_size():
            timeout = self._listener.settings.write_timeout
            self._write_timer = self._loop.call_later(timeout, self.abort)

    def make_room(self) -> None:
        """Close for another client's sake: at once if there is anything left to do."""
        if self.is_idle and not self._transport.get_write_buffer_size():
            self.close()
        else:
            self.abort()

    def abort(self) -> None:
        """Close at once."""
        self._closing = True
        self._transport.abort()
