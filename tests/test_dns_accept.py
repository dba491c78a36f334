"""What gets in: miekg/dns's accept rules, table by table, and noise."""

from __future__ import annotations

import struct

import dnslib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.dns import Request, accept, edns, query, records
from corepy.dns import constants as c
from corepy.dns.form_error import FormError

NAME = b"\3WWW\7example\3org\0"
QUESTION = NAME + b"\0\1\0\1"
LONG = (b"\x3f" + b"x" * 63) * 3
OPT = edns.opt_record()
TSIG = b"\1k\0\0\xfa\0\xff\0\0\0\0" + struct.pack("!H", 22) + b"\4hmac\0" + bytes(16)
SOA = records.rr(NAME, c.TYPE_SOA, 5, b"\0\0" + bytes(20))


def message(
    body: bytes = QUESTION,
    flags: int = c.FLAG_RD,
    qd: int = 1,
    an: int = 0,
    ns: int = 0,
    ar: int = 0,
) -> bytes:
    return struct.pack("!HHHHHH", 0xBEEF, flags, qd, an, ns, ar) + body


def accepted(data: bytes) -> Request:
    request = accept(data)
    assert isinstance(request, Request)
    return request


def refused(data: bytes) -> dnslib.DNSRecord:
    answer = accept(data)
    assert isinstance(answer, bytes)
    parsed = dnslib.DNSRecord.parse(answer)
    assert (parsed.header.id, parsed.header.qr, parsed.header.aa) == (0xBEEF, 1, 0)
    assert len(answer) <= len(data)
    return parsed


def test_a_plain_query() -> None:
    data = message(flags=c.FLAG_RD | c.FLAG_CD)
    request = accepted(data)
    assert request.wire == data
    assert (request.id, request.flags) == (0xBEEF, c.FLAG_RD | c.FLAG_CD)
    assert request.name_wire == NAME.lower()
    assert (request.qtype, request.qclass, request.edns) == (1, 1, None)
    assert request.question_end == len(data)
    assert (request.rd, request.cd, request.ad, request.tc, request.do) == (
        True,
        True,
        False,
        False,
        False,
    )


@pytest.mark.parametrize("options", [b"", edns.option(10, b"8 bytes."), edns.option(3)])
def test_a_query_with_edns(options: bytes) -> None:
    opt = edns.opt_record(1400, do=True, options=options)
    request = accepted(message(QUESTION + opt, ar=1))
    assert request.edns is not None
    assert (request.edns.udp_size, request.edns.options) == (1400, options)
    assert request.do
    assert request.question == QUESTION


def opt_with(options: bytes) -> bytes:
    return edns.opt_record(options=options)


LET_IN = {
    "root": message(b"\0\0\2\0\1"),
    "NOTIFY with SOA": message(QUESTION + SOA, flags=c.OPCODE_NOTIFY << 11, an=1),
    "IXFR with SOA": message(NAME + b"\0\xfb\0\1" + SOA, ns=1),
    "OPT and TSIG": message(QUESTION + OPT + TSIG, ar=2),
    "OPT behind another record": message(QUESTION + SOA + OPT, ar=2),
    "TSIG alone": message(QUESTION + TSIG, ar=1),
    "empty record at the root": message(QUESTION + b"\0\0\x10" + bytes(8), ar=1),
    "owner points to the question": message(
        QUESTION + b"\xc0\x0c" + records.rr(b"", 1, 0, b"1234"), ar=1
    ),
    "class CH": message(NAME + b"\0\x10\0\3"),
    "label with a zero byte": message(b"\3a\0b\0\0\1\0\1"),
    "longest name": message(LONG + b"\x3d" + b"z" * 61 + b"\0\0\1\0\1"),
    "bytes behind the end": message(QUESTION + b"tail"),
    "bytes behind OPT": message(QUESTION + OPT + b"tail", ar=1),
    "bytes behind options": message(QUESTION + opt_with(edns.option(3)) + b"tail", ar=1),
}  # fmt: skip


@pytest.mark.parametrize("data", LET_IN.values(), ids=LET_IN.keys())
def test_let_in(data: bytes) -> None:
    request = accepted(data)
    assert data[:10] == request.wire[:10]  # without the count of the section with TSIG
    assert data[12:].startswith(request.wire[12:])
    assert not request.wire.endswith((b"tail", TSIG))
    assert (request.edns is not None) == (OPT[:5] in data)


@pytest.mark.parametrize("length", range(12))
def test_shorter_than_a_header_is_dropped(length: int) -> None:
    assert accept(message()[:length]) is None


@pytest.mark.parametrize("opcode", range(16))
def test_replies_are_dropped_whatever_they_are(opcode: int) -> None:
    assert accept(message(flags=c.FLAG_QR | opcode << 11)) is None
    assert accept(message(b"", flags=c.FLAG_QR | opcode << 11, qd=9)) is None


@pytest.mark.parametrize("opcode", sorted(set(range(16)) - {c.OPCODE_QUERY, c.OPCODE_NOTIFY}))
def test_other_opcodes_are_not_implemented(opcode: int) -> None:
    header = refused(message(flags=opcode << 11 | c.FLAG_RD)).header
    assert (header.rcode, header.opcode, header.q) == (c.NOTIMP, opcode, 0)


@pytest.mark.parametrize(
    "counts",
    [{"qd": 0}, {"qd": 2}, {"an": 2}, {"ns": 2}, {"ar": 3}, {"qd": 65535}, {"ar": 65535}],
    ids=str,
)
def test_counts(counts: dict[str, int]) -> None:
    for body in (QUESTION, QUESTION + SOA * 3):
        assert refused(message(body, **counts)).header.rcode == c.FORMERR


POINTERS = {
    f"question that points to {target}": message(label + struct.pack("!HHH", 0xC000 | target, 1, 1))
    for target in (0, 2, 4, 11, 12, 0x100, 0x3F00)
    for label in (b"", b"\1a")
}

MALFORMED = {
    "header only": message(b""),
    "name cut off": message(NAME[:-3]),
    "type missing": message(NAME),
    "class cut off": message(QUESTION[:-1]),
    "pointer in the question": message(b"\xc0\x0c\0\1\0\1"),
    "pointer behind a label": message(b"\1a\xc0\x0c\0\1\0\1"),
    **POINTERS,
    "label type 01": message(b"\x41a\0\0\1\0\1"),
    "name of 256 bytes": message(LONG + b"\x3e" + b"z" * 62 + b"\0\0\1\0\1"),
    "two OPT": message(QUESTION + OPT + OPT, ar=2),
    "OPT as answer": message(QUESTION + OPT, an=1),
    "OPT not at the root": message(QUESTION + b"\1a" + OPT, ar=1),
    "OPT cut off": message(QUESTION + OPT[:-1], ar=1),
    "OPT promised": message(QUESTION, ar=1),
    "option cut off": message(QUESTION + opt_with(b"\0\x0a\0\x08abc"), ar=1),
    "bad client subnet": message(QUESTION + opt_with(edns.option(8, b"\0\1\x40\0")), ar=1),
    "rdata cut off": message(QUESTION + SOA[:-1], ns=1),
    "rdata of the wrong shape": message(QUESTION + records.rr(NAME, 1, 0, b"123"), ar=1),
    "owner loops": message(QUESTION + b"\xc0\x21" + records.rr(b"", 1, 0, b"1234"), ar=1),
    "eleven bytes that are no record": message(QUESTION + b"\1" * 11, ar=1),
}  # fmt: skip


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_is_form_error(data: bytes) -> None:
    parsed = refused(data)
    assert (parsed.header.rcode, parsed.header.opcode, parsed.header.rd) == (c.FORMERR, 0, 1)
    with pytest.raises(FormError):
        Request.from_wire(data)


@pytest.mark.parametrize("data", POINTERS.values(), ids=POINTERS.keys())
def test_form_error_does_not_echo_a_name_with_a_pointer(data: bytes) -> None:
    assert accept(data) == struct.pack("!HHQ", 0xBEEF, 0x8101, 0)


def test_form_error_shows_the_question_it_could_read() -> None:
    parsed = refused(message(QUESTION + OPT[:-1], ar=1))
    assert str(parsed.q.qname) == "WWW.example.org."
    assert refused(message(NAME)).header.q == 0


@pytest.mark.parametrize("version", [1, 255])
def test_other_edns_versions(version: int) -> None:
    opt = edns.opt_record(1400, do=True, version=version, options=b"odd")
    parsed = refused(message(QUESTION + opt, ar=1))
    reply_opt = parsed.ar[0]
    assert (parsed.header.rcode, parsed.header.ar) == (c.BADVERS & 15, 1)
    assert (reply_opt.rtype, reply_opt.rclass) == (c.TYPE_OPT, 1400)
    assert reply_opt.ttl == (c.BADVERS >> 4) << 24 | 0x8000


@settings(deadline=None)
@given(st.binary(max_size=120))
def test_arbitrary_bytes_get_at_most_a_short_answer(data: bytes) -> None:
    check_answer(data)


@settings(deadline=None)
@given(
    st.sampled_from([*LET_IN.values(), *MALFORMED.values()]),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=5),
    st.integers(0, 200),
)
def test_mutated_queries(data: bytes, changes: list[tuple[int, int]], cut: int) -> None:
    buf = bytearray(data)
    for at, value in changes:
        buf[at % len(buf)] = value
    check_answer(bytes(buf))
    check_answer(bytes(buf[:cut]))


def check_answer(data: bytes) -> None:
    result = accept(data)
    if result is None:
        assert len(data) < 12 or data[2] & 0x80
    elif isinstance(result, bytes):
        assert result[:2] == data[:2]
        assert result[2] & 0x80
        assert len(result) <= len(data) + 11
    else:
        # Whatever got in can be answered, printed and asked again.
        assert result.name.endswith(".")
        assert result.qname.lower() == result.name
        again = result.derive(do=True)
        assert again.name_wire == result.name_wire
        assert again.do
        assert accept(result.wire) is not None


@settings(deadline=None)
@given(st.integers(0, 65535), st.integers(0, 65535), st.integers(0, 65535), st.booleans())
def test_query_reads_back(ident: int, qtype: int, size: int, do: bool) -> None:
    data = query(NAME, qtype, ident=ident, edns=edns.Edns(size, do))
    request = accepted(data)
    assert (request.id, request.qtype, request.do, request.rd) == (ident, qtype, do, True)
    parsed = dnslib.DNSRecord.parse(data)
    assert (parsed.header.id, parsed.q.qtype, parsed.ar[0].rclass) == (ident, qtype, size)
