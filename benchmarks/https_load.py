"""Generates load of DNS over HTTPS with HTTP/2; dnsperf's has errors with every server.

    python -m benchmarks.https_load ADDRESS PORT SECONDS QUESTIONS [RATE]

sends the questions of a file in turn as POST requests, over `CLIENTS` connections with together
`OUTSTANDING` requests in flight, and prints the counts and latencies as JSON. It reads only the
frames that a server of DNS sends.
"""

from __future__ import annotations

import json
import selectors
import socket
import struct
import sys
import time
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from hpack import Encoder, HeaderTuple, NeverIndexedHeaderTuple

from benchmarks.connections import encryption, messages
from benchmarks.load import CLIENTS, OUTSTANDING

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT: Final = 2
DATA, HEADERS, RST_STREAM, SETTINGS, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
_FRAME: Final = struct.Struct("!BHBBI")
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_LARGE: Final = (2**30).to_bytes(4, "big")


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return a frame of HTTP/2."""
    return _FRAME.pack(0, len(payload), kind, flags, stream) + payload


def frames_of(data: bytes) -> Iterator[tuple[int, int, int, int, int]]:
    """Yield type, flags and stream of each whole frame, and where its payload starts and ends."""
    at = 0
    while len(data) - at >= _FRAME.size:
        high, low, kind, flags, stream = _FRAME.unpack_from(data, at)
        start = at + _FRAME.size
        at = start + (high << 16 | low)
        if at > len(data):
            break
        yield kind, flags, stream, start, at


def opening() -> bytes:
    """Return the first bytes of a client, with the largest windows."""
    settings = frame(SETTINGS, 0, 0, b"\0\4" + _LARGE)
    return _PREFACE + settings + frame(WINDOW_UPDATE, 0, 0, _LARGE)


class Client:
    """One connection, with a header block for each size of a query."""

    def __init__(self, address: tuple[str, int]) -> None:
        plain = socket.create_connection(address, TIMEOUT)
        context = encryption()
        context.set_alpn_protocols(["h2"])
        self.sock = context.wrap_socket(plain)
        self._encoder, self._blocks = Encoder(), dict[int, bytes]()
        self._stream = 1
        self._received = b""
        self.sent_at: dict[int, float] = {}
        self.sock.sendall(opening())

    def _block(self, size: int) -> bytes:
        """Return the header block of a query; the first one fills the table of the server."""
        fields: list[tuple[str, str] | HeaderTuple] = [
            (":method", "POST"),
            (":scheme", "https"),
            (":authority", "dns.example"),
            (":path", "/dns-query"),
            ("content-type", "application/dns-message"),
            NeverIndexedHeaderTuple("content-length", str(size)),
        ]
        if self._stream == 1:
            return self._encoder.encode(fields)
        if size not in self._blocks:
            self._blocks[size] = self._encoder.encode(fields)
        return self._blocks[size]

    def send(self, queries: Iterator[bytes], count: int) -> None:
        """Send so many queries at once."""
        frames = []
        for _ in range(count):
            query = next(queries)[2:]  # without the length of TCP
            self.sent_at[self._stream] = time.perf_counter()
            frames.append(frame(HEADERS, END_HEADERS, self._stream, self._block(len(query))))
            frames.append(frame(DATA, END_STREAM, self._stream, query))
            self._stream += 2
        self.sock.sendall(b"".join(frames))

    def receive(self) -> tuple[list[float], int]:
        """Return the latencies of the responses that have arrived, and how many are errors."""
        latencies, failed = [], 0
        data = self._received + self.sock.recv(65536)
        while self.sock.pending():
            data += self.sock.recv(65536)
        frames = list(frames_of(data))
        for kind, flags, stream, start, _ in frames:
            if kind == SETTINGS and not flags & ACK:
                self.sock.sendall(frame(SETTINGS, ACK, 0))
            elif kind == GOAWAY:
                raise ConnectionResetError("the server has sent GOAWAY")
            elif kind == RST_STREAM or (kind in (DATA, HEADERS) and flags & END_STREAM):
                latencies.append(time.perf_counter() - self.sent_at.pop(stream))
                failed += kind != DATA or data[start + 3] & 15 != 0
        self._received = data[frames[-1][-1] :] if frames else data
        return latencies, failed


def run(
    address: tuple[str, int], seconds: float, queries: list[bytes], rate: int | None
) -> dict[str, object]:
    """Send queries for so many seconds, at most `rate` a second; return the counts."""
    clients, selector = [Client(address) for _ in range(CLIENTS)], selectors.DefaultSelector()
    each, turn = OUTSTANDING // CLIENTS, cycle(queries)
    for client in clients:
        selector.register(client.sock, selectors.EVENT_READ, client)
    latencies: list[float] = []
    sent, failed, began = 0, 0, time.perf_counter()
    end = began + seconds
    while (now := time.perf_counter()) < end or any(client.sent_at for client in clients):
        if now > end + TIMEOUT:
            break
        for client in clients if now < end else ():
            allowed = each if rate is None else int((now - began) * rate) - sent
            count = min(each - len(client.sent_at), allowed)
            if count > each // 2 or (count > 0 and not client.sent_at):
                client.send(turn, count)
                sent += count
        for key, _ in selector.select(0.001 if rate else 0.1):
            found, wrong = cast("Client", key.data).receive()
            latencies += found
            failed += wrong
    return {
        "sent": sent,
        "completed": len(latencies),
        "lost": sent - len(latencies),
        "failed": failed,
        "seconds": time.perf_counter() - began,
        "mean_latency": sum(latencies) / len(latencies) if latencies else 0.0,
        "latencies": latencies if rate else [],
    }


def main(host: str, port: str, seconds: str, questions: str, rate: str = "") -> None:
    """Run and print the counts."""
    queries = messages(Path(questions))
    counts = run((host, int(port)), float(seconds), queries, int(rate) if rate else None)
    json.dump(counts, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
