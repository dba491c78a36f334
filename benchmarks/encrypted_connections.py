"""Connections of DNS over TLS, HTTPS (HTTP/2) and QUIC that account for each query.

A server that stops may leave queries unanswered, and the client repeats them at the next server.
This is allowed for

* TLS: the queries without a reply when the connection ends (RFC 7766 section 6.2.4);
* HTTPS: those above the last stream of a GOAWAY with NO_ERROR, and those whose stream is reset with
  REFUSED_STREAM (RFC 9113 sections 6.8 and 8.7);
* QUIC: those without a reply when the server closes the connection with DOQ_NO_ERROR (RFC 9250
  section 5.5, which refers to RFC 7766).

All other queries without a reply are lost.
"""

from __future__ import annotations

import abc
import socket
import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from hpack import Encoder

from benchmarks.https_load import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    RST_STREAM,
    SETTINGS,
    frame,
    frames_of,
    opening,
)
from corepy.testing.load import PATIENCE
from corepy.testing.quic_peer import QUICPeer, messages_in

if TYPE_CHECKING:
    from pathlib import Path

    from corepy.testing.client import Address

SERVER_NAME: Final = "dns.example"
NO_ERROR: Final = 0
REFUSED_STREAM: Final = 7


@dataclass(slots=True)
class Query:
    """A query: its message without the ID, and the time of its first sending."""

    rest: bytes
    sent: float
    """Seconds of the monotonic clock."""


class Connection(abc.ABC):
    """One connection of a client; its sockets never block."""

    sock: socket.socket

    def __init__(self) -> None:
        self.waiting: dict[int, Query] = {}
        """The queries without a reply, by ID or stream."""
        self.returned: list[Query] = []
        """The queries that may be repeated over another connection."""
        self.replies: list[tuple[Query, bytes]] = []
        self.is_leaving = False
        """Whether the server has announced the end; there are no new queries then."""
        self.is_closed = False
        self.is_secure = False
        """Whether the handshake has ended."""
        self.is_abrupt = False

    @abc.abstractmethod
    def ask(self, asked: Query) -> None:
        """Send a query."""

    @abc.abstractmethod
    def step(self, now: float) -> None:
        """Receive what has arrived, send what waits."""

    def wake_at(self) -> float | None:
        """Return the monotonic time in seconds of the next step without data; None without one."""
        return None

    def _answered(self, key: int, reply: bytes) -> None:
        asked = self.waiting.pop(key, None)
        if asked is not None:
            self.replies.append((asked, reply))

    def _return_all(self) -> None:
        self.returned += self.waiting.values()
        self.waiting.clear()


class Encrypted(Connection):
    """A connection over TLS."""

    def __init__(self, address: Address, context: ssl.SSLContext) -> None:
        super().__init__()
        plain = socket.create_connection(address, PATIENCE)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        plain.setblocking(False)
        self.sock: ssl.SSLSocket = context.wrap_socket(
            plain,
            server_hostname=SERVER_NAME,
            do_handshake_on_connect=False,
            suppress_ragged_eofs=False,
        )
        self._out = b""
        self._received = b""

    def step(self, now: float) -> None:
        """Continue with the handshake, or with the data."""
        try:
            if not self.is_secure:
                self.sock.do_handshake()
                self.is_secure = True
            self._flush()
            while data := self.sock.recv(65536):
                self._received = self._take(self._received + data)
            self._end()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except OSError:
            self.is_abrupt = True
            self._end()

    def _write(self, data: bytes) -> None:
        self._out += data
        if self.is_secure:
            self.step(time.monotonic())

    def _flush(self) -> None:
        while self._out:
            self._out = self._out[self.sock.send(self._out) :]

    def _end(self) -> None:
        self.is_closed = True
        if not self.is_secure:  # nothing was sent
            self._return_all()

    @abc.abstractmethod
    def _take(self, data: bytes) -> bytes:
        """Process what was received; return the rest, which is incomplete."""


class DoT(Encrypted):
    """DNS over TLS."""

    _id = 0

    def ask(self, asked: Query) -> None:
        """Send a query with the next ID."""
        self._id = (self._id + 1) % 65536
        self.waiting[self._id] = asked
        wire = self._id.to_bytes(2, "big") + asked.rest
        self._write(len(wire).to_bytes(2, "big") + wire)

    def _take(self, data: bytes) -> bytes:
        while len(data) >= 2 and len(data) >= (end := 2 + int.from_bytes(data[:2], "big")):
            self._answered(int.from_bytes(data[2:4], "big"), data[2:end])
            data = data[end:]
        return data

    def _end(self) -> None:
        super()._end()
        self._return_all()


class DoH(Encrypted):
    """DNS over HTTPS with HTTP/2."""

    def __init__(self, address: Address, context: ssl.SSLContext) -> None:
        super().__init__(address, context)
        self._encoder = Encoder()
        self._stream = 1
        self._content: dict[int, bytes] = {}
        self._out = opening()

    def ask(self, asked: Query) -> None:
        """Send a request with the next stream."""
        self.waiting[self._stream] = asked
        fields = [
            (":method", "POST"),
            (":scheme", "https"),
            (":authority", SERVER_NAME),
            (":path", "/dns-query"),
            ("content-type", "application/dns-message"),
        ]
        head = frame(HEADERS, END_HEADERS, self._stream, self._encoder.encode(fields))
        data = frame(DATA, END_STREAM, self._stream, b"\0\0" + asked.rest)
        self._stream += 2
        self._write(head + data)

    def _take(self, data: bytes) -> bytes:
        end = 0
        for kind, flags, stream, start, end in frames_of(data):
            self._take_frame(kind, flags, stream, data[start:end])
        return data[end:]

    def _take_frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == SETTINGS and not flags & ACK:
            self._out += frame(SETTINGS, ACK, 0)
            self._flush()
        elif kind == GOAWAY:
            self._leave(int.from_bytes(payload[:4], "big"), int.from_bytes(payload[4:8], "big"))
        elif kind == RST_STREAM and int.from_bytes(payload, "big") == REFUSED_STREAM:
            self.returned.append(self.waiting.pop(stream))
        elif kind in (DATA, HEADERS):
            if kind == DATA:
                self._content[stream] = self._content.get(stream, b"") + payload
            if flags & END_STREAM:
                self._answered(stream, self._content.pop(stream, b""))

    def _leave(self, last: int, error: int) -> None:
        self.is_leaving = True
        if error == NO_ERROR:
            above = [stream for stream in self.waiting if stream > last]
            self.returned += [self.waiting.pop(stream) for stream in above]


class DoQ(Connection):
    """DNS over QUIC."""

    def __init__(self, address: Address, authority: Path) -> None:
        super().__init__()
        self._peer = QUICPeer(address, authority)
        self.sock = self._peer.sock
        self._peer.send()

    def ask(self, asked: Query) -> None:
        """Send a query over the next stream."""
        self.waiting[self._peer.query(b"\0\0" + asked.rest)] = asked
        self._peer.send()

    def wake_at(self) -> float | None:
        """Return the time of the next timer of QUIC."""
        return self._peer.quic.get_timer()

    def step(self, now: float) -> None:
        """Receive datagrams, and let timers fire."""
        peer = self._peer
        peer.receive_all()
        peer.wake(now)
        peer.take()
        self.is_secure = peer.handshake is not None
        for stream in [it for it in self.waiting if it in peer.ended]:
            self._answered(stream, b"".join(messages_in(peer.data.pop(stream))))
        self.is_closed = peer.closed is not None
        if peer.closed == NO_ERROR or (self.is_closed and not self.is_secure):
            self._return_all()
        peer.send()
