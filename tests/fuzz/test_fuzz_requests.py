"""Queries of any shape: what is let in, what it is taken for, and what the others get."""

from __future__ import annotations

import struct

import dns.exception
import dns.message
import dns.name
import pytest

from corepy.dns import Request, accept, edns, finish
from corepy.dns.edns import parse_options
from corepy.testing.fuzzing import Source, briefly

LABELS = (
    b"www",
    b"WwW",
    b"example",
    b"a",
    b"\0",
    b"a.b",
    b"\xff",
    b"x" * 63,
    b"\xc0\x0c",
    b"A\0\1",
)
TYPES = (1, 28, 255, 251, 252, 0, 41, 65, 0x4141, 0x6161, 0x2E2E, 0xFFFF)
CLASSES = (1, 3, 255, 0, 0x4141, 0xFFFF)


def build(source: Source) -> bytes:
    """A query that may be right, and may be wrong anywhere."""
    name = b""
    for _ in range(source.number(0, 5)):
        label = source.pick(LABELS)
        name += bytes((len(label),)) + label
    if source.one_in(6):
        name += struct.pack("!H", 0xC000 | source.number(0, 300))
    elif not source.one_in(12):
        name += b"\0"
    question = name + struct.pack("!HH", source.pick(TYPES), source.pick(CLASSES))
    counts = [1, 0, 0, 0]
    rest = b""
    for _ in range(source.number(0, 2)):
        kind = source.number(0, 3)
        if kind < 2:
            options = b"".join(
                edns.option(
                    source.pick((3, 8, 10, 11, 12, 15, 65001)), source.take(source.number(0, 9))
                )
                for _ in range(source.number(0, 3))
            )
            version = 1 if source.one_in(8) else 0
            rest += edns.opt_record(source.number(0, 65535), source.one_in(2), 0, options, version)
        else:
            owner = source.pick((b"\0", b"\xc0\x0c", b"\xc0\0", b"\1k\0"))
            rdata = source.take(source.number(0, 30))
            rtype = source.pick((1, 2, 5, 6, 250, 16))
            rest += owner + struct.pack("!HHIH", rtype, 255, 0, len(rdata)) + rdata
        counts[3 if not source.one_in(8) else source.number(1, 2)] += 1
    if source.one_in(6):
        counts[source.number(0, 3)] = source.pick((0, 1, 2, 3, 0xFFFF))
    flags = source.pick((0x0100, 0x0000, 0x0120, 0x0110, 0x2000, 0x2800, 0x8180, 0x0300))
    wire = bytearray(struct.pack("!HHHHHH", 0xBEEF, flags, *counts) + question + rest)
    for _ in range(source.number(0, 3) if source.one_in(4) else 0):
        wire[source.number(0, len(wire) - 1)] = source.byte()
    if source.one_in(8):
        del wire[source.number(0, len(wire)) :]
    return bytes(wire) + source.take(source.number(0, 4) if source.one_in(10) else 0)


def check(data: bytes) -> None:
    source = Source(data)
    wire = source.take(600) if source.one_in(8) else build(source)
    answer = accept(wire)
    if answer is None:
        assert len(wire) < 12 or wire[2] & 0x80
    elif isinstance(answer, bytes):
        check_refusal(wire, answer)
    else:
        check_request(wire, answer)


def check_refusal(wire: bytes, answer: bytes) -> None:
    """It holds the header and perhaps the question, which says the same in it, and perhaps OPT."""
    assert answer[:2] == wire[:2]
    assert answer[2] & 0x80
    assert answer[6:10] == bytes(4)
    parsed = dns.message.from_wire(answer, one_rr_per_rrset=True)
    body = answer[12:]
    if parsed.edns >= 0:
        body = body[: -len(edns.opt_record())]
        assert len(answer) <= max(512, parsed.payload)
    assert wire[12:].startswith(body)
    if body:
        name = parsed.question[0].name
        assert len(body) == len(bytes(name.to_wire() or b"")) + 4, (
            "a pointer in the question is echoed"
        )


def check_request(wire: bytes, request: Request) -> None:
    """It says what dnspython reads, where that can read it."""
    assert wire.startswith(request.wire)
    end = request.question_end
    assert request.wire[12:end] == request.question
    name = dns.name.from_wire(request.wire, 12)[0]
    assert dns.name.from_text(request.qname) == name
    assert dns.name.from_text(request.qname).labels == name.labels
    assert request.name_wire == name.to_wire().lower()
    assert request.question[-4:] == struct.pack("!HH", request.qtype, request.qclass)
    assert request.asked.lower() == request.question[:-4].lower() + request.question[-4:].lower()
    if request.edns is not None:
        assert request.edns.version == 0
        parse_options(request.edns.options)
    for reply in (request.error(2, ede=(1, "text")), request.reply()):
        sent = finish(request, reply)
        assert len(sent) <= request.size
        parsed = dns.message.from_wire(sent, ignore_trailing=False)
        assert parsed.id == request.id
        assert (parsed.edns >= 0) == (request.edns is not None)
    derived = request.derive(flags_set=0x20)
    assert derived.question == request.question
    try:
        theirs = dns.message.from_wire(request.wire, question_only=request.edns is None)
    except (dns.exception.DNSException, ValueError):
        return
    if request.opcode == 0:
        assert (theirs.edns >= 0) == (request.edns is not None)


def raw(wire: bytes) -> bytes:
    """The input that stands for just this message."""
    return b"\7" + wire


HEAD = struct.pack("!HHHHHH", 0xBEEF, 0x0100, 1, 0, 0, 0)
SEEDS = {
    "type and class that are letters": raw(HEAD + b"\3www\7example\0AAAA"),
    "pointer into the header": raw(HEAD + b"\xc0\0\0\1\0\1"),
    "pointer into the header behind a label": raw(HEAD + b"\1a\xc0\0\0\1\0\1"),
    "option cut off in another version": raw(
        HEAD[:11] + b"\1\0\0\1\0\1" + edns.opt_record(options=b"\0\x0a\0\xff", version=1)
    ),
}


@pytest.mark.parametrize("data", SEEDS.values(), ids=SEEDS.keys())
def test_seeds(data: bytes) -> None:
    check(data)


def test_any_query() -> None:
    briefly(check)
