"""Reading and patching messages, held against dnslib and against what RFC 9267 warns of."""

from __future__ import annotations

import struct
from collections.abc import Callable

import dnslib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.dns import constants as c
from corepy.dns import edns, names, records, wire
from corepy.dns.compress import rebuild
from corepy.dns.form_error import FormError
from corepy.dns.rdata import split
from corepy.dns.survey import strip_opt

ZONE = """
www.example.org. 30 CNAME web.example.org.
web.example.org. 60 A 192.0.2.1
web.example.org. 90 AAAA 2001:db8::1
web.example.org. 90 MX 10 mail.example.org.
_dns._udp.example.org. 90 SRV 1 2 53 web.example.org.
web.example.org. 90 TXT "some text"
web.example.org. 90 NAPTR 100 10 "u" "sip+E2U" "!^.*$!sip:info@example.com!" web.example.org.
"""
AUTHORITY = """
example.org. 300 NS ns1.example.org.
example.org. 300 SOA ns1.example.org. root.example.org. 1 7200 3600 1209600 40
"""


def sample(opt: dnslib.RR | None = None, last: str = "ns1.example.org. 20 A 192.0.2.53") -> bytes:
    record = dnslib.DNSRecord.question("www.example.org").reply()
    record.add_answer(*dnslib.RR.fromZone(ZONE))
    record.add_auth(*dnslib.RR.fromZone(AUTHORITY))
    if opt is not None:
        record.add_ar(opt)
    if last:
        record.add_ar(*dnslib.RR.fromZone(last))
    return bytes(record.pack())


def message(body: bytes, qd: int = 0, an: int = 0, ns: int = 0, ar: int = 0) -> bytes:
    return struct.pack("!HHHHHH", 1, 0x8000, qd, an, ns, ar) + body


def same_records(a: bytes, b: bytes) -> None:
    one, other = dnslib.DNSRecord.parse(a), dnslib.DNSRecord.parse(b)
    for section in ("questions", "rr", "auth", "ar"):
        assert list(map(str, getattr(one, section))) == list(map(str, getattr(other, section)))


def test_read_name_follows_pointers() -> None:
    body = b"\3org\0" + b"\7EXAMPLE\xc0\x0c" + b"\3www\xc0\x11" + b"\xc0\x1b" + b"rest"
    msg = message(body)
    assert wire.read_name(msg, 12) == (b"\3org\0", 17)
    assert wire.read_name(msg, 17) == (b"\7EXAMPLE\3org\0", 27)
    assert wire.read_name(msg, 27) == (b"\3www\7EXAMPLE\3org\0", 33)
    assert wire.read_name(msg, 33) == (b"\3www\7EXAMPLE\3org\0", 35)
    assert wire.read_name(bytearray(msg), 33)[0] == b"\3www\7EXAMPLE\3org\0"
    for offset, end in ((12, 17), (17, 27), (27, 33), (33, 35)):
        assert wire.skip_name(msg, offset) == end


BAD_NAMES = {
    "empty": b"",
    "cut in a label": b"\5abc",
    "no final zero": b"\3abc",
    "cut pointer": b"\xc0",
    "pointer to itself": b"\xc0\x0c",
    "pointer into its own name": b"\1a\xc0\x0c",
    "two pointers in a circle": b"\xc0\x0e\xc0\x0c",
    "pointer forward": b"\xc0\x0e\0",
    "pointer behind the end": b"\xff\xff",
    "pointer into the header": b"\xc0\x00",
    "label type 01": b"\x41" + b"a" * 80 + b"\0",
    "label type 10": b"\x80\0",
    "256 bytes": (b"\x3f" + b"x" * 63) * 3 + b"\x3e" + b"x" * 62 + b"\0",
    "endless labels": b"\1a" * 5000 + b"\0",
}


@pytest.mark.parametrize("body", BAD_NAMES.values(), ids=BAD_NAMES.keys())
def test_bad_names(body: bytes) -> None:
    with pytest.raises(FormError):
        wire.read_name(message(body), 12)


def test_name_too_long_only_through_a_pointer() -> None:
    tail = (b"\x3f" + b"x" * 63) * 3 + b"\0"
    msg = message(tail + b"\x3d" + b"y" * 61 + b"\xc0\x0c" + b"\x3c" + b"y" * 60 + b"\xc0\x0c")
    start = 12 + len(tail)
    with pytest.raises(FormError, match="longer than 255"):
        wire.read_name(message(tail + b"\x3e" + b"y" * 62 + b"\xc0\x0c"), start)
    assert len(wire.read_name(msg, start)[0]) == 255


def test_long_chains_of_pointers_are_refused() -> None:
    chain = b"\0" + b"".join(
        struct.pack("!H", 0xC000 | (12 if not i else 11 + 2 * i)) for i in range(500)
    )
    msg = message(chain)
    assert wire.read_name(msg, 13 + 2 * (wire.MAX_POINTERS - 1))[0] == b"\0"
    with pytest.raises(FormError, match="pointer"):
        wire.read_name(msg, 13 + 2 * wire.MAX_POINTERS)


@pytest.mark.parametrize("section", ["qd", "an", "ns", "ar"])
def test_counts_that_lie_are_refused_at_once(section: str) -> None:
    msg = message(bytes(60000), **{section: 65535})
    for function in (wire.counts, wire.scan, strip_opt, rebuild):
        with pytest.raises(FormError, match="header counts"):
            function(msg)
    with pytest.raises(FormError, match="header"):
        wire.counts(msg[:11])


def test_walk_agrees_with_dnslib() -> None:
    opt = dnslib.EDNS0(udp_len=1232)
    msg = sample(opt)
    parsed = dnslib.DNSRecord.parse(msg)
    expected = [*parsed.rr, *parsed.auth, *parsed.ar]
    walked = list(wire.walk(msg))
    assert len(walked) == len(expected)
    assert [r[0] for r in walked] == [1] * len(parsed.rr) + [2] * 2 + [3] * 2
    for (_, rtype, rclass, ttl, rdata, rdlength, owner, end), rr in zip(
        walked, expected, strict=True
    ):
        assert (rtype, rclass) == (rr.rtype, rr.rclass)
        assert rdata + rdlength == end
        name = b"".join(bytes((len(x),)) + x for x in rr.rname.label) + b"\0"
        assert wire.read_name(msg, owner)[0] == name
        if rtype != c.TYPE_OPT:
            assert wire.read_ttl(msg, ttl) == rr.ttl
    assert walked[-1][7] == len(msg)


def test_ttls() -> None:
    msg = sample(dnslib.EDNS0(udp_len=1232, flags="do"))
    offsets = wire.ttl_offsets(msg)
    assert [wire.read_ttl(msg, at) for at in offsets] == [30, 60, *[90] * 5, 300, 300, 20]
    assert wire.min_ttl(msg) == 20
    assert wire.min_ttl(msg, offsets[:2]) == 30
    assert wire.min_ttl(message(b"")) is None
    buf = bytearray(msg)
    wire.age(buf, offsets, 25, floor=5)
    assert [wire.read_ttl(buf, at) for at in offsets] == [5, 35, *[65] * 5, 275, 275, 5]
    wire.set_ttls(buf, offsets, 7)
    assert {wire.read_ttl(buf, at) for at in offsets} == {7}
    parsed = dnslib.DNSRecord.parse(bytes(buf))
    assert parsed.ar[0].ttl == 0x8000


def test_age_never_raises_a_ttl() -> None:
    buf = bytearray(struct.pack("!II", 3, 0xFFFFFFFF))
    wire.age(buf, [0, 4], 100, floor=5)
    assert struct.unpack("!II", buf) == (3, 0)


def test_a_ttl_with_the_top_bit_is_zero() -> None:
    msg = message(b"\0\0\1\0\1\x80\0\0\1\0\4\1\2\3\4" + b"\0\0\1\0\1\0\0\0\1\0\4\1\2\3\4", an=2)
    offsets = wire.ttl_offsets(msg)
    assert wire.min_ttl(msg) == 0
    assert [wire.read_ttl(msg, at) for at in offsets] == [0, 1]


def test_strip_opt_behind_everything() -> None:
    opt = dnslib.EDNS0(
        udp_len=1400, flags="do", ext_rcode=1, opts=[dnslib.EDNSOption(15, b"\0\3x")]
    )
    msg = bytes(dnslib.DNSRecord.parse(sample(last="")).pack())
    with_opt = msg[:11] + b"\1" + msg[12:]
    with_opt += edns.opt_record(1400, True, 1, edns.option(15, b"\0\3x"))
    assert dnslib.DNSRecord.parse(with_opt).ar[0].ttl == opt.ttl
    for tail in (b"", b"garbage"):
        stripped, found = strip_opt(with_opt + tail)[:2]
        assert stripped == msg
        assert found is not None
        assert (found.udp_size, found.do, found.extended_rcode) == (1400, True, 1)
        assert found.options == edns.option(15, b"\0\3x")


def test_strip_opt_in_the_middle_keeps_names_whole() -> None:
    last = "very.long.name.example.net. 5 CNAME other.name.example.net."
    msg = sample(dnslib.EDNS0(udp_len=1232, opts=[dnslib.EDNSOption(10, b"8 bytes.")]), last)
    stripped, found = strip_opt(msg)[:2]
    assert found is not None
    same_records(stripped, sample(None, last))


def test_strip_opt_without_one() -> None:
    msg = sample()
    assert strip_opt(msg)[:2] == (msg, None)
    assert strip_opt(msg + b"tail")[:2] == (msg, None)


OPT = edns.opt_record()


@pytest.mark.parametrize(
    "msg",
    [
        message(OPT + OPT, ar=2),
        message(OPT, an=1),
        message(OPT, ns=1),
        message(b"\0\0\1\0\1\0\0\0\0\0\4\1\2\3", an=1),
        message(b"\0\0\1\0\1\0\0\0\0\xff\xff\1\2\3\4", an=1),
        message(b"\3abc" * 3, an=1),
        message(b"\3abcd\0\1", qd=1),
        message(b"\0\0\x29\4\xd0\0\0\0\0\0\6\0\x0a\0\x08ab", ar=1),
        message(b"\1a\0\0\x29\4\xd0\0\0\0\0\0\0", ar=1),
    ],
)
def test_broken_messages(msg: bytes) -> None:
    with pytest.raises(FormError):
        strip_opt(msg)[:2]


def test_soa_negative_ttl() -> None:
    assert wire.soa_negative_ttl(sample()) == 40
    low = sample().replace(struct.pack("!I", 300), struct.pack("!I", 10))
    assert wire.soa_negative_ttl(low) == 10
    assert wire.soa_negative_ttl(message(b"")) is None
    with pytest.raises(FormError):
        wire.soa_negative_ttl(message(b"\0\0\6\0\1\0\0\0\0\0\2\0\0", ns=1))


def test_rebuild_compresses_and_keeps_everything() -> None:
    msg = sample()
    plain, _, _ = records.pack_message(dnslib.DNSRecord.parse(msg))
    same_records(plain, msg)
    uncompressed = b"".join(
        (
            msg[:12],
            b"\3www\7example\3org\0\0\1\0\1",
            *(full_record(msg, record) for record in wire.walk(msg)),
        )
    )
    assert len(rebuild(uncompressed)) < len(uncompressed)
    same_records(rebuild(uncompressed), msg)
    assert rebuild(rebuild(msg)) == rebuild(msg)


def full_record(msg: bytes, record: wire.Record) -> bytes:
    _, rtype, rclass, ttl, rdata, rdlength, owner, _ = record
    prefix, inner, tail, _ = split(msg, rtype, rdata, rdlength)
    name = wire.read_name(msg, owner)[0]
    return records.rr(
        name, rtype, wire.read_ttl(msg, ttl), b"".join((prefix, *inner, tail)), rclass
    )


@pytest.mark.parametrize("limit", [0, 33, 60, 61, 90, 200, 300, 10000])
def test_rebuild_cuts_between_records(limit: int) -> None:
    msg = sample()
    cut = rebuild(msg, limit)
    whole = len(list(wire.walk(msg)))
    kept = list(wire.walk(cut))
    assert len(cut) <= max(limit, 33)
    assert bool(cut[2] & 2) == (len(kept) < whole)
    assert [r[:3] for r in kept] == [r[:3] for r in wire.walk(msg)][: len(kept)]
    if len(kept) < whole:
        # One more would not have fitted.
        assert len(rebuild(msg, kept_size(msg, len(kept) + 1))) > limit
    dnslib.DNSRecord.parse(cut)


def kept_size(msg: bytes, number: int) -> int:
    """The smallest limit that keeps so many records."""
    return next(n for n in range(10000) if len(list(wire.walk(rebuild(msg, n)))) >= number)


def test_rebuild_keeps_case_and_far_names() -> None:
    record = dnslib.DNSRecord.question("WwW.ExAmple.org").reply()
    for i in range(1500):
        record.add_answer(
            *dnslib.RR.fromZone(f"h{i}.sub{i % 7}.example.org. 5 CNAME t{i}.eXample.org.")
        )
    packed, _, _ = records.pack_message(record)
    assert len(packed) > 0x4000
    parsed = dnslib.DNSRecord.parse(packed)
    assert list(map(str, parsed.rr)) == list(map(str, record.rr))
    assert str(parsed.q.qname) == "WwW.ExAmple.org."


@pytest.mark.parametrize(
    ("rtype", "rdata"),
    [
        (c.TYPE_A, b"\1\2\3"),
        (c.TYPE_AAAA, bytes(15)),
        (c.TYPE_NS, b"\1a"),
        (c.TYPE_NS, b"\0\0"),
        (c.TYPE_MX, b"\0"),
        (c.TYPE_SOA, b"\0\0" + bytes(19)),
        (c.TYPE_SRV, bytes(6)),
        (c.TYPE_NAPTR, bytes(4) + b"\1"),
        (c.TYPE_RRSIG, bytes(17)),
        (c.TYPE_CNAME, b"\xc0\x40"),
    ],
)
def test_rdata_of_the_wrong_shape(rtype: int, rdata: bytes) -> None:
    msg = message(records.rr(b"\0", rtype, 1, rdata), an=1)
    with pytest.raises(FormError):
        rebuild(msg)


@pytest.mark.parametrize("rtype", [c.TYPE_A, c.TYPE_SOA, c.TYPE_NAPTR, 65280])
def test_empty_rdata_is_copied(rtype: int) -> None:
    msg = message(records.rr(b"\0", rtype, 1, b""), an=1)
    assert rebuild(msg) == msg


READERS: list[Callable[[bytes], object]] = [
    wire.counts,
    wire.scan,
    strip_opt,
    wire.min_ttl,
    wire.soa_negative_ttl,
    lambda msg: list(wire.walk(msg)),
    lambda msg: wire.read_name(msg, 12),
    lambda msg: wire.skip_name(msg, 12),
    rebuild,
    lambda msg: rebuild(msg, 64),
]


def read_all(msg: bytes) -> None:
    for function in READERS:
        try:
            function(msg)
        except FormError:
            continue


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_nothing_but_form_error(msg: bytes) -> None:
    read_all(msg)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 255)), max_size=6), st.integers(0, 500)
)
def test_mutated_messages_raise_nothing_but_form_error(
    changes: list[tuple[int, int]], length: int
) -> None:
    msg = bytearray(sample(dnslib.EDNS0(udp_len=1232)))
    for at, value in changes:
        msg[at % len(msg)] = value
    read_all(bytes(msg))
    read_all(bytes(msg[:length]))


hosts = st.lists(st.sampled_from(["a", "bb", "www", "x" * 60]), max_size=3).map(".".join)
zones = st.sampled_from(["example.org.", "ORG.", "svc.cluster.local."])
any_names = st.builds(lambda host, zone: f"{host}.{zone}" if host else zone, hosts, zones)


@settings(deadline=None)
@given(st.lists(st.tuples(any_names, any_names, st.integers(0, 2**31 - 1)), max_size=8))
def test_rebuild_is_what_dnslib_reads(entries: list[tuple[str, str, int]]) -> None:
    plain = [
        records.rr(names.from_text(owner), c.TYPE_CNAME, ttl, names.from_text(target))
        for owner, target, ttl in entries
    ]
    msg = message(b"".join(plain), an=len(plain))
    parsed = dnslib.DNSRecord.parse(rebuild(msg))
    assert [(str(r.rname), str(r.rdata), r.ttl) for r in parsed.rr] == entries
    assert len(rebuild(msg)) <= len(bytes(dnslib.DNSRecord.parse(msg).pack()))
