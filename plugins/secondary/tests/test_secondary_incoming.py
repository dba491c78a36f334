"""Zones made of the messages of transfers, also of servers that lie (RFC 5936, RFC 1995)."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.dns import FormError, Request
from corepy.dns import constants as c
from corepy.dns.constants import MAX_SIZE
from corepy.dns.names import from_text
from corepy.dns.records import rr
from corepy.testing import helper_module
from corepy.zone import ZoneError
from corepy_secondary.fetching import make_query
from corepy_secondary.incoming import IncomingTransfer, RefusedTransfer, TransferError

zones = helper_module(__file__, "secondary_zones")
a_record, build_zone, soa_record = zones.a_record, zones.build_zone, zones.soa_record

ORIGIN = from_text("example.org.")
BASE = build_zone("example.org.", 1, hosts=5)


def reply(query, *records, rcode=0):
    """A message of the reply to a query."""
    request = Request.from_wire(query)
    return b"".join((query[:2], request.reply(rcode, records, authoritative=True).wire[2:]))


def transferred(*messages, base=None, qtype=None):
    """The transfer of messages, which are lists of records or functions of the query."""
    qtype = (c.TYPE_AXFR if base is None else c.TYPE_IXFR) if qtype is None else qtype
    soa = b"" if base is None else base.soa_record
    query = make_query(ORIGIN, qtype, soa)
    incoming = IncomingTransfer(query, ORIGIN, base)
    done = [incoming.feed(it(query) if callable(it) else reply(query, *it)) for it in messages]
    assert done == [False] * (len(done) - 1) + [incoming.is_complete]
    return incoming


def wires(zone):
    return sorted(zone.wires())


WHOLE = [*BASE.wires(), BASE.soa_record]
NEXT = build_zone("example.org.", 2, hosts=6)


@pytest.mark.parametrize("base", [None, BASE], ids=["AXFR", "IXFR"])
@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_a_whole_zone(base, size):
    """In messages of one or more records, also as the reply to IXFR."""
    records = [*NEXT.wires(), NEXT.soa_record]
    parts = [records[at : at + size] for at in range(0, len(records), size)]
    incoming = transferred(*parts, base=base)
    assert wires(incoming.build()) == wires(NEXT)
    assert incoming.is_whole


def test_a_zone_with_one_record():
    soa = soa_record("example.org.", 7)
    assert list(transferred([soa, soa]).build().wires()) == [soa]
    assert list(transferred([soa], [soa], base=BASE).build().wires()) == [soa]


def test_names_may_be_compressed_and_in_capitals():
    soa = soa_record("example.org.", 7)
    host = b"\1A" + b"\xc0\x0c" + b"\0\1\0\1" + bytes(4) + b"\0\4" + bytes(4)
    alias = b"\1b\xc0\x0c\0\5\0\1" + bytes(4) + b"\0\4\1a\xc0\x0c"
    found = transferred([soa, host, alias, soa]).build()
    assert [it.owner for it in found] == [ORIGIN, b"\1a" + ORIGIN, b"\1b" + ORIGIN]
    assert list(found)[-1].rdata == b"\1a" + ORIGIN


def test_a_ttl_of_the_top_bit_is_0():
    soa = soa_record("example.org.", 7)
    record = rr(b"\1a" + ORIGIN, 1, 0x80000001, bytes(4))
    assert [it.ttl for it in transferred([soa, record, soa]).build()] == [60, 0]


def test_records_outside_the_zone_are_left_out():
    other = a_record("www.example.com.", 1)
    incoming = transferred([*WHOLE[:-1], other, WHOLE[-1]])
    assert wires(incoming.build()) == wires(BASE)
    assert incoming.left_out == 1


# -- changes


def soa(serial):
    return soa_record("example.org.", serial)


def host(number):
    return a_record(f"h{number}.example.org.", number)


CHANGES = [soa(3), soa(1), host(0), soa(2), host(7), soa(2), host(7), host(1), soa(3), host(8)]


@pytest.mark.parametrize("size", [1, 2, 100])
def test_changes_are_applied_in_order(size):
    records = [*CHANGES, soa(3)]
    parts = [records[at : at + size] for at in range(0, len(records), size)]
    incoming = transferred(*parts, base=BASE)
    expected = build_zone("example.org.", 3, hosts=(2, 3, 4, 8))
    assert wires(incoming.build()) == wires(expected)
    assert not incoming.is_whole
    assert BASE.serial == 1


def test_200_changes():
    records = [soa(201)]
    for serial in range(1, 201):
        gone = [host(100 + serial - 1)] if serial > 1 else []
        records += [soa(serial), *gone, soa(serial + 1), host(100 + serial)]
    parts = [records[at : at + 7] for at in range(0, len(records), 7)]
    incoming = transferred(*parts, [soa(201)], base=BASE)
    expected = build_zone("example.org.", 201, hosts=(*range(5), 300))
    assert wires(incoming.build()) == wires(expected)


def test_serials_that_wrap_around():
    last = 0xFFFFFFFF
    base = build_zone("example.org.", last, hosts=1)
    incoming = transferred([soa(1), soa(last), soa(1), host(5), soa(1)], base=base)
    assert incoming.build().serial == 1


def test_the_soa_record_of_the_version_is_no_news():
    incoming = transferred([soa(1)], base=BASE)
    assert incoming.is_complete
    assert incoming.build() is None


# -- servers that lie


def changed(position, value):
    """A message whose header is changed."""

    def make(query):
        message = bytearray(reply(query, *WHOLE))
        message[position] ^= value
        return bytes(message)

    return make


def other_question(query):
    return reply(query, *WHOLE).replace(b"\7example", b"\7exbmple", 1)


LIES = {
    "ID": ((changed(1, 1),), "not a reply to the query"),
    "query": ((changed(2, 0x80),), "not a reply to the query"),
    "opcode": ((changed(2, 0x20),), "not a reply to the query"),
    "truncated": ((changed(2, 2),), "not a reply to the query"),
    "question": ((other_question,), "another question"),
    "another zone": (
        ([soa_record("example.com.", 1), soa_record("example.com.", 1)],),
        r"does not begin with the SOA record of example.org., but with a record of example.com.",
    ),
    "no SOA": (([host(1)],), "does not begin with the SOA record"),
    "no SOA at the end": ((WHOLE[:-1],), "ended before the zone"),
    "no records": (([],), "ended before the zone"),
    "another SOA at the end": (
        ([*WHOLE[:-1], soa(2)],),
        "serial 1 is followed by 2",
    ),
    "records after the end": (([*WHOLE, host(9)],), "after the end"),
    "a message after the end": ((WHOLE, [host(9)]), "after the end"),
    "class": (
        ([soa(1), rr(b"\1a" + ORIGIN, 1, 60, bytes(4), 3), soa(1)],),
        "type A and class 3 is in no zone",
    ),
    "type": (([soa(1), rr(b"\1a" + ORIGIN, 255, 60, b""), soa(1)],), "type ANY and class 1"),
    "address": (([soa(1), rr(b"\1a" + ORIGIN, 1, 60, bytes(3)), soa(1)],), "too short"),
    "no data": (([soa(1), rr(b"\1a" + ORIGIN, 1, 60, b""), soa(1)],), "A is malformed"),
    "no SOA data": (([rr(ORIGIN, 6, 60, b"")],), "SOA is malformed"),
    "text": (([soa(1), rr(b"\1a" + ORIGIN, 16, 60, b"\5a"), soa(1)],), "TXT is malformed"),
    "alias": (
        ([soa(1), host(1), rr(b"\2h1" + ORIGIN, 5, 60, ORIGIN), soa(1)],),
        "CNAME",
    ),
    "second SOA": (
        ([soa(1), rr(b"\1a" + ORIGIN, 6, 60, soa(1)[len(ORIGIN) + 10 :]), soa(1)],),
        "SOA",
    ),
    "header": ((lambda query: query[:11],), "header"),
    "cut off": ((lambda query: reply(query, *WHOLE)[:-1],), "cut off"),
}


@pytest.mark.parametrize("case", LIES)
def test_a_lie_is_no_zone(case):
    messages, problem = LIES[case]
    with pytest.raises((TransferError, FormError, ZoneError), match=problem):
        transferred(*messages).build()


INCREMENTAL_LIES = {
    "removes what is not there": (
        [soa(2), soa(1), host(9), soa(2), soa(2)],
        "removes a record that the zone has not: h9.example.org. A",
    ),
    "from another version": ([soa(3), soa(2), host(0), soa(3), soa(3)], "2 is followed|3 is foll"),
    "a gap": ([soa(4), soa(1), soa(2), soa(3), soa(4), soa(4)], "2 is followed by 3"),
    "no end": ([*CHANGES], "ended before the zone"),
    "records after the end": ([*CHANGES, soa(3), host(9)], "after the end"),
    "back": ([soa(0)], "goes back from 1 to 0"),
    "back, with changes": ([soa(0), soa(1), host(0), soa(0), soa(0)], "does not increase"),
    "back, with a zone": ([soa(0), host(0), soa(0)], "does not increase: 1 to 0"),
    "the same": ([soa(1), host(0), soa(1)], "does not increase: 1 to 1"),
}


@pytest.mark.parametrize("case", INCREMENTAL_LIES)
def test_a_lie_is_no_change(case):
    records, problem = INCREMENTAL_LIES[case]
    before = wires(BASE)
    with pytest.raises((TransferError, ZoneError), match=problem):
        transferred(records, base=BASE).build()
    assert wires(BASE) == before


@pytest.mark.parametrize("rcode", [c.REFUSED, c.NOTIMP, c.NOTAUTH])
def test_a_refusal_is_reported(rcode):
    with pytest.raises(RefusedTransfer, match=f"the server answered {c.rcode_name(rcode)}"):
        transferred(lambda query: reply(query, rcode=rcode))


def test_a_later_message_needs_no_question():
    def without_question(query):
        records = WHOLE[3:]
        counts = b"\0\0" + len(records).to_bytes(2, "big") + bytes(4)
        return b"".join((query[:2], b"\x84\0", counts, *records))

    assert wires(transferred(WHOLE[:3], without_question).build()) == wires(BASE)


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.integers(0, 12), max_size=12),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=3),
    st.booleans(),
)
def test_any_message_is_a_zone_or_an_error(order, changes, incremental):
    """Records of several versions in any order, and changed bytes."""
    pool = [*CHANGES, soa(3), rr(ORIGIN, 2, 60, b"\2ns" + ORIGIN), rr(ORIGIN, 50, 60, b"\1\0\0")]
    base = BASE if incremental else None
    query = make_query(ORIGIN, c.TYPE_IXFR if incremental else c.TYPE_AXFR)
    message = bytearray(reply(query, *(pool[it % len(pool)] for it in order)))
    for at, value in changes:
        message[at % len(message)] = value
    incoming = IncomingTransfer(query, ORIGIN, base)
    try:
        incoming.feed(bytes(message))
        zone = incoming.build()
    except (TransferError, FormError, ZoneError):
        return
    assert zone is None or zone.origin == ORIGIN
    assert len(message) < MAX_SIZE
