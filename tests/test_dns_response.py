"""Kinds of replies, after CoreDNS's typify_test.go, and the time they hold."""

from __future__ import annotations

import calendar
import struct

import dnslib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.dns import FormError, Reply, response
from corepy.dns import constants as c
from corepy.dns.response import Kind, ReplyClass

A = "www.example.org. 60 A 192.0.2.1"
CNAME = "www.example.org. 60 CNAME other.example.org."
NS = "example.org. 300 NS ns.example.org."
SOA = "example.org. 300 SOA ns.example.org. root.example.org. 1 7200 3600 1209600 40"
RRSIG = (
    "example.org. 300 RRSIG NS 8 2 300 20170521031301 20170421031301 12051 example.org. PIUu3TKX"
)
VALID = calendar.timegm((2017, 5, 1, 0, 0, 0))
EARLY = calendar.timegm((2017, 4, 20, 0, 0, 0))
LATE = calendar.timegm((2017, 5, 22, 0, 0, 0))


def reply(
    rcode: int = 0,
    answer: tuple[str, ...] = (),
    authority: tuple[str, ...] = (),
    additional: tuple[str, ...] = (),
    qtype: str = "A",
    opcode: int = 0,
) -> Reply:
    record = dnslib.DNSRecord.question("www.example.org", qtype).reply()
    record.header.rcode = rcode
    record.header.opcode = opcode
    for line in answer:
        record.add_answer(*dnslib.RR.fromZone(line))
    for line in authority:
        record.add_auth(*dnslib.RR.fromZone(line))
    for line in additional:
        record.add_ar(*dnslib.RR.fromZone(line))
    reply = Reply(b"")
    reply.set_record(record)
    return reply


KINDS = [
    (reply(0, (A,)), Kind.NO_ERROR, ReplyClass.SUCCESS),
    (reply(0, (CNAME,), (SOA,)), Kind.NO_ERROR, ReplyClass.SUCCESS),
    (reply(0, (), (NS,)), Kind.DELEGATION, ReplyClass.SUCCESS),
    (reply(0, (), (NS,), (A,)), Kind.DELEGATION, ReplyClass.SUCCESS),
    (reply(0, (), (), (A,)), Kind.NO_ERROR, ReplyClass.SUCCESS),
    (reply(), Kind.NO_ERROR, ReplyClass.SUCCESS),
    (reply(0, (), (NS, SOA)), Kind.NO_DATA, ReplyClass.DENIAL),
    (reply(c.NXDOMAIN, (), (SOA,)), Kind.NAME_ERROR, ReplyClass.DENIAL),
    (reply(c.NXDOMAIN), Kind.NAME_ERROR, ReplyClass.DENIAL),
    (reply(c.NXDOMAIN, (CNAME,), (SOA,)), Kind.NAME_ERROR, ReplyClass.DENIAL),
    (reply(c.NXDOMAIN, (CNAME,), (NS,)), Kind.OTHER_ERROR, ReplyClass.ERROR),
    (reply(c.NXDOMAIN, (A,), (SOA,)), Kind.OTHER_ERROR, ReplyClass.ERROR),
    (reply(c.SERVFAIL), Kind.SERVER_ERROR, ReplyClass.ERROR),
    (reply(c.SERVFAIL, (A,)), Kind.SERVER_ERROR, ReplyClass.ERROR),
    (reply(c.NOTIMP), Kind.SERVER_ERROR, ReplyClass.ERROR),
    (reply(c.REFUSED, (), (SOA,)), Kind.OTHER_ERROR, ReplyClass.ERROR),
    (reply(c.FORMERR), Kind.OTHER_ERROR, ReplyClass.ERROR),
    (reply(0, (A,), qtype="AXFR"), Kind.META, ReplyClass.ERROR),
    (reply(0, (A,), qtype="IXFR"), Kind.META, ReplyClass.ERROR),
    (reply(opcode=c.OPCODE_NOTIFY), Kind.META, ReplyClass.ERROR),
    (reply(opcode=c.OPCODE_UPDATE), Kind.UPDATE, ReplyClass.ERROR),
]


@pytest.mark.parametrize("qtype", [0x01FB, 0x01FC, 0x02FC, 0xFCFC, 0xFC00])
def test_a_type_that_ends_like_a_transfer_is_none(qtype: int) -> None:
    asked = reply(0, (A,)).wire
    end = asked.index(b"\3org\0") + 5
    found = Reply(asked[:end] + struct.pack("!H", qtype) + asked[end + 2 :])
    assert response.typify(found) is Kind.NO_ERROR


@pytest.mark.parametrize(("given_reply", "kind", "reply_class"), KINDS)
def test_kinds_and_classes(given_reply: Reply, kind: Kind, reply_class: ReplyClass) -> None:
    assert response.typify(given_reply) is kind
    assert response.typify(given_reply.wire) is kind
    assert response.classify(kind) is reply_class


def test_the_whole_rcode_counts() -> None:
    bad_version = reply()
    bad_version.extended_rcode = 1
    assert response.typify(bad_version) is Kind.OTHER_ERROR


def test_a_header_without_a_question() -> None:
    header = struct.pack("!HHHHHH", 1, 0x8000 | c.REFUSED, 0, 0, 0, 0)
    assert response.typify(header) is Kind.OTHER_ERROR


@pytest.mark.parametrize(
    ("now", "kind"),
    [
        (None, Kind.DELEGATION),
        (VALID, Kind.DELEGATION),
        (VALID + 0.5, Kind.DELEGATION),
        (EARLY, Kind.OTHER_ERROR),
        (LATE, Kind.OTHER_ERROR),
        (VALID + 2**32, Kind.DELEGATION),
    ],
)
def test_signatures_out_of_their_time(now: float | None, kind: Kind) -> None:
    assert response.typify(reply(0, (), (NS, RRSIG)), now) is kind


@pytest.mark.parametrize(
    ("given_reply", "seconds"),
    [
        (reply(0, (A,)), 60),
        (reply(0, (A,), (NS,)), 60),
        (reply(0, (), (SOA,)), 40),
        (reply(0, (CNAME,), (SOA,)), 40),
        (reply(c.NXDOMAIN, (), (SOA,)), 40),
        (reply(c.NXDOMAIN, (), (SOA.replace("300", "20", 1),)), 20),
        (reply(c.NXDOMAIN, (), (NS,)), 300),
        (reply(c.NXDOMAIN), response.SHORT_TTL),
        (reply(), response.SHORT_TTL),
        (reply(c.SERVFAIL, (A,)), response.SHORT_TTL),
        (reply(0, (), (NS,)), response.SHORT_TTL),
    ],
)
def test_minimal_ttl(given_reply: Reply, seconds: int) -> None:
    assert response.minimal_ttl(given_reply, response.typify(given_reply)) == seconds


@settings(deadline=None)
@given(st.binary(max_size=120))
def test_arbitrary_bytes(data: bytes) -> None:
    for now in (None, 1.0):
        try:
            response.typify(data, now)
        except FormError:
            continue
