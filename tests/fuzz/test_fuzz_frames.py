"""Streams of framed messages, cut anywhere: over a real connection, every query is answered once."""

from __future__ import annotations

import atexit
import socket
import struct
from functools import cache

import pytest

from corepy.dns import accept, edns, query
from corepy.net.frames import FrameReader
from corepy.testing import serve
from corepy.testing.fuzzing import Source, briefly

NAMES = (b"\1a\0", b"\3www\7example\0", b"\0", b"\1A\0")


@cache
def address() -> tuple[str, int]:
    """The address of a server that lasts as long as the process."""
    running = serve(".:0 {\nwhoami\n}\n")
    server = running.__enter__()
    atexit.register(running.__exit__, None, None, None)
    return server.address


def message(source: Source, ident: int) -> bytes:
    kind = source.number(0, 7)
    if kind == 0:
        return source.take(source.number(0, 40))
    opt = edns.Edns(1232, options=source.take(source.number(0, 5))) if kind > 5 else None
    return query(source.pick(NAMES), source.pick((1, 28, 255, 33)), ident=ident, edns=opt)


def cut(source: Source, stream: bytes) -> list[bytes]:
    pieces = []
    while stream:
        size = source.number(1, len(stream)) if source.one_in(2) else len(stream)
        pieces.append(stream[:size])
        stream = stream[size:]
    return pieces


def check(data: bytes) -> None:
    source = Source(data)
    messages = [message(source, i) for i in range(source.number(1, 8))]
    stream = b"".join(struct.pack("!H", len(each)) + each for each in messages)
    tail = source.take(source.number(0, 3)) if source.one_in(4) else b""
    reader = FrameReader()
    got: list[bytes] = []
    for piece in cut(Source(data[::-1]), stream):
        got += reader.feed(piece)
    assert got == messages
    expected = []
    for each in messages:
        answer = accept(each)
        if answer is None:
            break  # silence, and the end of what a client can expect
        expected.append(each[:2])
    else:
        assert idents(ask(cut(source, stream), tail)) == sorted(expected)


def ask(pieces: list[bytes], tail: bytes) -> bytes:
    """Send the pieces, and end; return all that comes back."""
    with socket.create_connection(address(), timeout=60) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            sock.sendall(piece)
        if tail not in (b"", b"\0", b"\0\0"):
            sock.sendall(tail[:1])
        sock.shutdown(socket.SHUT_WR)
        answer = b""
        while more := sock.recv(65536):
            answer += more
    return answer


def idents(stream: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(stream):
        size = int.from_bytes(stream[at : at + 2], "big")
        assert at + 2 + size <= len(stream), "a reply is cut off"
        found.append(stream[at + 2 : at + 4])
        at += 2 + size
    return sorted(found)


SEEDS = {
    "one query, cut between the two bytes of its length": bytes.fromhex(
        "00 01 00 01 01 01 01 00 01"
    )
}


@pytest.mark.parametrize("data", SEEDS.values(), ids=SEEDS.keys())
def test_seeds(data: bytes) -> None:
    check(data)


def test_any_stream() -> None:
    briefly(check, 60)
