"""Messages built to be expensive: work and memory stay bounded (RFC 9267, users.md "Parser bombs").

Nothing here looks at a clock: the work is counted in lines executed, memory is measured.
"""

from __future__ import annotations

import struct
import sys
import tracemalloc
from types import FrameType
from typing import Any

import pytest

from corepy.dns import FormError, Reply, Request, accept, edns, finish, query
from corepy.dns.response import typify

QUESTION = b"\1a\0\0\1\0\1"
SIZE = 65535


def message(body: bytes, an: int) -> bytes:
    return struct.pack("!HHHHHH", 1, 0x8000, 0, an, 0, 0) + body


def filled(first: bytes, record: bytes) -> bytes:
    """A message as large as can be: first, a record, then as many of the other as there is room for."""
    number = (SIZE - 12 - len(first)) // len(record)
    return message(first + record * number, number + (1 if first else 0))


def pointers(length: int) -> bytes:
    """A record whose rdata is the root, then pointers each to the one before."""
    start = 12 + 11
    chain = b"\0" + b"".join(
        struct.pack("!H", 0xC000 | (start if not i else start + 2 * i - 1)) for i in range(length)
    )
    return b"\0\0\x10\0\1\0\0\0\0" + struct.pack("!H", len(chain)) + chain


A = b"\0\1\0\1\0\0\0\5\0\4\1\2\3\4"
EMPTY = b"\0\x10\0\1\0\0\0\5\0\0"
DEEP = b"\1a" * 127 + b"\0"

BOMBS = {
    "counts that lie": message(bytes(SIZE - 12), 65535),
    "smallest records": filled(b"", b"\0" + EMPTY),
    "pointers to one name": filled(DEEP + A, b"\xc0\x0c" + A),
    "aliases of a deep name": filled(DEEP + A, b"\xc0\x0c\0\5\0\1\0\0\0\5\0\2\xc0\x0c"),
    "long chains of pointers": filled(
        pointers(8000), struct.pack("!H", 0xC000 | (24 + 2 * 7900)) + A
    ),
    "chains just short enough": filled(
        pointers(8000), struct.pack("!H", 0xC000 | (24 + 2 * 120)) + A
    ),
    "endless labels": message(b"\1a" * 32000, 1),
}


class Steps:
    """Counts the lines that run inside a `with`."""

    def __init__(self) -> None:
        self.number = 0

    def __enter__(self) -> Steps:
        self._before = sys.gettrace()
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)

    def _trace(self, frame: FrameType, event: str, arg: Any) -> Any:
        self.number += event == "line"
        return self._trace


def serve(bomb: bytes) -> None:
    asked = Request.from_wire(query(b"\1a\0", 1, edns=edns.Edns(1232)))
    try:
        reply = Reply.from_wire(bomb)
        typify(reply, 1.0)
    except FormError:
        return
    finish(asked, reply)


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS.keys())
def test_a_reply_costs_no_more_than_its_length(bomb: bytes) -> None:
    with Steps() as steps:
        serve(bomb)
    assert steps.number < 3 * SIZE
    tracemalloc.start()
    serve(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize(
    "body",
    [
        QUESTION + edns.opt_record(options=edns.option(3) * 16000),
        QUESTION + b"\0" + EMPTY * 5000,
        b"\1a" * 32000,
        QUESTION + b"\xff" * 65000,
    ],
)
@pytest.mark.parametrize("additional", [0, 1, 2, 65535])
def test_a_query_costs_next_to_nothing(body: bytes, additional: int) -> None:
    data = struct.pack("!HHHHHH", 1, 0, 1, 0, 0, additional) + body
    with Steps() as steps:
        answer = accept(data)
    assert steps.number < 2000
    assert not isinstance(answer, bytes) or len(answer) < 64
