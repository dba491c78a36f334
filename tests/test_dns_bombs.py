"""Messages built to be expensive: work and memory stay bounded (RFC 9267, users.md "Parser bombs").

Nothing here looks at a clock: the work is counted in lines executed, memory is measured.
"""

from __future__ import annotations

import ipaddress
import struct
import sys
import tracemalloc
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from corepy.dns import FormError, Reply, Request, accept, edns, finish, query
from corepy.dns.compress import LARGEST
from corepy.dns.reply_validation import reply_problem
from corepy.dns.response import typify
from corepy.dns.text import to_dig
from corepy.plugin import Handler
from corepy_cache.classify import classify
from corepy_loadbalance.loadbalance import LoadBalance
from corepy_loadbalance.orders import Preference
from corepy_loadbalance.weights import WeightFile

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


# Replies to QUESTION as large as can be, through everything that works on the event loop. A line takes 20
# to 40 ns, so each step is held to ten milliseconds.
MOST_STEPS = 250_000
OPT = edns.opt_record(options=edns.option(65001, b"x"))
DEEP_NAME = b"\1b" * 100 + b"\xc0\x0c"
WIDE = b"".join(b"\1" + bytes((97 + i % 26,)) for i in range(120))
POINTER = b"\xc0\x0c"


def reply(
    record: bytes,
    first: bytes = b"",
    last: bytes = b"",
    *,
    authority: bool = False,
    size: int = SIZE,
    each: int = 1,
) -> bytes:
    """As many times `record` (`each` records) as there is room for, between two others."""
    room = size - 12 - len(QUESTION) - len(first) - len(last)
    number = room // len(record)
    many, few = number * each, bool(first)
    counts = (few, many) if authority else (many + few, 0)
    head = struct.pack("!HHHHHH", 1, 0x8180, 1, *counts, bool(last))
    return head + QUESTION + first + record * number + last


def rr(rtype: int, rdata: bytes, owner: bytes = POINTER) -> bytes:
    return owner + struct.pack("!HHIH", rtype, 1, 60, len(rdata)) + rdata


def one_more(message: bytes) -> bytes:
    return message[:10] + b"\0\2" + message[12:]


FIRST = rr(5, DEEP_NAME)
TARGET = struct.pack("!H", 0xC000 | (12 + len(QUESTION) + 12))
WORDS = {
    "addresses": reply(rr(1, b"1234")),
    "addresses of another name": reply(rr(1, b"1234", TARGET), FIRST),
    "addresses and OPT": reply(rr(1, b"1234"), last=edns.opt_record()),
    "aliases of the question": reply(rr(5, POINTER)),
    "aliases of a deep name": reply(rr(5, TARGET, TARGET), FIRST),
    "names below a deep one": reply(rr(5, b"\1x" + TARGET, b"\1y" + TARGET), FIRST),
    "services at a deep name": reply(rr(33, bytes(6) + TARGET), FIRST),
    "exchanges": reply(rr(15, b"\0\1" + TARGET), FIRST),
    "uncompressed names of many labels": reply(rr(5, WIDE + b"\0", WIDE + b"\0")),
    "authority of SOA": reply(rr(6, TARGET * 2 + bytes(20)), FIRST, authority=True),
    "authority of NS": reply(rr(2, TARGET), FIRST, authority=True),
    "signatures": reply(rr(46, bytes(8) + b"\x7f\xff\xff\xff" + bytes(6) + TARGET), FIRST),
    "OPT in front of the last": one_more(reply(rr(16, b""), last=OPT + rr(1, b"1234"))),
    **{
        f"{what}, {size} bytes": reply(record, first, size=size)
        for size in (LARGEST, SIZE)
        for what, record, first in (
            ("pointers into a TTL", rr(1, b"1234", b"\xc0\x1b"), rr(1, b"1234")),
            ("pointers into the ID", rr(1, b"1234", b"\xc0\0"), b""),
            ("pointers to pointers", rr(1, b"1234", b"\xc0\x13"), rr(1, b"1234")),
        )
    },
    "addresses, 16 KiB": reply(rr(1, b"1234"), size=LARGEST),
    "services below a deep name, 4 KiB": reply(
        rr(33, bytes(6) + b"\1x" + TARGET, b"\1y" + TARGET) + rr(1, b"1234"),
        FIRST,
        size=4096,
        each=2,
    ),
    "exchanges in the wrong order, 4 KiB": reply(
        rr(15, b"\0\1" + TARGET) + rr(1, b"1234", b"\1z" + TARGET), FIRST, size=4096, each=2
    ),
    "exchanges in the wrong order, 16 KiB": reply(
        rr(15, b"\0\1" + TARGET) + rr(1, b"1234", b"\1z" + TARGET), FIRST, size=LARGEST, each=2
    ),
}


@pytest.mark.parametrize("qtype", [1, 255], ids=["A", "ANY"])
@pytest.mark.parametrize("name", WORDS)
def test_no_reply_holds_up_the_event_loop(name: str, qtype: int) -> None:
    question = query(b"\1a\0", qtype, edns=edns.Edns(4096, do=True))
    asked = Request.from_wire(question)
    wire = bytearray(WORDS[name])
    wire[12 : asked.question_end] = asked.question
    took: dict[str, int] = {}

    def step(what: str, work: Callable[[], object]) -> object:
        with Steps() as steps:
            try:
                result = work()
            except FormError:
                result = None
        took[what] = steps.number
        return result

    received = step("received", lambda: Reply.from_answer(bytes(wire), asked.question_end))
    if isinstance(received, Reply):
        step("judged", lambda: classify(received, asked, None))
        step("judged with DO", lambda: classify(received, asked, 1.0))
        step("checked", lambda: reply_problem(asked, received.copy()))
        for weights in (None, WEIGHTS):
            balance = LoadBalance(weights, PREFERENCE)
            balance.next = Returns(received)
            step(f"balanced by {weights}", lambda: run(balance.serve_dns(asked)))  # noqa: B023 - called at once
        for size in (512, 1232, 4096, 65535):
            asked.edns = edns.Edns(size)
            step(f"sent in {size}", lambda: finish(asked, received))
        asked.context = replace(asked.context, protocol="tcp")
        received.options = edns.option(65001, bytes(1000))
        step("sent over TCP", lambda: finish(asked, received))
    assert max(took.values()) < MOST_STEPS, took
    assert received is None or took["received"] + took["judged"] < 2 * MOST_STEPS


PREFERENCE = Preference([ipaddress.ip_network("192.0.2.0/24")])
WEIGHTS = WeightFile(Path("none"), 0)


class Returns(Handler):
    def __init__(self, reply: Reply) -> None:
        self.reply = reply

    async def serve_dns(self, _request: Request) -> Reply:
        return self.reply


def run(coroutine: Coroutine[Any, Any, Reply]) -> Reply:
    """Run what does not wait."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]  # a Reply
    raise AssertionError("it waits")


@pytest.mark.parametrize("name", WORDS)
def test_no_reply_takes_long_as_text(name: str) -> None:
    """It is written in a thread; the number of names is bounded."""
    with Steps() as steps:
        try:
            text = to_dig(WORDS[name])
        except FormError:
            text = ""
    assert steps.number < 10 * MOST_STEPS
    assert len(text.splitlines()) < 300
