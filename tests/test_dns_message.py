"""Request and Reply: what they say, what they cost nothing to say, and what becomes of them."""

from __future__ import annotations

import struct
import subprocess
import sys
from typing import Any

import dnslib
import pytest

from corepy.dns import (
    Edns,
    FormError,
    Reply,
    Request,
    RequestContext,
    edns,
    finish,
    names,
    query,
    records,
)
from corepy.dns import constants as c
from corepy.dns.reply_validation import reply_problem

NAME = names.from_text("Web.Example.org.")

OF_OTHER_TYPE = pytest.mark.pure_form("a value of another type is refused at once")


def request(**changes: object) -> Request:
    options: dict[str, object] = {"ident": 0x1234, "edns": None, "qtype": 1, "flags": c.FLAG_RD}
    options |= changes
    return Request.from_wire(query(NAME, **options))  # type: ignore[arg-type]  # a test's shorthand


def a_record(number: int, owner: bytes = NAME) -> bytes:
    return records.rr(owner, c.TYPE_A, 30, b"\xc0\0\2" + bytes((number,)))


def parse(wire: bytes) -> dnslib.DNSRecord:
    return dnslib.DNSRecord.parse(wire)


def test_what_is_read_late() -> None:
    asked = request(qtype=65280)
    assert asked.name == "web.example.org."
    assert asked.qname == "Web.Example.org."
    assert (asked.type, asked.class_) == ("TYPE65280", "IN")
    assert asked.question == NAME + b"\xff\0\0\1"
    assert asked.record is asked.record
    assert str(asked.record.q.qname) == "Web.Example.org."
    assert asked.opcode == 0
    assert request(flags=c.OPCODE_NOTIFY << 11).opcode == c.OPCODE_NOTIFY
    assert request(flags=c.FLAG_AD | c.FLAG_TC).ad
    assert request(flags=c.FLAG_AD | c.FLAG_TC).tc


@pytest.mark.parametrize("qtype", [1, 0x4141, 0x6161, 0x2E2E, 0x0041])
@pytest.mark.parametrize("qclass", [1, 0x4141, 0x2E2E])
@pytest.mark.parametrize("text", ["Web.Example.org.", ".", "a\\.b.", "\\000\\255."])
def test_the_name_as_asked_ends_before_the_type(qtype: int, qclass: int, text: str) -> None:
    asked = Request.from_wire(query(names.from_text(text), qtype, qclass))
    assert asked.qname == text


@pytest.mark.parametrize("qtype", [0x0041, 0x4100, 0x4141])
def test_types_that_differ_as_letters_do_are_different_questions(qtype: int) -> None:
    asked, other = request(qtype=qtype), request(qtype=qtype | 0x2020)
    assert reply_problem(other, asked.reply()) == "returned a reply to a different question"
    assert reply_problem(asked, asked.reply()) is None


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"extended_rcode": 0}, None),
        ({"extended_rcode": 255}, None),
        ({"extended_rcode": 256}, "set an rcode that is out of range"),
        ({"extended_rcode": -1}, "set an rcode that is out of range"),
        pytest.param(
            {"extended_rcode": 1.0}, "set an rcode that is out of range", marks=OF_OTHER_TYPE
        ),
        pytest.param(
            {"since": "soon"},
            "set a time of its reply to a value that is not in seconds",
            marks=OF_OTHER_TYPE,
        ),
        pytest.param(
            {"since": "soon", "extended_rcode": 255},
            "set a time of its reply to a value that is not in seconds",
            marks=OF_OTHER_TYPE,
        ),
        pytest.param(
            {"hit_counters": []},
            "set the hit counters of its reply to a value that is not a tuple",
            marks=OF_OTHER_TYPE,
        ),
    ],
)
def test_flaws_of_what_belongs_to_a_reply(values: dict[str, Any], problem: str | None) -> None:
    asked = request()
    reply = asked.reply()
    for name, value in values.items():
        setattr(reply, name, value)
    found = reply_problem(asked, reply)
    assert found is problem is None or (found or "").startswith(problem or "-")


def test_defaults_of_what_the_server_sets() -> None:
    asked = request()
    assert (asked.peer, asked.client, asked.local, asked.received) == (None, None, None, 0.0)
    assert asked.context == RequestContext(
        protocol="udp", server="", zone="", view="", uses_deadlines=True, router=None, route=None
    )
    assert (asked.remote, asked.local_address, asked.family) == (("", 0), ("", 0), 1)
    asked.metadata["key"] = 1
    assert asked.metadata == {"key": 1}
    assert request().metadata == {}


def test_unknown_attributes_are_errors() -> None:
    with pytest.raises(AttributeError, match="'Request' object has no attribute 'nmae'"):
        _ = request().nmae  # type: ignore[attr-defined,unused-ignore]  # the point of the test
    with pytest.raises(AttributeError):
        request().anything = 1  # type: ignore[attr-defined,unused-ignore]  # slots take no other


def test_addresses() -> None:
    asked = request()
    asked.peer = ("192.0.2.7", 53)
    asked.client = ("2001:db8::1", 4000, 0, 0)
    asked.local = ("192.0.2.1", 53)
    assert asked.remote == ("2001:db8::1", 4000)
    assert asked.local_address == ("192.0.2.1", 53)
    assert asked.family == 2


def test_a_client_that_is_set_later() -> None:
    asked = request()
    asked.peer = asked.client = ("192.0.2.7", 53)
    assert (asked.remote, asked.family) == (("192.0.2.7", 53), 1)
    asked.set_client(("2001:db8::1", 4000, 0, 0))
    assert (asked.remote, asked.family) == (("2001:db8::1", 4000), 2)
    assert asked.peer == ("192.0.2.7", 53)
    assert asked.derive(qtype=28).remote == ("2001:db8::1", 4000)


@pytest.mark.parametrize(
    ("proto", "udp_size", "expected"),
    [
        ("udp", None, 512),
        ("udp", 0, 512),
        ("udp", 511, 512),
        ("udp", 1232, 1232),
        ("udp", 65535, 65535),
        ("tcp", None, 65535),
        ("tls", 512, 65535),
    ],
)
def test_size(proto: str, udp_size: int | None, expected: int) -> None:
    asked = request(edns=None if udp_size is None else edns.Edns(udp_size))
    asked.context = RequestContext(protocol=proto)
    assert asked.size == expected


def test_set_udp_size_touches_no_other_request() -> None:
    one, other = (request(edns=edns.Edns(4096, do=True)) for _ in range(2))
    one.set_udp_size(1232)
    assert (one.size, one.do, other.size) == (1232, True, 4096)
    bare = request()
    bare.set_udp_size(1232)
    assert (bare.size, bare.edns) == (512, None)


@pytest.mark.parametrize("rcode", [c.NOERROR, c.SERVFAIL, c.REFUSED])
def test_error(rcode: int) -> None:
    asked = request(flags=c.FLAG_RD | c.FLAG_CD | c.FLAG_AD | c.FLAG_TC)
    reply = asked.error(rcode, "plugin/test: broken")
    assert (reply.rcode, reply.error, reply.ancount) == (rcode, "plugin/test: broken", 0)
    header = parse(reply.wire).header
    assert (header.qr, header.rd, header.cd, header.ad, header.tc) == (1, 1, 1, 0, 0)
    assert reply.wire[12:] == asked.question
    assert reply.deadline is None


def test_error_tells_the_client_why() -> None:
    asked = request(edns=edns.Edns(1232))
    reply = asked.error(c.SERVFAIL, ede=(edns.EDE_NETWORK_ERROR, "no route"))
    opt = parse(finish(asked, reply)).ar[0]
    assert [(o.code, o.data) for o in opt.rdata] == [(15, b"\0\x17no route")]
    assert len(parse(finish(request(), reply)).ar) == 0


def test_extended_rcode() -> None:
    reply = request().error(c.BADCOOKIE)
    assert (reply.rcode, reply.extended_rcode) == (c.BADCOOKIE, 1)
    sent = parse(finish(request(edns=edns.Edns(1232)), reply))
    assert sent.ar[0].ttl >> 24 << 4 | sent.header.rcode == c.BADCOOKIE
    # Without OPT there is no room for it, and the lower bits mean YXRRSET.
    assert parse(finish(request(), reply)).header.rcode == c.SERVFAIL


@pytest.mark.parametrize("as_bytes", [True, False])
def test_reply_from_records(as_bytes: bool) -> None:
    asked = request(flags=c.FLAG_RD | c.FLAG_CD)
    answer: dnslib.RR | bytes = a_record(1)
    if not as_bytes:
        answer = dnslib.RR("Web.Example.org.", 1, ttl=30, rdata=dnslib.A("192.0.2.1"))
    authority = dnslib.RR.fromZone("example.org. 5 NS ns.example.org.")
    additional = dnslib.RR.fromZone("ns.example.org. 5 A 192.0.2.53")
    reply = asked.reply(c.NOERROR, [answer], authority, additional, authoritative=True)
    parsed = parse(reply.wire)
    assert parsed.header.id == 0x1234
    assert (parsed.header.aa, parsed.header.rd, parsed.header.cd) == (1, 1, 1)
    assert (reply.aa, reply.tc, reply.ancount, reply.rcode) == (True, False, 1, 0)
    assert reply.wire[12 : asked.question_end] == asked.question
    assert [str(r.rname) for r in parsed.rr] == ["Web.Example.org."]
    assert str(parsed.rr[0].rdata) == "192.0.2.1"
    assert parsed.auth == authority
    assert parsed.ar == additional
    # The owner points to the question instead of repeating it.
    assert reply.wire.count(NAME) == 1


def test_reply_at_the_root() -> None:
    asked = Request.from_wire(query(b"\0", c.TYPE_NS))
    reply = asked.reply(answer=[records.rr(b"\0", c.TYPE_NS, 5, b"\1a\0")])
    assert str(parse(reply.wire).rr[0].rname) == "."


def test_names_that_only_begin_like_the_question() -> None:
    asked = Request.from_wire(query(b"\1a\0", 1))
    other = records.rr(b"\1a\1b\0", 1, 5, b"1234")
    assert str(parse(asked.reply(answer=[other]).wire).rr[0].rname) == "a.b."


def test_reply_record_is_one_object_until_the_wire_changes() -> None:
    reply = request().reply(answer=[a_record(1)])
    record = reply.record
    assert reply.record is record
    record.rr[0].ttl = 7
    record.header.rcode = c.NXDOMAIN
    record.add_ar(dnslib.EDNS0(udp_len=512, ext_rcode=1, opts=[dnslib.EDNSOption(3, b"id")]))
    reply.set_record(record)
    assert reply.record is record
    assert (reply.rcode, reply.extended_rcode, reply.options) == (0x13, 1, edns.option(3, b"id"))
    assert [reply.wire[at : at + 4] for at in reply.ttl_offsets] == [b"\0\0\0\7"]
    reply.wire = request().error(0).wire
    assert reply.record is not record
    assert (reply.record.rr, reply.ttl_offsets) == ([], [])


def test_set_record_round_trip() -> None:
    record = dnslib.DNSRecord.question("example.org", "MX").reply()
    record.add_answer(*dnslib.RR.fromZone("example.org. 5 MX 10 mx.example.org."))
    record.add_ar(dnslib.EDNS0(udp_len=512))
    reply = Reply(b"")
    reply.set_record(record)
    parsed = parse(reply.wire)
    assert (parsed.rr, parsed.ar, parsed.header.ar) == (record.rr, [], 0)


def test_from_wire_takes_opt_off() -> None:
    plain = request().reply(answer=[a_record(1), a_record(2)]).wire
    options = edns.ede(3, "stale")
    wire = plain[:11] + b"\1" + plain[12:] + edns.opt_record(4096, True, 1, options)
    reply = Reply.from_wire(wire)
    assert reply.wire == plain
    assert (reply.extended_rcode, reply.options) == (1, options)
    assert len(reply.ttl_offsets) == 2
    assert Reply.from_wire(plain + b"tail").wire == plain
    with pytest.raises(FormError):
        Reply.from_wire(plain[:-1])


def test_from_wire_with_opt_in_the_middle_has_the_right_ttls() -> None:
    tsig = records.rr(b"\1k\0", c.TYPE_TSIG, 0, b"\0" + bytes(16), c.CLASS_ANY)
    plain = request().reply(answer=[a_record(1)]).wire
    wire = plain[:11] + b"\2" + plain[12:] + edns.opt_record() + tsig
    reply = Reply.from_wire(wire)
    assert [struct.unpack_from("!I", reply.wire, at)[0] for at in reply.ttl_offsets] == [30, 0]


def test_copies_are_independent() -> None:
    reply = Reply(request().error(0).wire, 1, b"", "why", 12.5)
    twin = reply.copy()
    assert (twin.wire, twin.extended_rcode, twin.error, twin.deadline) == (
        reply.wire,
        1,
        "why",
        12.5,
    )
    twin.error = None
    assert reply.error == "why"


def test_derive_changes_only_what_is_asked() -> None:
    asked = request(edns=edns.Edns(4096, True, edns.option(3)))
    asked.peer, asked.client, asked.local = ("192.0.2.9", 5), ("192.0.2.8", 6), ("192.0.2.7", 53)
    asked.context, asked.received = RequestContext("tcp", "tcp", "dns://:53", "example."), 1.5
    asked.metadata["k"] = "v"
    same = asked.derive()
    assert same.wire == asked.wire
    for slot in ("peer", "client", "local", "received"):
        assert getattr(same, slot) == getattr(asked, slot)
    assert same.context is asked.context
    assert same.metadata is asked.metadata
    other = asked.derive(
        name_wire=b"\1B\0", qtype=28, qclass=3, flags_set=c.FLAG_CD, flags_clear=c.FLAG_RD, do=False
    )
    assert (other.name, other.qname, other.type, other.class_) == ("b.", "B.", "AAAA", "CH")
    assert (other.cd, other.rd, other.do, other.id) == (True, False, False, asked.id)
    assert other.edns is not None
    assert (other.edns.udp_size, other.edns.options) == (4096, edns.option(3))
    assert asked.do
    assert asked.name == "web.example.org."


@pytest.mark.parametrize("with_edns", [False, True])
def test_derive_keeps_the_version_of_the_client_in_ixfr(with_edns: bool) -> None:
    """RFC 1995 section 3: the SOA record in the authority section."""
    question = b"\1z\0\0\xfb\0\1"
    soa = b"\0\6\0\1" + bytes(4) + b"\0\x17" + b"\xc0\x0c\0" + bytes(20)
    opt = edns.opt_record(options=b"\xff\xfe\0\1x") if with_edns else b""
    counts = b"\0\1\0\0\0\1\0" + bytes((with_edns,))
    request = Request.from_wire(b"\0\7\0\0" + counts + question + b"\xc0\x0c" + soa + opt)
    copy = request.derive(flags_set=c.FLAG_AD, options=b"")
    plain = soa.replace(b"\0\x17\xc0\x0c", b"\0\x18\1z\0")
    end = 12 + len(question)
    assert copy.wire[6:10] == b"\0\0\0\1"
    assert copy.wire[end : end + 3 + len(plain)] == b"\1z\0" + plain
    assert copy.edns is not None
    assert request.derive(name_wire=b"\1y\0").wire[6:10] == bytes(4)


def test_derive_adds_edns() -> None:
    asked = request().derive(do=True)
    assert asked.edns is not None
    assert (asked.edns.udp_size, asked.do) == (edns.UDP_SIZE, True)
    assert request().derive(udp_size=4096).size == 4096
    assert request().derive(options=edns.option(3)).wire.endswith(edns.option(3))


def test_records_that_dnslib_cannot_hold_are_form_errors() -> None:
    reply = request().reply(answer=[records.rr(b"\1\xff\0", 1, 5, b"1234")])
    with pytest.raises(FormError, match="dnslib"):
        _ = reply.record


def test_dnslib_stays_out_until_it_is_asked_for() -> None:
    program = (
        "import sys, corepy.dns as d\n"
        "r = d.accept(d.query(b'\\1a\\0', 1, edns=d.Edns()))\n"
        "d.finish(r, r.error(2)); r.name; d.Reply.from_wire(r.reply(answer=[]).wire)\n"
        "assert not {'dnslib', 'asyncio'} & set(sys.modules)\n"
        "r.record\n"
        "assert 'dnslib' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_with_flags_is_a_cheap_derive() -> None:
    request = Request.from_wire(query(b"\3www\7example\0", 1, ident=7, edns=Edns(1232, True)))
    request.context = RequestContext(zone="example.")
    request.peer, request.client, request.local = ("192.0.2.1", 5), ("192.0.2.2", 6), b"local"
    request.metadata["a"] = "b"
    copy = request.with_flags(0x20)
    derived = request.derive(flags_set=0x20)
    assert copy.wire == derived.wire
    for slot in (
        "flags",
        "name_wire",
        "asked",
        "qtype",
        "qclass",
        "question_end",
        "context",
        "received",
        "peer",
        "client",
        "local",
        "metadata",
    ):
        assert getattr(copy, slot) == getattr(derived, slot)
    assert copy.edns is request.edns
    cleared = request.with_flags(0x20, 0x0110)
    assert cleared.wire == request.derive(flags_set=0x20, flags_clear=0x0110).wire
    assert (cleared.flags, request.flags) == (0x20, 0x0100)
    assert not request.ad


A_RECORD = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\xc0\0\2\1"
LONGER = b"\xc0\x0c\0\1\0\1\0\0\0\x3d\0\4\xc0\0\2\2"
FOREVER = b"\xc0\x0c\0\1\0\1\x80\0\0\0\0\4\xc0\0\2\2"
ALIAS = b"\xc0\x0c\0\5\0\1\0\0\0\x3c\0\2\xc0\x0c"
SPELLED = b"\1a\0\0\1\0\1\0\0\0\x3c\0\4\xc0\0\2\1"
OPT = b"\0\0\x29\4\xd0\0\0\0\0\0\0"
OPT_EXTENDED = b"\0\0\x29\4\xd0\1\0\0\0\0\0"
OPT_COOKIE = b"\0\0\x29\4\xd0\0\0\0\0\0\6\0\x0a\0\2ab"


@pytest.mark.parametrize("flags", [0x8180, 0x8380, 0x8183, 0xA180])
@pytest.mark.parametrize(
    ("sections", "counts", "plain"),
    [
        ([A_RECORD], (1, 0, 0), (60, 60)),
        ([A_RECORD, OPT], (1, 0, 1), (60, 60)),
        ([A_RECORD, LONGER, OPT], (2, 0, 1), (60, 61)),
        ([A_RECORD, FOREVER], (2, 0, 0), None),
        ([ALIAS, A_RECORD], (2, 0, 0), None),
        ([SPELLED], (1, 0, 0), None),
        ([A_RECORD, A_RECORD], (1, 1, 0), None),
        ([A_RECORD, A_RECORD, OPT], (1, 0, 2), None),
        ([A_RECORD, OPT_EXTENDED], (1, 0, 1), None),
        ([A_RECORD, OPT_COOKIE], (1, 0, 1), None),
        ([A_RECORD, b"junk"], (1, 0, 0), None),
        ([A_RECORD[:-1]], (1, 0, 0), None),
        ([A_RECORD], (2, 0, 0), None),
        ([OPT], (0, 0, 1), None),
        ([], (0, 0, 0), None),
    ],
)
def test_from_answer_says_what_from_wire_says(flags, sections, counts, plain):
    question = b"\1a\0\0\1\0\1"
    header = struct.pack("!HHHHHH", 7, flags, 1, *counts)
    wire = b"".join((header, question, *sections))
    try:
        slow = Reply.from_wire(wire)
    except FormError:
        with pytest.raises(FormError):
            Reply.from_answer(wire, 19)
        return
    fast = Reply.from_answer(wire, 19)
    assert (fast.wire, fast.rcode, fast.options) == (slow.wire, slow.rcode, slow.options)
    assert fast.ttl_offsets == slow.ttl_offsets
    assert fast.plain_ttls == (plain if flags == 0x8180 else None)
    assert fast.copy().plain_ttls == fast.plain_ttls
    fast.wire = bytes(bytearray(fast.wire))
    assert fast.plain_ttls is None
