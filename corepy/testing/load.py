"""Sends queries at a steady rate and tracks each one until it is answered or lost."""

from __future__ import annotations

import random
import selectors
import socket
import ssl
import struct
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from corepy.testing.client import Address, query

if TYPE_CHECKING:
    from collections.abc import Sequence

_BUFFER = 1024 * 1024

PATIENCE = 5.0
"""Timeout of a stub resolver, in seconds."""


@dataclass(slots=True)
class Outcome:
    """The results of a load: numbers of queries and replies, times of problems, latencies."""

    sent: int = 0
    wrong: int = 0
    unanswered: int = 0
    reconnects: int = 0
    lost: list[float] = field(default_factory=list)
    """Times at which the unanswered queries were sent, by the monotonic clock."""

    late: list[float] = field(default_factory=list)
    """The same for queries answered after more than `PATIENCE`, the timeout of a client."""

    latencies: list[float] = field(default_factory=list)
    """Seconds from query to reply, one per correct reply."""

    def percentile(self, share: float) -> float:
        """Return the latency in seconds that `share` (0 to 1) of the answers do not exceed."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


class Load:
    """Sends queries at a steady rate: over UDP from many ports, or pipelined over TCP or TLS.

        with Load(address, rate=1000) as load:
            ...
        assert load.outcome.unanswered == 0

    If the server closes a TCP connection, its unanswered queries are sent again on a new one, as
    RFC 7766 section 6.2.4 requires of clients.
    """

    def __init__(
        self,
        address: Address,
        *,
        rate: float,
        clients: int = 32,
        tcp: bool = False,
        tls: ssl.SSLContext | None = None,
        together: int = 1,
        names: Sequence[str] = ("www.example.org.",),
    ) -> None:
        """Send `rate` queries a second in total from `clients` sockets.

        Each socket sends `together` queries at a time, before the next socket's turn. With `tls`,
        the connections are encrypted.
        """
        self.outcome = Outcome()
        self._address = address
        self._rate = rate
        self._tcp = tcp or tls is not None
        self._tls = tls
        self._together = together
        self._family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._questions = [query(name)[2:] for name in names]
        self._selector = selectors.DefaultSelector()
        self._waiting: list[dict[bytes, tuple[float, bytes]]] = [{} for _ in range(clients)]
        self._buffers = [b"" for _ in range(clients)]
        self._sockets = [self._open(index) for index in range(clients)]
        self._stopping = threading.Event()
        self._last_reply = 0.0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _open(self, index: int) -> socket.socket:
        kind = socket.SOCK_STREAM if self._tcp else socket.SOCK_DGRAM
        deadline = time.monotonic() + PATIENCE
        while True:
            sock = socket.socket(self._family, kind)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)  # this thread may be slow
            try:
                sock.connect(self._address)
                if self._tls is not None:
                    sock.settimeout(PATIENCE)
                    sock = self._tls.wrap_socket(sock, server_hostname=self._address[0])
                break
            except OSError:
                sock.close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        sock.setblocking(False)
        self._selector.register(sock, selectors.EVENT_READ, index)
        return sock

    def _run(self) -> None:
        began = time.monotonic()
        while not self._stopping.is_set():
            due = int((time.monotonic() - began) * self._rate)
            for _ in range(min(due - self.outcome.sent, 200)):
                self._ask(self.outcome.sent // self._together % len(self._sockets))
            self._read(0.001)
        self._last_reply = time.monotonic()
        while any(self._waiting) and time.monotonic() < self._last_reply + PATIENCE:
            self._read(0.01)
        self.outcome.lost = sorted(at for each in self._waiting for at, _ in each.values())
        self.outcome.unanswered = len(self.outcome.lost)
        for sock in self._sockets:
            sock.close()
        self._selector.close()

    def _ask(self, index: int) -> None:
        waiting = self._waiting[index]
        ident = random.randbytes(2)
        while ident in waiting:
            ident = random.randbytes(2)
        question = self._questions[self.outcome.sent % len(self._questions)]
        waiting[ident] = (time.monotonic(), question)
        self.outcome.sent += 1
        self._send(index, ident + question)

    def _send(self, index: int, wire: bytes) -> None:
        try:
            framed = struct.pack("!H", len(wire)) + wire if self._tcp else wire
            self._sockets[index].send(framed)
        except BlockingIOError:
            pass
        except OSError:
            if self._tcp:
                self._reconnect(index)
            else:
                self._sockets[index].send(wire)  # the error belonged to an earlier datagram

    def _read(self, timeout: float) -> None:
        for key, _ in self._selector.select(timeout):
            index: int = key.data
            try:
                while True:
                    data = self._sockets[index].recv(65535)
                    if self._tcp and not data:
                        self._reconnect(index)
                        break
                    self._take(index, data)
            except (BlockingIOError, ssl.SSLWantReadError):
                pass
            except OSError:
                if self._tcp:
                    self._reconnect(index)

    def _take(self, index: int, data: bytes) -> None:
        if not self._tcp:
            self._answered(index, data)
            return
        stream = self._buffers[index] + data
        while len(stream) >= 2 and len(stream) >= 2 + struct.unpack("!H", stream[:2])[0]:
            end = 2 + struct.unpack("!H", stream[:2])[0]
            self._answered(index, stream[2:end])
            stream = stream[end:]
        self._buffers[index] = stream

    def _answered(self, index: int, answer: bytes) -> None:
        asked = self._waiting[index].pop(answer[:2], None)
        if asked is None or answer[3] & 15 or asked[1][10:] not in answer:
            self.outcome.wrong += 1
        else:
            self._last_reply = time.monotonic()
            latency = self._last_reply - asked[0]
            self.outcome.latencies.append(latency)
            if latency > PATIENCE:
                self.outcome.late.append(asked[0])

    def _reconnect(self, index: int) -> None:
        self.outcome.reconnects += 1
        self._selector.unregister(self._sockets[index])
        self._sockets[index].close()
        self._buffers[index] = b""
        self._sockets[index] = self._open(index)
        for ident, (_, question) in list(self._waiting[index].items()):
            self._send(index, ident + question)
