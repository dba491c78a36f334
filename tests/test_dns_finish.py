"""What is sent: ID, OPT, and what is left of a reply that its client cannot take."""

from __future__ import annotations

import struct
from dataclasses import replace

import dnslib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.dns import Reply, Request, edns, finish, names, query, records
from corepy.dns import constants as c

NAME = names.from_text("headless.default.svc.cluster.local.")
FRAGMENT = 1480


def request(udp_size: int | None = None, proto: str = "udp", do: bool = False) -> Request:
    opt = None if udp_size is None else edns.Edns(udp_size, do)
    asked = Request.from_wire(query(NAME, 1, ident=0x1234, edns=opt))
    asked.context = replace(asked.context, protocol=proto)
    return asked


def a_records(number: int) -> list[bytes]:
    return [records.rr(NAME, c.TYPE_A, 5, struct.pack("!I", 0x0A000000 + i)) for i in range(number)]


def reply_with(number: int, uncompressed: bool = False) -> Reply:
    asked = request()
    if not uncompressed:
        return asked.reply(answer=a_records(number))
    head = asked.reply().wire
    return Reply(b"".join((head[:6], struct.pack("!H", number), head[8:], *a_records(number))))


def parse(wire: bytes) -> dnslib.DNSRecord:
    return dnslib.DNSRecord.parse(wire)


def test_the_id_is_the_requests() -> None:
    reply = reply_with(2)
    reply.wire = b"\xaa\xbb" + reply.wire[2:]
    for asked in (request(), request(1232), request(proto="tcp")):
        assert finish(asked, reply)[:2] == b"\x12\x34"
    assert reply.wire[:2] == b"\xaa\xbb"


def test_no_opt_without_edns() -> None:
    reply = reply_with(1)
    reply.options = edns.ede(3, "stale")
    assert finish(request(), reply) == b"\x12\x34" + reply.wire[2:]


@pytest.mark.parametrize("do", [True, False])
@pytest.mark.parametrize("size", [0, 512, 1232, 65535])
def test_opt_echoes_size_and_do(size: int, do: bool) -> None:
    parsed = parse(finish(request(size, do=do), reply_with(1)))
    assert len(parsed.ar) == 1
    assert parsed.ar[0].rclass == size
    assert parsed.ar[0].ttl == (0x8000 if do else 0)
    assert parsed.ar[0].rdata == []


def test_the_replys_options_are_sent_not_the_clients() -> None:
    asked = Request.from_wire(
        query(NAME, 1, edns=edns.Edns(1232, options=edns.option(10, b"12345678")))
    )
    reply = reply_with(1)
    assert parse(finish(asked, reply)).ar[0].rdata == []
    reply.options = edns.option(3, b"id") + edns.ede(3)
    sent = parse(finish(asked, reply)).ar[0]
    assert [(o.code, o.data) for o in sent.rdata] == [(3, b"id"), (15, b"\0\3")]


NSID, EXPIRE, COOKIE, KEEPALIVE = (edns.option(code) for code in (3, 9, 10, 11))
PADDING, PRIVATE = edns.option(12, bytes(30)), edns.option(65001, b"text")


def echoing(options: bytes, *codes: int, udp_size: int = 1232) -> Request:
    """Return a query with these options, at a server that echoes those of `codes`, too."""
    asked = Request.from_wire(query(NAME, 1, edns=edns.Edns(udp_size, options=options)))
    echoed = asked.context.echoed_options | set(codes)
    asked.context = replace(asked.context, echoed_options=echoed)
    return asked


def options_of(wire: bytes) -> list[tuple[int, bytes]]:
    return [(each.code, bytes(each.data)) for each in parse(wire).ar[-1].rdata]


@pytest.mark.parametrize(
    ("options", "codes", "expected"),
    [
        (NSID + EXPIRE + COOKIE + KEEPALIVE + PRIVATE, (), []),
        (PADDING, (), [(12, bytes(30))]),
        (PADDING + PRIVATE, (), [(12, bytes(30))]),
        (PRIVATE + PADDING, (65001,), [(65001, b"text"), (12, bytes(30))]),
        (PRIVATE + NSID, (65001, 65002), [(65001, b"text")]),
        (PRIVATE + PRIVATE, (65001,), [(65001, b"text"), (65001, b"text")]),
    ],
)
def test_registered_options_and_padding_are_echoed(
    options: bytes, codes: tuple[int, ...], expected: list[tuple[int, bytes]]
) -> None:
    assert options_of(finish(echoing(options, *codes), reply_with(1))) == expected


def test_an_option_of_the_reply_replaces_the_echoed_one() -> None:
    asked, reply = echoing(PRIVATE + PADDING, 65001), reply_with(1)
    reply.options = edns.option(65001, b"own") + edns.ede(3)
    expected = [(65001, b"own"), (15, b"\0\3"), (12, bytes(30))]
    assert options_of(finish(asked, reply)) == expected


def test_echoed_options_are_dropped_before_records() -> None:
    asked, reply = echoing(edns.option(12, bytes(400)), udp_size=512), reply_with(10)
    parsed = parse(finish(asked, reply))
    assert (len(parsed.rr), parsed.header.tc, parsed.ar[0].rdata) == (10, 0, [])


def test_echoed_options_are_dropped_before_those_of_the_reply() -> None:
    """Both together may exceed even the length field of an OPT record."""
    own, reply = edns.ede(22, "no upstream answered"), reply_with(1)
    reply.options = own
    room = c.MAX_SIZE - len(reply.wire) - edns.OPT_SIZE - len(own) - 4
    for padding in (room, room + 1, room + 40):
        asked = echoing(edns.option(12, bytes(padding)))
        asked.context = replace(asked.context, protocol="tcp")
        sent = finish(asked, reply)
        assert len(sent) <= asked.size
        expected = [(12, bytes(padding))] if padding == room else []
        assert options_of(sent) == [(15, b"\0\x16no upstream answered"), *expected]
        assert (sent[2] & 2, sent[6:8]) == (0, b"\0\1")


def test_nothing_of_another_edns_version_is_echoed() -> None:
    """Its options are not checked: they may have another format."""
    opt = edns.opt_record(1232, options=b"\0\x0c\xff", version=1)
    asked = Request.from_wire(query(NAME, 1)[:11] + b"\1" + query(NAME, 1)[12:] + opt)
    assert parse(finish(asked, asked.error(c.BADVERS))).ar[0].rdata == []


@pytest.mark.parametrize("others", [0, 1, 254, 255, 256, 300])
def test_additional_count_carries_over(others: int) -> None:
    extra = [records.rr(b"\0", c.TYPE_TXT, 5, b"\0")] * others
    asked = request(65535, proto="tcp")
    wire = finish(asked, asked.reply(additional=extra))
    assert struct.unpack_from("!H", wire, 10)[0] == others + 1
    assert len(parse(wire).ar) == others + 1


def test_compression_alone_makes_it_fit() -> None:
    reply = reply_with(20, uncompressed=True)
    assert len(reply.wire) > 1000
    sent = finish(request(), reply)
    assert len(sent) <= 512
    parsed = parse(sent)
    assert (len(parsed.rr), parsed.header.tc) == (20, 0)
    assert [str(r.rname) for r in parsed.rr] == ["headless.default.svc.cluster.local."] * 20


def test_compression_saves_a_fragment() -> None:
    reply = reply_with(40, uncompressed=True)
    assert len(reply.wire) > FRAGMENT
    sent = finish(request(4096), reply)
    assert len(sent) < FRAGMENT
    assert len(parse(sent).rr) == 40
    # Over TCP there is nothing to save.
    assert len(finish(request(4096, proto="tcp"), reply)) > FRAGMENT


def test_fragments_begin_earlier_over_ipv6() -> None:
    reply = reply_with(26, uncompressed=True)
    asked = request(4096)
    asked.peer = ("192.0.2.1", 1)
    asked.client = ("2001:db8::1", 1)  # the reply goes to the peer
    assert 1220 < len(finish(asked, reply)) <= FRAGMENT
    asked = request(4096)
    asked.peer = ("2001:db8::1", 1, 0, 0)
    asked.client = ("192.0.2.1", 1)
    assert len(finish(asked, reply)) < 1220


def test_a_compressed_reply_of_any_size_is_sent_as_it_is() -> None:
    reply = reply_with(200)
    assert finish(request(65535), reply)[12 : len(reply.wire)] == reply.wire[12:]


@pytest.mark.parametrize("uncompressed", [True, False])
@pytest.mark.parametrize("udp_size", [None, 512, 513, 700, 1232])
def test_truncation(udp_size: int | None, uncompressed: bool) -> None:
    reply = reply_with(100, uncompressed)
    asked = request(udp_size)
    sent = finish(asked, reply)
    parsed = parse(sent)
    assert asked.size - 16 < len(sent) <= asked.size
    assert parsed.header.tc == 1
    assert len(parsed.ar) == (0 if udp_size is None else 1)
    assert [str(r.rdata) for r in parsed.rr] == [f"10.0.0.{i}" for i in range(len(parsed.rr))]
    assert not reply.tc


def test_later_sections_go_when_an_earlier_one_is_cut() -> None:
    big = records.rr(b"\1b\0", c.TYPE_TXT, 5, (b"\xff" + b"x" * 255) * 2)
    small = records.rr(b"\1s\0", c.TYPE_A, 5, b"1234")
    asked = request(512)
    parsed = parse(finish(asked, asked.reply(0, [small, big, small], [small], [small])))
    assert (len(parsed.rr), len(parsed.auth), len(parsed.ar)) == (1, 0, 1)
    parsed = parse(finish(asked, asked.reply(0, [small], [small], [big, small])))
    assert (len(parsed.rr), len(parsed.auth), len(parsed.ar), parsed.header.tc) == (1, 1, 1, 1)


def test_tc_stays_when_all_fits() -> None:
    reply = reply_with(1)
    reply.wire = reply.wire[:2] + bytes((reply.wire[2] | 2,)) + reply.wire[3:]
    assert parse(finish(request(), reply)).header.tc == 1


def test_extended_errors_go_before_data() -> None:
    reply = reply_with(27)
    reply.options = edns.ede(3, "x" * 30)
    asked = request(512)
    parsed = parse(finish(asked, reply))
    assert (len(parsed.rr), parsed.header.tc, parsed.ar[0].rdata) == (27, 1, [])


def test_options_too_long_for_anything_are_dropped() -> None:
    reply = request().error(c.REFUSED)
    reply.options = edns.option(65001, bytes(600))
    sent = finish(request(512), reply)
    parsed = parse(sent)
    assert (parsed.header.rcode, parsed.header.tc, parsed.ar[0].rdata) == (c.REFUSED, 1, [])
    assert len(sent) <= 512


def test_an_extended_error_goes_before_data_and_other_options() -> None:
    """RFC 8914 section 3."""
    reply = reply_with(28)
    reply.options = edns.option(3, b"id") + edns.ede(3, "x" * 60)
    sent = finish(request(512), reply)
    parsed = parse(sent)
    assert [(o.code, o.data) for o in parsed.ar[0].rdata] == [(3, b"id")]
    assert parsed.header.tc == 1
    # As many records as fit beside the option that is left, of 6 bytes.
    question = 12 + len(NAME) + 4
    assert len(parsed.rr) == (512 - question - 11 - 6) // 16


@pytest.mark.parametrize("size", [512, 1232])
def test_a_small_message_that_claims_many_records(size: int) -> None:
    """With OPT the count takes a second byte; what a plugin claims is not checked here."""
    wire = request().reply().wire
    sent = finish(request(size), Reply(wire[:11] + b"\xff" + wire[12:]))
    assert sent[10:12] == b"\1\0"


@pytest.mark.parametrize(("size", "compressed"), [(0x4000, True), (0x4001, False)])
@pytest.mark.parametrize("limit", [4096, 4097])
def test_large_messages_are_compressed_where_it_is_worth_the_time(
    size: int, compressed: bool, limit: int
) -> None:
    """One that is larger than pointers reach, only for a client that takes little."""
    number = (size - 200) // len(a_records(1)[0])
    padded = reply_with(number, uncompressed=True)
    wire = padded.wire
    filler = size - len(wire) - 11
    text = records.rr(b"\0", c.TYPE_TXT, 5, bytes(filler))
    padded.wire = wire[:11] + b"\1" + wire[12:] + text
    assert len(padded.wire) == size
    sent = parse(finish(request(limit + 11), padded))  # OPT takes 11 bytes
    assert sent.header.tc == 1
    assert (len(sent.rr) > 100) is (compressed or limit == 4096)


def test_the_largest_tcp_message() -> None:
    strings = (b"\xff" + b"x" * 255) * 255
    huge = [records.rr(NAME, c.TYPE_TXT, 5, strings), records.rr(b"\1a\0", 1, 5, b"1234")]
    for asked in (request(proto="tcp"), request(1232, proto="tcp")):
        sent = finish(asked, asked.reply(answer=huge * 2))
        assert len(sent) <= 65535
        parsed = parse(sent)
        assert (len(parsed.rr), parsed.header.tc) == (2, 1)


def test_a_reply_that_cannot_be_read_becomes_servfail() -> None:
    reply = reply_with(100)
    reply.wire = reply.wire[:6] + b"\xff\xff" + reply.wire[8:]
    for udp_size in (None, 1232):
        asked = request(udp_size)
        parsed = parse(finish(asked, reply))
        assert (parsed.header.rcode, parsed.rr) == (c.SERVFAIL, [])
        assert str(parsed.q.qname) == asked.qname


owners = st.sampled_from([NAME, b"\1a" + NAME, b"\1b\0", b"\0"])
rdata = st.binary(max_size=255).map(lambda text: bytes((len(text),)) + text)
sections = st.lists(
    st.builds(records.rr, owners, st.just(c.TYPE_TXT), st.just(5), rdata), max_size=8
)


@settings(deadline=None)
@given(
    sections,
    sections,
    sections,
    st.one_of(st.none(), st.integers(0, 2000)),
    st.sampled_from(["udp", "tcp"]),
    st.sampled_from([b"", edns.ede(3, "stale"), edns.option(3, b"x" * 200)]),
)
def test_whatever_is_sent_fits_and_says_so(
    answer: list[bytes],
    authority: list[bytes],
    additional: list[bytes],
    udp_size: int | None,
    proto: str,
    options: bytes,
) -> None:
    asked = request(udp_size, proto)
    reply = asked.reply(0, answer, authority, additional)
    reply.options = options
    sent = finish(asked, reply)
    assert len(sent) <= asked.size
    parsed, whole = parse(sent), parse(reply.wire)
    opts = [rr for rr in parsed.ar if rr.rtype == c.TYPE_OPT]
    assert len(opts) == (0 if udp_size is None else 1)
    before = [str(r) for r in (*whole.rr, *whole.auth, *whole.ar)]
    after = [str(r) for r in (*parsed.rr, *parsed.auth, *parsed.ar) if r.rtype != c.TYPE_OPT]
    assert after == before[: len(after)]
    lost_option = udp_size is not None and bool(options) and not opts[0].rdata
    assert parsed.header.tc == (len(after) < len(before) or lost_option)
