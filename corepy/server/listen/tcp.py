"""Answers queries that arrive over TCP (RFC 7766).

Queries are pipelined: each is answered as soon as its reply is ready, in any order (section
6.2.1.1). CoreDNS's timeouts (core/dnsserver/server.go) limit slow and idle clients.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING, ClassVar, Final, cast

from corepy.compiled_classes import mypyc_attr
from corepy.dns import ANONYMOUS
from corepy.net.frames import FrameReader, frame
from corepy.plugin.log import server_logger
from corepy.server.listen.chain_runner import ChainRunner
from corepy.server.listen.status_query import is_answered
from corepy.server.listen.stream_listener import StreamConnection, StreamListener

if TYPE_CHECKING:
    import ssl

    from corepy.dns import Identity, Reply, Request
    from corepy.server.listen.pipeline import QueryPipeline
    from corepy.server.listen.series_sender import SeriesSender
    from corepy.server.listen.waiting_query import WaitingQuery

DRAIN_IDLE: Final = 0.2
"""Seconds without a query after which a stopping server closes a connection.

This answers the queries that the client sent before it could notice the stop.
"""

MAX_PENDING: Final = 100
"""Pending queries per connection, beyond which the server stops reading (back-pressure)."""

MAX_OUT: Final = 64 * 1024
"""Bytes of replies made before the client has to read them.

One read may contain eight thousand queries, and each of their replies may have the maximum size of
a message.
"""


@mypyc_attr(allow_interpreted_subclasses=True)
class TCPListener(StreamListener):
    """One listening TCP socket of plain DNS."""

    protocol: ClassVar[str] = "tcp"
    is_checkable: ClassVar[bool] = True
    takes_series: ClassVar[bool] = True
    states_idle_timeout: ClassVar[bool] = True

    def new_connection(self) -> StreamConnection:
        """Return the protocol for a connection that is being accepted."""
        return TCPConnection(self)

    async def check(self, address: tuple[str | int, ...]) -> bool:
        """Send a STATUS query to `address`; return whether it is answered."""
        return await is_answered(address, socket.SOCK_STREAM)


@mypyc_attr(allow_interpreted_subclasses=True)
class TCPConnection(StreamConnection):
    """One client's connection, with messages framed by their length (RFC 1035 section 4.2.2)."""

    identity: Identity = ANONYMOUS
    """The identity of all queries; a subclass for another transport may set it."""

    def __init__(self, listener: StreamListener) -> None:
        self.runner = ChainRunner(self._deliver, listener.loop)
        self.last_activity = monotonic()
        self._listener = listener
        self._repeated = listener.traffic.repeated
        self._loop = listener.loop
        self._reader = FrameReader()
        self._out: list[bytes] = []
        self._transport: asyncio.Transport
        self._timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._asked = False
        self._queries = 0
        self._closing = False  # whether to close once every query is answered
        self._paused = False
        self._is_behind = False  # queries were read but not processed yet
        self._series: SeriesSender | None = None
        self._accepted: asyncio.Future[None] | None = None  # of a message of a series

    @property
    def pending(self) -> ChainRunner:
        """The pending queries of this connection."""
        return self.runner

    @property
    def is_idle(self) -> bool:
        """Whether all queries of this connection are answered."""
        return not self.runner.waiting and not self._out and not self._is_behind

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register the connection."""
        self._transport = cast("asyncio.Transport", transport)
        self._peer = transport.get_extra_info("peername")
        if self.client is not None:
            self.identity = replace(self.identity, client=self.client)
        self._listener.admit(self, self._peer)
        self._local = transport.get_extra_info("sockname")
        if self._listener.draining:
            self.drain()

    def start_clock(self) -> None:
        """Limit the time that the connection may be idle, if no limit runs yet."""
        if self._timer is None:
            self._check_idle()

    def secured(self, tls: ssl.SSLObject) -> None:
        """Wait for the first query from now on: the handshake is over."""
        self.last_activity = monotonic()

    def connection_lost(self, exc: Exception | None) -> None:
        """Unregister the connection and cancel its pending queries."""
        self._listener.forget_connection(self)
        self._listener.turns.forget(self)
        for timer in (self._timer, self._write_timer):
            if timer is not None:
                timer.cancel()
        self.runner.cancel()

    def data_received(self, data: bytes) -> None:
        """Answer the queries in `data`, up to the limits on replies and pending queries.

        The listener's turns limit them, too, so that other clients do not wait for all of them.
        """
        step = self._listener.turns.step()
        if step <= 0:
            self._reader.keep(data)
            self._is_behind = True
            self._throttle()
            self._listener.turns.wait(self)
            return
        now, size, processed = monotonic(), 0, 0
        most = self._listener.timeouts.max_queries
        self._is_behind = False
        for message in self._reader.feed(data):
            if most is not None and self._queries >= most:
                break
            self._queries += 1
            processed += 1
            self.last_activity, self._asked = now, True
            try:
                reply = self._answer(message, now)
                if reply:
                    self._out.append(frame(reply))
                    size += len(reply)
            except Exception:
                label = self._listener.label
                server_logger().exception("a query over TCP to %s was dropped", label)
            if processed == step or size > MAX_OUT or len(self.runner.waiting) >= MAX_PENDING:
                self._is_behind = True
                break
        self._listener.turns.count(processed)
        self._flush()
        self._throttle()
        if most is not None and self._queries >= most:
            self.close_when_done()

    def go_on(self) -> None:
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
            return pipeline.begin(message, now, self._peer, self._local, self.runner, self.identity)
        if entry.hit_listeners:
            client = self.identity.client
            entry.show(message[:2], self._peer if client is None else client, now)
        sampler = self._repeated
        sampler.left = left = sampler.left - 1
        if left <= 0:
            client = self._peer if self.identity.client is None else self.identity.client
            pipeline.traffic.look_at_hit(pipeline.unrouted, message[2:], client, entry, now)
        return message[:2] + entry.body

    def _deliver(self, query: WaitingQuery, reply: Reply) -> None:
        if reply.series is not None:  # it has to end also if the connection is closed
            self._send_series(query.request, reply)
            return
        if self._transport.is_closing():
            return
        if not self._out:
            self._loop.call_soon(self._flush)
        wire = self._listener.pipeline.complete(query.request, reply)
        if wire:  # a dropped query ends its wait, and may end the connection's
            self._out.append(frame(wire))

    def _send_series(self, request: Request, reply: Reply) -> None:
        if self._series is None:
            # The other connections do not need the module.
            from corepy.server.listen.series_sender import SeriesSender

            self._series = SeriesSender(self)
        self._series.start(request, reply)

    @property
    def pipeline(self) -> QueryPipeline:
        """The pipeline of the listener."""
        return self._listener.pipeline

    @property
    def is_closing(self) -> bool:
        """Whether nothing more can be sent."""
        return self._transport.is_closing()

    def begin_series(self) -> None:
        """Call `pause_writing` for each byte that the client's system does not accept at once."""
        self._transport.set_write_buffer_limits(high=0)

    async def send(self, wire: bytes) -> None:
        """Send a message of a series, and wait until the client's system has accepted it."""
        self.last_activity = monotonic()
        self._transport.write(frame(wire))
        if self._write_timer is not None:
            self._accepted = self._loop.create_future()
            await self._accepted

    def end_series(self, wire: bytes, *, is_broken: bool) -> None:
        """Continue with other queries after sending `wire`, or close if the series is broken."""
        if self._transport.is_closing():
            return
        self._transport.set_write_buffer_limits()
        if is_broken:
            self.finish()
            return
        if wire:
            self._out.append(frame(wire))
        self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        if self._out and not self._transport.is_closing():
            self.last_activity = monotonic()
            self._transport.write(b"".join(self._out))
        self._out.clear()
        if self._closing:
            self.close_when_done()
        if self._is_behind:
            self._listener.turns.wait(self)

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
        if self._accepted is not None:
            if not self._accepted.done():
                self._accepted.set_result(None)
            self._accepted = None
        if self._transport.is_closing():
            return  # the close ends with the last byte written, or with the write timeout
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
        self._throttle()
        if self._is_behind:
            self._listener.turns.wait(self)

    def _check_idle(self) -> None:
        """Close the connection if it was idle for its timeout, otherwise check again later."""
        timeouts = self._listener.timeouts
        limit = timeouts.idle if self._asked else timeouts.read
        left = self.last_activity + limit - monotonic()
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
        left = self.last_activity + DRAIN_IDLE - monotonic()
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
        self._transport.abort()
