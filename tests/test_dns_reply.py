"""Replies of upstreams as they come: OPT anywhere, names compressed in any way, lies in between."""

from __future__ import annotations

import struct

import dnslib
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corepy.dns import FormError, Reply, edns, names, records, wire
from corepy.dns import constants as c
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
