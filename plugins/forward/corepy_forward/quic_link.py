"""One connection over QUIC to an upstream, with the package aioquic (RFC 9000).

All queries to an upstream share one connection, where each is a stream of its own, so a lost packet
delays only the replies that it was part of. The queries of a connection that ends are sent again
over another one, as over TCP. `quic` and `doh3` have the two protocols: the content of the streams.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

from aioquic.quic import events

from corepy.net.quic.bounded_connection import BoundedConnection
from corepy_forward.attempt import Attempt
from corepy_forward.failures import CLOSED, explain
from corepy_forward.quic_failures import reason_of
from corepy_forward.quic_memory import Memory
from corepy_forward.quic_trust import QUICTrust
from corepy_forward.streams import USER_TIMEOUT, Stream

if TYPE_CHECKING:
    from corepy_forward.streams import StreamPool

_IDENT: Final = 8
_WAITING: Final = 1 << 63
"""Added to the numbers of queries that wait for the socket; streams have smaller numbers."""

_CLIENT_STREAMS: Final = 4
"""Difference between the numbers of two streams that a client opens."""

# aioquic logs each fault of a peer, at a level that is visible by default.
logging.getLogger("quic").addHandler(logging.NullHandler())
logging.getLogger("quic").propagate = False


class QUICLink(Stream):
    """One connection; the keys of `pending` are stream numbers of eight bytes."""

    most_connections: ClassVar[int] = 1
    no_error: ClassVar[int]
    cancelled: ClassVar[int]
    """The protocol's error codes for a connection that ends, and for a query without a client."""

    server_streams: ClassVar[int] = 0
    """Unidirectional streams that the server may open."""

    def __init__(self, pool: StreamPool, max_age: float) -> None:
        super().__init__(pool, max_age)
        self._loop = pool.upstream.loop
        self._connection: BoundedConnection | None = None
        self._endpoint: asyncio.DatagramTransport | None = None
        self._established: asyncio.Future[None] = self._loop.create_future()
        self._waiting: list[Attempt] = []
        self._replies: dict[int, bytearray] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._silence: asyncio.TimerHandle | None = None
        self._next = 0
        self._has_ended = False

    @property
    def is_connected(self) -> bool:
        """Whether the handshake is complete."""
        return self._established.done() and not self._has_ended

    @property
    def local_name(self) -> tuple[str, int] | None:
        """The address of this server's socket; None before there is one."""
        name = None if self._endpoint is None else self._endpoint.get_extra_info("sockname")
        return None if name is None else (name[0], name[1])

    # Connecting

    async def connect(self) -> None:
        """Connect to the upstream; raises OSError."""
        address = await self._open_socket()
        connection = self._connection = self._begin()
        connection.connect(address, self._loop.time())
        self._begun()
        waiting, self._waiting = self._waiting, []
        for attempt in waiting:
            if self.pending.pop(attempt.ident, None) is not None:  # else it was cancelled
                self._open_stream(connection, attempt)
        self._flush()
        await self._established

    async def _open_socket(self) -> Any:
        """Open a connected socket, and return the address of the upstream."""
        upstream = self._pool.upstream
        target, source = upstream.target, upstream.settings.source_address
        sock = socket.socket(target.family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            if source:
                sock.bind((source, 0))
            sock.connect(target.sockaddr)
            await self._loop.create_datagram_endpoint(lambda: _Datagrams(self), sock=sock)
        except BaseException:
            sock.close()
            raise
        return sock.getpeername()

    def _begin(self) -> BoundedConnection:
        upstream, memory = self._pool.upstream, self._memory
        target, trust = upstream.target, upstream.context
        assert isinstance(trust, QUICTrust)
        name = upstream.settings.tls_servername or target.server_name or target.host
        options = {"session_ticket": memory.take_ticket(), "token": memory.take_token()}
        connection = BoundedConnection(
            configuration=trust.configuration(name, **options),
            session_ticket_handler=memory.keep_ticket,
            token_handler=memory.keep_token,
        )
        connection.limit_streams(0, self.server_streams)
        return connection

    def _begun(self) -> None:
        """Continue after the first packet was made; for subclasses."""

    @property
    def _memory(self) -> Memory:
        pool = self._pool
        if not isinstance(pool.memory, Memory):
            pool.memory = Memory()
        return pool.memory

    def socket_opened(self, endpoint: asyncio.DatagramTransport) -> None:
        """Keep the transport of the socket."""
        self._endpoint = endpoint

    # Sending

    def send(self, attempt: Attempt) -> None:
        """Send a query; before the handshake only if the server permits it."""
        attempt.link = self
        self.last_used = attempt.sent
        if self._connection is None:
            attempt.ident = (_WAITING + len(self._waiting)).to_bytes(_IDENT, "big")
            self._waiting.append(attempt)
            self.pending[attempt.ident] = attempt
        else:
            self._open_stream(self._connection, attempt)
            self._schedule_flush()
        if self._silence is None:
            self._watch_silence(attempt.sent)

    def _open_stream(self, connection: BoundedConnection, attempt: Attempt) -> None:
        number, self._next = self._next, self._next + _CLIENT_STREAMS
        attempt.ident = number.to_bytes(_IDENT, "big")
        self.pending[attempt.ident] = attempt
        self._request(connection, number, attempt)

    def _request(self, connection: BoundedConnection, number: int, attempt: Attempt) -> None:
        """Send a query on a new stream; for subclasses."""

    def _flush(self) -> None:
        """Send what there is to send, and set the timer of the connection."""
        self._flushing = False
        connection, endpoint = self._connection, self._endpoint
        if connection is None or endpoint is None:
            return
        for data, _ in connection.datagrams_to_send(self._loop.time()):
            endpoint.sendto(data)
        if self._timer is not None:
            self._timer.cancel()
        at = connection.get_timer()
        self._timer = None if at is None else self._loop.call_at(at, self._handle_timer)

    def _handle_timer(self) -> None:
        self._timer = None
        if self._connection is not None:
            self._connection.handle_timer(self._loop.time())
            self._process_events()

    def _watch_silence(self, sent: float) -> None:
        """Give the connection up if nothing arrives for `USER_TIMEOUT` after a query.

        A server acknowledges a query at once, however long the reply takes.
        """
        self._silence = self._loop.call_later(USER_TIMEOUT, self._check_silence, sent)

    def _check_silence(self, sent: float) -> None:
        self._silence = None
        if self._heard < sent and self.is_connected:
            self._end(CLOSED)
        elif self._heard < self.last_used:
            self._watch_silence(self.last_used)

    # Receiving

    def receive(self, datagram: bytes) -> None:
        """Process a datagram from the upstream."""
        connection = self._connection
        if connection is None or self._endpoint is None:
            return
        self._heard = monotonic()
        address = self._endpoint.get_extra_info("peername")
        connection.receive_datagram(datagram, address, self._loop.time())
        self._process_events()

    def _process_events(self) -> None:
        connection = self._connection
        wakeups = self._pool.upstream.wakeups
        wakeups.hold()
        try:
            while connection is not None and (event := connection.next_event()) is not None:
                self._take(event)
        finally:
            wakeups.release()
        self._flush()

    def _take(self, event: events.QuicEvent) -> None:
        if isinstance(event, events.HandshakeCompleted):
            self._handshake_completed(event)
        elif isinstance(event, events.ConnectionTerminated):
            self._end(reason_of(event, self.no_error))
        else:
            self._take_from_stream(event)
            if isinstance(event, events.StreamReset):
                self._broke(event.stream_id, f"stream reset ({event.error_code:#x})")

    def _take_from_stream(self, event: events.QuicEvent) -> None:
        """Process an event of a stream; for subclasses."""

    def _handshake_completed(self, event: events.HandshakeCompleted) -> None:
        if not event.session_resumed:
            self._memory.verified = monotonic()
        if not self._established.done():
            self._established.set_result(None)

    def _reply(self, number: int) -> bytearray | None:
        """Return what has arrived of a reply; None if the query has ended."""
        if number.to_bytes(_IDENT, "big") not in self.pending:
            return None
        return self._replies.setdefault(number, bytearray())

    def _take_pending(self, number: int) -> Attempt | None:
        """Remove the query of a stream and return it; None if it was cancelled."""
        return self.pending.pop(number.to_bytes(_IDENT, "big"), None)

    def _drop(self, number: int) -> None:
        """Forget what has arrived on a stream."""
        self._replies.pop(number, None)

    def _cancel(self, number: int) -> None:
        """Tell the server that the rest of a reply is not needed."""
        if self._connection is not None:
            with suppress(ValueError):  # the stream has ended
                self._connection.stop_stream(number, self.cancelled)

    def _broke(self, number: int, reason: str) -> None:
        self._drop(number)
        attempt = self._take_pending(number)
        if attempt is not None:
            attempt.upstream.broke(attempt, reason)

    # The end

    def forget(self, attempt: Attempt) -> None:
        """Cancel a query; give the connection up if no data arrived since it was sent."""
        number = int.from_bytes(attempt.ident, "big")
        if self.pending.pop(attempt.ident, None) is None:
            return
        self._drop(number)
        if not self.is_connected:
            return
        if self._heard < attempt.sent:
            self._end(CLOSED)
        else:
            self._cancel(number)
            self._schedule_flush()

    def refused(self, reason: str) -> None:
        """Fail all pending attempts, because the connection cannot be established."""
        self._has_ended = True
        self._shut()
        super().refused(reason)

    def lost(self, error: Exception | None) -> None:
        """End the connection, because its socket does not work."""
        self._end(CLOSED if error is None else explain(error, "connect"))

    def _end(self, reason: str) -> None:
        """Send the pending queries again over another connection, or fail them."""
        if self._has_ended:
            return
        self._has_ended = True
        was_established = self._established.done()
        self._shut()
        if was_established:
            self._pool.remove(self)
            waiting = list(self.pending.values())
            self.pending.clear()
            for attempt in waiting:
                self._move(attempt, reason)
        else:
            self._established.set_exception(ConnectionError(reason))

    def close(self) -> None:
        """Close the connection without notifying the pending attempts."""
        self.pending.clear()
        if self.dialling is not None:
            self.dialling.cancel()
        self._has_ended = True
        self._close(self.no_error)
        self._shut()

    def _close(self, code: int) -> None:
        if self._connection is not None:
            self._connection.close(error_code=code)
            self._flush()

    def _shut(self) -> None:
        """Close the socket and stop the timers."""
        endpoint, self._endpoint = self._endpoint, None
        if endpoint is not None:
            endpoint.close()
        for timer in (self._timer, self._silence):
            if timer is not None:
                timer.cancel()
        self._timer = self._silence = None
        self._connection = None
        self._replies.clear()


class _Datagrams(asyncio.DatagramProtocol):
    """The socket of a connection."""

    def __init__(self, stream: QUICLink) -> None:
        self._stream = stream

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._stream.socket_opened(cast("asyncio.DatagramTransport", transport))

    def datagram_received(self, data: bytes, addr: object) -> None:
        self._stream.receive(data)

    def error_received(self, exc: Exception) -> None:
        self._stream.lost(exc)
