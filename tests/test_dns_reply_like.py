"""Replies that are made from other replies (`corepy.dns.reply_like`)."""

import pytest

from corepy.dns import FormError, Reply
from corepy.dns import constants as c
from corepy.dns.edns import ede
from corepy.dns.presentation import read_record
from corepy.dns.rdata import plain_records, plain_sections
from corepy.dns.reply_like import reply_like
from corepy.dns.reply_validation import reply_problem
from corepy.dns.wire import ADDITIONAL, ANSWER, AUTHORITY
from corepy.testing import make_request


def wires(*lines):
    return [read_record(line, 60).wire for line in lines]


ANSWERS = wires("other.example. 60 IN CNAME x.example.", "x.example. 60 IN MX 10 mx.x.example.")
AUTHORITIES = wires("example. 60 IN NS ns.example.")
ADDRESSES = wires("mx.x.example. 60 IN A 192.0.2.1", "mx.x.example. 60 IN AAAA 2001:db8::1")
NEW = wires("new.example. 5 IN A 192.0.2.9")


def source(rcode=c.NOERROR, flags=0):
    """A reply to a query for another name."""
    reply = make_request("other.example.", "MX").reply(rcode, ANSWERS, AUTHORITIES, ADDRESSES)
    both = int.from_bytes(reply.wire[2:4], "big") | flags
    reply.patch(reply.wire[:2] + both.to_bytes(2, "big") + reply.wire[4:])
    return reply


def flags_of(reply):
    return int.from_bytes(reply.wire[2:4], "big") & ~c.FLAG_QR & 0xFFF0


def test_sections_are_those_of_the_message():
    assert plain_sections(source().wire) == (ANSWERS, AUTHORITIES, ADDRESSES)
    for section, records in zip(
        (ANSWER, AUTHORITY, ADDITIONAL), plain_sections(source().wire), strict=True
    ):
        assert list(plain_records(source().wire, section)) == records


def test_the_records_replace_those_of_the_source():
    request = make_request("new.example.", "A", rd=0)
    reply = reply_like(request, source(), NEW, AUTHORITIES, ())
    assert plain_sections(reply.wire) == (NEW, AUTHORITIES, [])
    assert reply_problem(request, reply) is None
    assert flags_of(reply) == 0


def test_values_are_those_of_the_source():
    found = source(c.NXDOMAIN | 1 << 4, c.FLAG_AA | c.FLAG_TC | c.FLAG_RA | c.FLAG_AD)
    found.options, found.is_momentary, found.since = ede(3, "stale"), True, 7.0
    found.error, found.deadline = "not copied", 9.0
    request = make_request("new.example.")
    reply = reply_like(request, found, (), (), ())
    assert (reply.rcode, reply.extended_rcode) == (c.NXDOMAIN | 16, 1)
    assert flags_of(reply) == c.FLAG_RD | c.FLAG_AA | c.FLAG_TC | c.FLAG_RA
    assert (reply.options, reply.is_momentary, reply.since) == (ede(3, "stale"), True, 7.0)
    assert (reply.error, reply.deadline, reply.hit_counters) == (None, None, ())
    only = reply_like(request, found, (), (), (), flags=c.FLAG_RA)
    assert flags_of(only) == c.FLAG_RD | c.FLAG_RA


@pytest.mark.parametrize(
    ("found", "answer", "expected"),
    [
        (source(), (), c.FLAG_AA),
        (source(), NEW, 0),
        (source(c.NXDOMAIN), (), 0),
        (make_request("other.example.", "MX").reply(authority=AUTHORITIES), (), 0),
    ],
    ids=["emptied", "with records", "NXDOMAIN", "a referral"],
)
def test_a_reply_that_becomes_empty_is_not_taken_for_a_referral(found, answer, expected):
    reply = reply_like(make_request("new.example.", rd=0), found, answer, AUTHORITIES, ())
    assert flags_of(reply) == expected


def test_a_large_message_is_compressed():
    """A compressed message of a few kilobytes can have names of megabytes."""
    long = ".".join(["x" * 60] * 4) + "."
    records = wires(*[f"{long} 60 IN NS n{number}.{long[:-9]}" for number in range(2000)])
    assert sum(map(len, records)) > c.MAX_SIZE
    request = make_request(long, "NS")
    reply = reply_like(request, source(), records, (), ())
    assert (reply.ancount, reply.tc) == (2000, False)
    assert plain_sections(reply.wire)[0] == records


def test_a_message_that_is_too_large_is_truncated():
    records = wires(*[f"n{number}.example. 60 IN TXT {'x' * 250}" for number in range(300)])
    request = make_request("new.example.", "TXT")
    reply = reply_like(request, source(), [*NEW, *records], AUTHORITIES, ())
    assert reply.tc
    assert len(reply.wire) <= c.MAX_SIZE
    kept, *others = plain_sections(reply.wire)
    assert 200 < len(kept) < 300
    assert kept == [*NEW, *records][: len(kept)]
    assert others == [[], []]
    assert reply_problem(request, reply) is None


def test_malformed_records():
    wire = source().wire
    with pytest.raises(FormError):
        plain_sections(Reply(wire[:-1]).wire)
