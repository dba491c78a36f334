"""Replies of upstreams as they come: OPT anywhere, names compressed in any way, lies in between."""

from __future__ import annotations

import struct

import dnslib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.dns import FormError, Reply, edns, names, records, wire
from corepy.dns import constants as c
from corepy.dns.edns import parse_options
from corepy.dns.rdata import split
from corepy.dns.survey import survey
from corepy.testing import Upstream, serve

# Rebuilding this without OPT saves as many bytes as follow OPT.
SAME_LENGTH = bytes.fromhex(
    "0001818000010001000000020761616161616161076578616d706c65036f726700000100010761616161616161076578"
    "616d706c65036f726700000100010000003c0004c000020100002904d0000000000000026e73076578616d706c65036f"
    "726700000100010000003c0004c6336401"
)
WWW, NS = names.from_text("www.example.org."), names.from_text("ns.example.org.")

hosts = st.sampled_from([WWW, NS, names.from_text("aaaaaaa.example.org."), b"\1a\0", b"\0"])
record = st.one_of(
    st.builds(records.rr, hosts, st.just(c.TYPE_A), st.just(60), st.just(b"\xc0\0\2\1")),
    st.builds(records.rr, hosts, st.just(c.TYPE_NS), st.just(60), hosts),
)
options = st.sampled_from([b"", edns.option(65001, b"x"), edns.option(3, b"name-of-the-server")])


@st.composite
def with_opt_anywhere(draw: st.DrawFn) -> bytes:
    answer, more = draw(st.lists(record, max_size=3)), draw(st.lists(record, max_size=4))
    version, extended = draw(st.integers(0, 1)), draw(st.integers(0, 1))
    opt = edns.opt_record(1232, False, extended, draw(options), version)
    more.insert(draw(st.integers(0, len(more))), opt)
    head = struct.pack("!HHHHHH", 1, 0x8180, 1, len(answer), 0, len(more))
    return b"".join((head, WWW, b"\0\1\0\1", *answer, *more))


def texts(message: bytes) -> list[str]:
    parsed = dnslib.DNSRecord.parse(message)
    return [str(rr) for rr in (*parsed.rr, *parsed.auth, *parsed.ar) if rr.rtype != c.TYPE_OPT]


def check(message: bytes) -> None:
    reply = Reply.from_wire(message)
    assert reply.ttl_offsets == wire.ttl_offsets(reply.wire)
    assert texts(reply.wire) == texts(message)


def test_opt_in_front_of_as_many_bytes_as_are_saved() -> None:
    check(SAME_LENGTH)


@settings(deadline=None)
@given(with_opt_anywhere())
def test_offsets_of_ttls_wherever_opt_is(message: bytes) -> None:
    check(message)


@pytest.mark.parametrize("version", [0, 1, 255])
@pytest.mark.parametrize(
    ("rdata", "is_read"),
    [
        (b"", True),
        (edns.option(3, b"x"), True),
        (b"\0\x0a\0\xff", False),
        (b"\0", False),
        (edns.option(15), False),
        (edns.option(3) * 65, False),
    ],
)
@pytest.mark.parametrize("others", [0, 1])
def test_options_of_a_reply_are_checked_in_every_version(
    version: int, rdata: bytes, is_read: bool, others: int
) -> None:
    """RFC 6891 section 6.1.3: the version of a reply is no statement about its format."""
    opt = edns.opt_record(version=version, options=rdata)
    head = struct.pack("!HHHHHH", 1, 0x8180, 1, 0, 0, 1 + others)
    message = head + WWW + b"\0\1\0\1" + opt + records.rr(NS, 1, 5, b"1234") * others
    if is_read:
        assert Reply.from_wire(message).options == rdata
        return
    with pytest.raises(FormError):
        Reply.from_wire(message)


@pytest.mark.parametrize("plugins", ["forward . {to}", "cache\nforward . {to}"])
@pytest.mark.parametrize(
    ("bad", "rcode"),
    [
        (SAME_LENGTH[12:], "NOERROR"),
        (WWW + b"\0\1\0\1" + edns.opt_record(version=1, options=b"\0\x0a\0\xff"), "SERVFAIL"),
    ],
    ids=["same length", "option cut off in version 1"],
)
def test_odd_replies_through_a_server(plugins: str, bad: bytes, rcode: str) -> None:
    """Each is asked for three times: first, from the cache, and with other flags."""
    is_whole = rcode == "NOERROR"

    def answer(query: dnslib.DNSRecord, _proto: str) -> list[bytes]:
        counts = SAME_LENGTH[4:12] if is_whole else b"\0\1\0\0\0\0\0\1"
        flags = b"\x81\x80" if is_whole else b"\x81\x82"
        return [query.header.id.to_bytes(2, "big") + flags + counts + bad]

    name = names.to_text(wire.read_name(bytes(12) + bad, 12)[0])
    with Upstream(answer) as upstream:
        text = plugins.format(to=upstream.to)
        with serve(f".:0 {{\nerrors\n{text}\n}}\n") as server:
            for do in (False, False, True):
                reply = server.ask(name, do=do)
                assert dnslib.RCODE[reply.header.rcode] == rcode
                assert [str(rr.rdata) for rr in reply.rr] == ["192.0.2.1"] * is_whole
                codes = {o.code for rr in reply.ar if rr.rtype == c.TYPE_OPT for o in rr.rdata}
                assert codes <= {edns.OPTION_EDE}


HEADER_FIELDS = {0: "ID", 1: "ID", 2: "flags", 4: "QDCOUNT", 6: "ANCOUNT", 11: "ARCOUNT"}


def reply_of(*sections: bytes, question: bytes = WWW + b"\0\1\0\1", **counts: int) -> bytes:
    numbers = [counts.get(key, 0) for key in ("an", "ns", "ar")]
    return struct.pack("!HHHHHH", 0x0161, 0x8180, 1, *numbers) + question + b"".join(sections)


def pointer(target: int) -> bytes:
    return struct.pack("!H", 0xC000 | target)


END = 12 + len(WWW) + 4
ANSWER = b"\xc0\x0c\0\1\0\1\1a\0\0\0\4\xc0\0\2\1"
"""An address whose TTL holds the name a.; its bytes begin at END."""
LABELS = {"as it is": b"", "behind a label": b"\1x"}


def of_every_kind(name: bytes) -> dict[str, bytes]:
    """Records that hold the name in every place there is."""
    mx, soa = b"\0\x0a" + name, name + name + bytes(20)
    return {
        "owner": name + ANSWER[2:],
        "CNAME": records.rr(pointer(12), c.TYPE_CNAME, 60, name),
        "MX": records.rr(pointer(12), c.TYPE_MX, 60, mx),
        "SOA": records.rr(pointer(12), c.TYPE_SOA, 60, soa),
        "SRV": records.rr(pointer(12), c.TYPE_SRV, 60, bytes(6) + name),
        "NAPTR": records.rr(pointer(12), c.TYPE_NAPTR, 60, bytes(4) + b"\1u\0\1x" + name),
        "RRSIG": records.rr(pointer(12), c.TYPE_RRSIG, 60, bytes(18) + name + b"sig"),
        "HTTPS": records.rr(pointer(12), c.TYPE_HTTPS, 60, b"\0\1" + name),
    }


@pytest.mark.parametrize("label", LABELS.values(), ids=LABELS.keys())
@pytest.mark.parametrize("kind", of_every_kind(b""))
@pytest.mark.parametrize("target", HEADER_FIELDS)
def test_names_that_point_into_the_header_are_refused(target: int, kind: str, label: bytes) -> None:
    bad = of_every_kind(label + pointer(target))[kind]
    for message in (reply_of(ANSWER, bad, an=2), reply_of(bad, an=1)):
        for read in (Reply.from_wire, lambda m: Reply.from_answer(m, END)):
            with pytest.raises(FormError):
                read(message)


@pytest.mark.parametrize("label", LABELS.values(), ids=LABELS.keys())
@pytest.mark.parametrize("kind", of_every_kind(b""))
def test_names_that_point_into_a_ttl_are_written_out(kind: str, label: bytes) -> None:
    odd = of_every_kind(label + pointer(END + 6))[kind]
    plain = of_every_kind(label + b"\1a\0")[kind]
    message = reply_of(ANSWER, odd, an=2)
    reply = Reply.from_answer(message, END)
    assert reply.ttl_offsets == wire.ttl_offsets(reply.wire)
    aged = bytearray(reply.wire)
    wire.set_ttls(aged, reply.ttl_offsets, 5)
    expected = bytearray(reply_of(ANSWER, plain, an=2))
    wire.set_ttls(expected, wire.ttl_offsets(expected), 5)
    assert expanded(bytes(aged)) == expanded(bytes(expected))


def expanded(message: bytes) -> list[tuple[bytes, ...]]:
    """All records with their names in full."""
    found = []
    for _, rtype, rclass, ttl, rdata, length, owner, _ in wire.walk(message):
        prefix, inner, tail, _ = split(message, rtype, rdata, length)
        head = struct.pack("!HHI", rtype, rclass, wire.read_ttl(message, ttl))
        found.append((wire.read_name(message, owner)[0], head, prefix, *inner, tail))
    return found


@pytest.mark.parametrize("label", LABELS.values(), ids=LABELS.keys())
@pytest.mark.parametrize("kind", [kind for kind in of_every_kind(b"") if kind != "owner"])
def test_names_in_the_data_of_just_what_was_asked_for(kind: str, label: bytes) -> None:
    """Such a reply is read in one go; its names are checked all the same."""
    rtype = c.type_number(kind)
    question = WWW + struct.pack("!HH", rtype, 1)

    def taken(name: bytes) -> Reply:
        return Reply.from_answer(reply_of(of_every_kind(name)[kind], question=question, an=1), END)

    for name in (label + b"\3org\0", label + pointer(12)):
        assert taken(name).plain_ttls == (60, 60)
    for name in (label + pointer(0), label + pointer(11), label + b"\3or", label + b"\x80"):
        with pytest.raises(FormError):
            taken(name)
    odd = taken(label + pointer(END + 6))  # the TTL, 60, cannot be read as a name but for its zero
    assert expanded(odd.wire)[0][3:4] == (label + b"\0",)
    assert survey(odd.wire)


ODD_TARGETS = {
    "type and class of the question": END - 4,
    "type of a record": END + 2,
    "length of a record": END + 10,
    "an address": END + 12,
    "a pointer": END,
    "inside a label": 14,
    "the root of the question": END - 5,
}


@pytest.mark.parametrize("target", ODD_TARGETS.values(), ids=ODD_TARGETS.keys())
def test_names_that_point_elsewhere_mean_the_same_in_any_case(target: int) -> None:
    """They are refused where they cannot be read, and written out where they can."""
    message = reply_of(ANSWER, of_every_kind(pointer(target))["CNAME"], an=2)
    try:
        before = expanded(message)
    except FormError:
        with pytest.raises(FormError):
            Reply.from_wire(message)
        return
    reply = Reply.from_wire(message)
    assert expanded(reply.wire) == before
    survey(reply.wire)


@pytest.mark.parametrize("number", [500, 4000])
def test_a_great_many_odd_records_are_refused(number: int) -> None:
    odd = records.rr(pointer(END), c.TYPE_A, 5, b"1234")
    message = reply_of(ANSWER, odd * number, an=number + 1)
    if number == 500:
        assert len(expanded(Reply.from_wire(message).wire)) == number + 1
        return
    with pytest.raises(FormError):
        Reply.from_wire(message)


def test_names_that_leave_their_rdata_are_refused() -> None:
    """What lies behind is the next record, whose TTL will be another."""
    for rtype, rdata in ((c.TYPE_CNAME, b"\1a"), (c.TYPE_MX, b"\0"), (c.TYPE_SOA, b"\0\1a")):
        message = reply_of(records.rr(b"\0", rtype, 5, rdata), ANSWER, an=2)
        with pytest.raises(FormError):
            Reply.from_wire(message)


@settings(deadline=None)
@given(with_opt_anywhere(), st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255))))
def test_whatever_is_taken_is_clean(message: bytes, changes: list[tuple[int, int]]) -> None:
    mutated = bytearray(message)
    for at, value in changes:
        mutated[at % len(mutated)] = value
    try:
        reply = Reply.from_wire(bytes(mutated))
    except FormError:
        return
    offsets, opt, end = survey(reply.wire)
    assert (offsets, opt, end) == (reply.ttl_offsets, 0, len(reply.wire))
    parse_options(reply.options)


@settings(deadline=None)
@given(
    st.binary(max_size=120),
    st.lists(st.tuples(st.integers(12, 130), st.integers(12, 130)), max_size=20),
    st.lists(st.integers(0, 140), min_size=1, max_size=20),
)
def test_names_read_with_and_without_memory(
    noise: bytes, pointers: list[tuple[int, int]], places: list[int]
) -> None:
    message = bytearray(bytes(12) + noise + bytes(8))
    for at, target in pointers:
        if at + 2 <= len(message):
            message[at : at + 2] = pointer(target)
    reader = wire.NameReader(bytes(message))
    for place in places:
        try:
            expected = wire.read_name(bytes(message), place)
        except FormError:
            with pytest.raises(FormError):
                reader.read(place)
        else:
            assert reader.read(place) == expected


PLAIN = b"".join(
    (bytes.fromhex("000181800001000100000000"), WWW, b"\0\1\0\1", records.rr(WWW, 1, 60, b"1234"))
)


def test_a_patched_message_is_not_parsed_again() -> None:
    reply = Reply.from_wire(PLAIN)
    offsets = reply.ttl_offsets
    without_ad = PLAIN[:3] + b"\xa0" + PLAIN[4:]
    reply.patch(without_ad)
    assert reply.wire is reply.validated is without_ad
    assert reply.ttl_offsets is offsets
    assert reply.plain_ttls is None


@pytest.mark.parametrize("other", [PLAIN[:-1], PLAIN[:12] + b"\xff" * 300], ids=["cut", "odd"])
def test_a_patch_of_another_length_is_a_new_message(other: bytes) -> None:
    reply = Reply.from_wire(PLAIN)
    reply.patch(other)
    assert reply.wire is other
    assert reply.validated is not other
    with pytest.raises(FormError):
        reply.ttl_offsets  # noqa: B018 - a property that parses


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param(
            bytearray(PLAIN),
            marks=pytest.mark.pure_form("a value of another type is refused at once"),
        ),
        PLAIN[:2] + b"\1" + PLAIN[3:],
        PLAIN[:7] + b"\2" + PLAIN[8:],
    ],
    ids=["no bytes", "a query", "another count"],
)
def test_a_patch_to_what_is_no_reply_is_checked(odd: bytes) -> None:
    reply = Reply.from_wire(PLAIN)
    reply.patch(odd)
    assert reply.validated is not odd


def test_a_patch_validates_nothing() -> None:
    reply = Reply(PLAIN)
    reply.patch(PLAIN[:3] + b"\xa0" + PLAIN[4:])
    assert reply.validated is None
    assert reply.ttl_offsets == wire.ttl_offsets(PLAIN)
