"""DNS over QUIC to one upstream (RFC 9250), with the package aioquic.

All queries to an upstream share one connection, where each is a stream of its own, so a lost packet
delays only the replies that it was part of. The queries of a connection that ends are sent again
over another one, as over TCP.

A server that has given a ticket gets the first queries with the first packet (0-RTT). Whoever
copies this packet can repeat these queries, so only transactions without an effect are allowed
(section 4.5): *forward* sends no others than plain queries. A ticket is used once.
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
from corepy_forward.doh_requests import MOST_MESSAGE, take_message
from corepy_forward.failures import CLOSED, MALFORMED, TOO_LARGE, explain
from corepy_forward.forms import padded
from corepy_forward.quic_trust import QUICTrust
from corepy_forward.sessions import FULL_HANDSHAKE
from corepy_forward.streams import USER_TIMEOUT, Stream

if TYPE_CHECKING:
    from aioquic.tls import SessionTicket

    from corepy_forward.streams import StreamPool

NO_ERROR: Final = 0x0
PROTOCOL_ERROR: Final = 0x2
REQUEST_CANCELLED: Final = 0x3
"""Error codes (section 4.3)."""

_CRYPTO_ERROR: Final = range(0x100, 0x200)
_ALERTS: Final = {
    0x100 + 42: "tls: failed to verify certificate",
    0x100 + 45: "tls: failed to verify certificate",
    0x100 + 40: "remote error: tls: handshake failure",
    0x100 + 116: "remote error: tls: certificate required",
    0x100 + 120: "remote error: tls: no application protocol",
}
"""Alerts of TLS (RFC 8446 section 6), by error code (RFC 9001 section 4.8)."""

_IDENT: Final = 8
_WAITING: Final = 1 << 63
"""Added to the numbers of queries that wait for the socket; streams have smaller numbers."""

_CLIENT_STREAMS: Final = 4
"""Difference between the numbers of two streams that a client opens."""

# aioquic logs each fault of a peer, at a level that is visible by default.
logging.getLogger("quic").addHandler(logging.NullHandler())
logging.getLogger("quic").propagate = False


class Memory:
    """The ticket for the next connection to an upstream, and the token for its address check."""

    def __init__(self) -> None:
        self.ticket: SessionTicket | None = None
        self.token = b""
        self.verified = float("-inf")
        """Monotonic time in seconds of the last handshake with a certificate."""

    def take_ticket(self) -> SessionTicket | None:
        """Return the ticket, once, if the last verification is not too long ago."""
        ticket, self.ticket = self.ticket, None
        return ticket if monotonic() - self.verified < FULL_HANDSHAKE else None

    def keep_ticket(self, ticket: SessionTicket) -> None:
        """Keep a ticket that the server has sent."""
        self.ticket = ticket

    def take_token(self) -> bytes:
        """Return the token, once (RFC 9000 section 8.1.3)."""
        token, self.token = self.token, b""
        return token

    def keep_token(self, token: bytes) -> None:
        """Keep a token that the server has sent."""
        self.token = token


class QUICStream(Stream):
    """One connection; the keys of `pending` are stream numbers of eight bytes."""

    most_connections: ClassVar[int] = 1
    no_error: ClassVar[int] = NO_ERROR
    cancelled: ClassVar[int] = REQUEST_CANCELLED
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
        """Send a query on its stream, padded because its size could tell the name (section 5.4)."""
        wire = b"\0\0" + padded(attempt.body, attempt.owner.question)
        framed = len(wire).to_bytes(2, "big") + wire
        connection.send_stream_data(number, framed, end_stream=True)

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
            self._end(_reason(event))
        else:
            self._take_from_stream(event)

    def _handshake_completed(self, event: events.HandshakeCompleted) -> None:
        if not event.session_resumed:
            self._memory.verified = monotonic()
        if not self._established.done():
            self._established.set_result(None)

    def _take_from_stream(self, event: events.QuicEvent) -> None:
        if isinstance(event, events.StreamDataReceived):
            self._collect(event.stream_id, event.data, event.end_stream)
        self._take_reset(event)

    def _take_reset(self, event: events.QuicEvent) -> None:
        if isinstance(event, events.StreamReset):
            self._broke(event.stream_id, f"stream reset ({event.error_code:#x})")

    def _collect(self, number: int, data: bytes, is_end: bool) -> None:
        """Add to a reply: two bytes with its length, the message, and the end of the stream."""
        reply = self._reply(number)
        if reply is None:
            return
        reply += data
        if len(reply) > 2 + MOST_MESSAGE:
            self._violation(number, TOO_LARGE)
        elif is_end:
            self._finish(number)

    def _reply(self, number: int) -> bytearray | None:
        """Return what has arrived of a reply; None if the query has ended."""
        if number.to_bytes(_IDENT, "big") not in self.pending:
            return None
        return self._replies.setdefault(number, bytearray())

    def _finish(self, number: int) -> None:
        """Process a complete reply."""
        reply = self._replies.pop(number)
        if len(reply) < 2 or int.from_bytes(reply[:2], "big") != len(reply) - 2:
            self._violation(number, MALFORMED)
            return
        attempt = self._take_pending(number)
        if attempt is not None:
            take_message(attempt, bytes(reply[2:]), self._heard)

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

    def _violation(self, number: int, reason: str) -> None:
        """Fail a query, and close the connection as the protocol requires (section 4.3.3)."""
        self._broke(number, reason)
        self._close(PROTOCOL_ERROR)
        self._end(CLOSED)

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

    def __init__(self, stream: QUICStream) -> None:
        self._stream = stream

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._stream.socket_opened(cast("asyncio.DatagramTransport", transport))

    def datagram_received(self, data: bytes, addr: object) -> None:
        self._stream.receive(data)

    def error_received(self, exc: Exception) -> None:
        self._stream.lost(exc)


def _reason(event: events.ConnectionTerminated) -> str:
    """Return why a connection has ended: a fault of TLS, or an error code."""
    text = event.reason_phrase.lower()
    if event.frame_type is not None and event.error_code in _CRYPTO_ERROR:
        reason = _ALERTS.get(event.error_code, "tls")
        name, mismatch, _ = text.removeprefix("hostname ").partition(" doesn't match ")
        if mismatch:  # representations of Python objects follow; these are OpenSSL's words
            text = f"hostname mismatch, certificate is not valid for {name}"
        return f"{reason}: {text}" if text else reason
    if event.error_code == NO_ERROR:
        return CLOSED
    return f"connection closed by error {event.error_code:#x}" + (f" ({text})" if text else "")
