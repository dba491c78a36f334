"""A QUIC client for tests, which sends what a test wants, also what it must not."""

from __future__ import annotations

import contextlib
import socket
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Self

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import (
    HandshakeCompleted,
    StopSendingReceived,
    StreamDataReceived,
    StreamReset,
)

from corepy.net.frames import frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from aioquic.quic.events import QuicEvent
    from aioquic.tls import SessionTicket

WAIT = 60.0
"""Seconds after which a test fails."""


class ClosedError(Exception):
    """The server has closed the connection, with this error code."""


class QUICPeer:
    """One connection to a server on this machine."""

    def __init__(
        self,
        address: tuple[str, int],
        authority: Path,
        protocol: str = "doq",
        *,
        ticket: SessionTicket | None = None,
        **configuration: Any,
    ) -> None:
        """Take the CA of the server's certificate, and a ticket for early data."""
        self.address = address
        self.events: list[QuicEvent] = []
        self.data: dict[int, bytes] = defaultdict(bytes)
        """What was received, by stream."""
        self.ended: set[int] = set()
        self.errors: dict[int, int] = {}
        """The error codes of streams that the server has reset."""
        self.stopped: dict[int, int] = {}
        """The error codes of streams that the server does not want to read."""
        self.closed: int | None = None
        """The error code with which the connection has ended."""
        self.handshake: HandshakeCompleted | None = None
        self.tickets: list[SessionTicket] = []
        self.loses: Callable[[bytes], bool] = lambda _datagram: False
        """Whether a datagram that is sent is lost."""
        self.prefix = b""
        """What precedes each datagram that is sent, such as a PROXY header."""
        self.misses: Callable[[bytes], bool] = lambda _datagram: False
        """Whether a datagram that is received is lost."""
        settings = QuicConfiguration(
            alpn_protocols=[protocol],
            server_name="dns.example",
            session_ticket=ticket,
            **configuration,
        )
        settings.load_verify_locations(str(authority))
        self.quic = QuicConnection(
            configuration=settings, session_ticket_handler=self.tickets.append
        )
        self.sock = self._open()
        self.quic.connect(address, time.monotonic())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.quic.close()
        self.send()
        self.sock.close()

    def rebind(self) -> None:
        """Use another port from now on, as after a NAT has forgotten the client."""
        self.sock.close()
        self.sock = self._open()

    def _open(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self.address[0] else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_DGRAM)
        sock.connect(self.address)
        return sock

    def connect(self) -> Self:
        """Complete the handshake."""
        self.until(lambda: self.handshake is not None)
        self.send()
        return self

    def send(self) -> None:
        """Send what the connection has to send."""
        for datagram, _ in self.quic.datagrams_to_send(time.monotonic()):
            if not self.loses(datagram):
                try:
                    self.sock.send(self.prefix + datagram)
                except ConnectionRefusedError:  # of an earlier datagram
                    self.sock.send(self.prefix + datagram)

    def until(self, is_done: Callable[[], bool], timeout: float = WAIT) -> None:
        """Send and receive until `is_done`; raise ClosedError or TimeoutError."""
        deadline = time.monotonic() + timeout
        while True:
            self.take()
            if is_done():
                return
            if self.closed is not None:
                raise ClosedError(self.closed)
            self.send()
            self._receive(deadline)

    def receive_all(self) -> None:
        """Receive the datagrams that have arrived."""
        self.sock.settimeout(0)
        with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
            while True:
                self._take_datagram(self.sock.recv(65536))

    def wake(self, now: float) -> bool:
        """Let a timer fire if it is time; return whether it was."""
        timer = self.quic.get_timer()
        if timer is None or timer > now:
            return False
        self.quic.handle_timer(now)
        return True

    def _take_datagram(self, datagram: bytes) -> None:
        if not self.misses(datagram):
            self.quic.receive_datagram(datagram, self.address, time.monotonic())

    def _receive(self, deadline: float) -> None:
        """Receive a datagram, or let a timer fire."""
        now = time.monotonic()
        if now > deadline:
            raise TimeoutError
        timer = self.quic.get_timer() or deadline
        self.sock.settimeout(max(min(timer, deadline) - now, 0.001))
        try:
            datagram = self.sock.recv(65536)
        except (TimeoutError, ConnectionRefusedError):
            if time.monotonic() >= timer:
                self.quic.handle_timer(time.monotonic())
        else:
            self._take_datagram(datagram)

    def take(self) -> None:
        """Take the events that have happened."""
        if self.quic._close_event is not None:  # the event itself follows seconds later
            self.closed = self.quic._close_event.error_code
        while (event := self.quic.next_event()) is not None:
            self.events.append(event)
            if isinstance(event, StreamDataReceived):
                self.data[event.stream_id] += event.data
                if event.end_stream:
                    self.ended.add(event.stream_id)
            elif isinstance(event, StreamReset):
                self.errors[event.stream_id] = event.error_code
            elif isinstance(event, StopSendingReceived):
                self.stopped[event.stream_id] = event.error_code
            elif isinstance(event, HandshakeCompleted):
                self.handshake = event

    # DNS

    def put(self, data: bytes, *, end: bool = True) -> int:
        """Write `data` to a new stream, as it is; return the stream."""
        stream = self.quic.get_next_available_stream_id()
        self.quic.send_stream_data(stream, data, end_stream=end)
        return stream

    def query(self, wire: bytes) -> int:
        """Begin a query; return its stream."""
        return self.put(frame(wire))

    def reply(self, stream: int) -> bytes:
        """Return the one message that a stream carries; raises ClosedError."""
        (message,) = self.replies(stream)
        return message

    def replies(self, stream: int) -> list[bytes]:
        """Return the messages of a stream when it has ended; none if the server has reset it."""
        self.until(lambda: stream in self.ended or stream in self.errors)
        return list(messages_in(self.data[stream]))

    def ask(self, wire: bytes) -> bytes:
        """Return the reply to a query."""
        return self.reply(self.query(wire))

    def close_code(self) -> int:
        """Return the error code with which the server closes the connection."""
        self.until(lambda: self.closed is not None)
        assert self.closed is not None
        return self.closed


def messages_in(data: bytes) -> Iterator[bytes]:
    """Yield the messages of a stream, each after its length."""
    while data:
        end = 2 + int.from_bytes(data[:2], "big")
        assert len(data) >= end, "the stream ends within a message"
        yield data[2:end]
        data = data[end:]
