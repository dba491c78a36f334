"""Generates load over TCP with a connection for each query; dnsperf makes only 200 a second.

    python -m benchmarks.connections tcp|tls ADDRESS PORT SECONDS QUESTIONS [RATE]

sends the questions of a file in turn, `AT_ONCE` at a time, and prints the counts and latencies as
JSON. A latency, in seconds, includes that of the connection, and of the TLS handshake. Sessions are
not resumed.
"""

from __future__ import annotations

import json
import socket
import ssl
import struct
import sys
import time
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Final

import dnslib

if TYPE_CHECKING:
    from collections.abc import Sequence

AT_ONCE: Final = 10
TIMEOUT: Final = 2
_HEADER: Final = struct.Struct("!HHH")
"""The length of the message, its ID and its flags."""


def messages(questions: Path) -> list[bytes]:
    """Return the queries of an input file for dnsperf, each with its length before it."""
    lines = [line.split() for line in questions.read_text().splitlines()]
    found = (bytes(dnslib.DNSRecord.question(name, qtype).pack()) for name, qtype in lines)
    return [struct.pack("!H", len(wire)) + wire for wire in found]


def encryption() -> ssl.SSLContext:
    """Return a client context that accepts any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def ask(
    address: tuple[str, int], queries: Sequence[bytes], tls: ssl.SSLContext | None = None
) -> tuple[list[float], int]:
    """Send each query over a connection of its own, all at the same time.

    Return the latencies of those that were answered, and how many of these had another rcode than
    NOERROR.
    """
    latencies, failed, connections = [], 0, []
    for query in queries:
        started = time.perf_counter()
        connection = socket.create_connection(address, TIMEOUT)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as clients of DNS do
        if tls is not None:
            connection = tls.wrap_socket(connection)
        connection.sendall(query)
        connections.append((started, connection))
    for started, connection in connections:
        with connection:
            answer = connection.recv(65535)
        if len(answer) >= _HEADER.size:
            latencies.append(time.perf_counter() - started)
            failed += _HEADER.unpack_from(answer)[2] & 15 != 0
    return latencies, failed


def run(
    address: tuple[str, int],
    seconds: float,
    queries: Sequence[bytes],
    rate: int | None,
    tls: ssl.SSLContext | None = None,
) -> dict[str, object]:
    """Send queries for so many seconds, at most `rate` a second; return the counts."""
    sent, failed, latencies, turn = 0, 0, [], cycle(queries)
    began = time.perf_counter()
    while (spent := time.perf_counter() - began) < seconds:
        if rate is not None and sent > spent * rate:
            time.sleep(sent / rate - spent)
        found, wrong = ask(address, [next(turn) for _ in range(AT_ONCE)], tls)
        sent += AT_ONCE
        failed += wrong
        latencies += found
    return {
        "sent": sent,
        "completed": len(latencies),
        "lost": sent - len(latencies),
        "failed": failed,
        "seconds": time.perf_counter() - began,
        "mean_latency": sum(latencies) / len(latencies) if latencies else 0.0,
        "latencies": latencies if rate else [],
    }


def main(kind: str, host: str, port: str, seconds: str, questions: str, rate: str = "") -> None:
    """Run and print the counts."""
    queries = messages(Path(questions))
    tls = encryption() if kind == "tls" else None
    counts = run((host, int(port)), float(seconds), queries, int(rate) if rate else None, tls)
    json.dump(counts, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
