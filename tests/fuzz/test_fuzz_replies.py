"""Replies of upstreams, compressed in any way, with OPT anywhere: the same content comes out of everything.

The reference reads each name anew from the message as it was received.
"""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from corepy.dns import FormError, Reply, Request, edns, finish, query
from corepy.dns import constants as c
from corepy.dns.edns import parse_options
from corepy.dns.rdata import LAYOUTS, split
from corepy.dns.reply_validation import reply_problem
from corepy.dns.response import minimal_ttl, typify
from corepy.dns.text import to_dig
from corepy.dns.wire import read_name, ttl_offsets, walk
from corepy.plugin import Handler
from corepy.testing import controller_for
from corepy.testing.fuzzing import Source, briefly
from corepy_cache import setup
from corepy_cache.handler import Cache
from corepy_loadbalance.orders import round_robin
from corepy_loadbalance.records import rearrange

LABELS = (b"www", b"ns", b"example", b"org", b"a", b"aaaaaaa", b"x" * 63, b"\0", b"\4q")
TYPES = (1, 1, 28, 5, 2, 6, 12, 15, 16, 33, 35, 46, 47, 64, 65, 39, 41, 65280)
TTLS = (0, 1, 60, 300, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x01610000, 0x03777777)
OPTIONS = (
    edns.option(3, b"server"),
    edns.option(10, bytes(8)),
    edns.ede(3, "x"),
    edns.option(65001),
)


class Writer:
    """Writes names with every way of compression, right and wrong."""

    def __init__(self, source: Source, odd: bool) -> None:
        self.source = source
        self.odd = odd
        self.labels: list[int] = []
        self.buf = bytearray(12)

    def name(self) -> None:
        """Append some labels, and the root or a pointer."""
        source, buf = self.source, self.buf
        here = []
        for _ in range(source.number(0, 3)):
            here.append(len(buf))
            label = source.pick(LABELS)
            buf += bytes((len(label),)) + label
        kind = source.number(0, 7)
        if kind == 7 and self.odd:
            buf += struct.pack("!H", 0xC000 | source.number(0, max(len(buf), 40)))
        elif kind >= 2 and self.labels:
            at = source.pick(self.labels) if kind > 3 else self.labels[0]
            buf += struct.pack("!H", 0xC000 | at & 0x3FFF)
        else:
            buf.append(0)
        self.labels += here

    def record(self) -> None:
        """Append a record whose data is of its type's form, mostly."""
        source, buf = self.source, self.buf
        if source.one_in(2) and self.labels:
            buf += struct.pack("!H", 0xC000 | self.labels[0])
        else:
            self.name()
        rtype = source.pick(TYPES if self.odd else TYPES[:-2])
        buf += struct.pack("!HHIH", rtype, 1, source.pick(TTLS), 0)
        start = len(buf)
        layout = LAYOUTS.get(rtype)
        if layout is None:
            buf += source.take(source.number(0, 12))
        elif not source.one_in(10):
            buf += source.take(layout.prefix).ljust(layout.prefix, b"\1")
            if rtype == c.TYPE_NAPTR:
                buf += b"\1u\0\2xy"
            for _ in range(layout.names):
                self.name()
            tail = source.number(0, 8) if layout.tail is None else layout.tail
            buf += source.take(tail).ljust(tail, b"\0")
        struct.pack_into("!H", buf, start - 2, len(buf) - start)


def build(source: Source) -> tuple[bytes, bool]:
    """Return a reply, and whether nothing is wrong with it."""
    odd = source.one_in(3)
    writer = Writer(source, odd)
    buf = writer.buf
    for _ in range(source.number(1, 3)):
        writer.labels.append(len(buf))
        label = source.pick(LABELS)
        buf += bytes((len(label),)) + label
    buf += b"\0" + struct.pack("!HH", source.pick((1, 28, 5, 33, 6, 255, 252)), 1)
    counts = [source.number(0, 4), source.number(0, 2), source.number(0, 4)]
    opt_at = source.number(0, counts[2]) if source.one_in(2) else -1
    for section, number in enumerate(counts):
        for i in range(number + (section == 2)):
            if section == 2 and i == opt_at:
                options = b"".join(source.pick(OPTIONS) for _ in range(source.number(0, 3)))
                if source.one_in(8):
                    options += source.take(3)
                    odd = True
                version, extended = int(source.one_in(4)), int(source.one_in(6))
                buf += edns.opt_record(1232, source.one_in(2), extended, options, version)
            if i < number:
                writer.record()
    flags = 0x8180 | source.pick((0, 0, 0, 2, 3, 4, 5)) | (0x200 if source.one_in(12) else 0)
    struct.pack_into(
        "!HHHHHH", buf, 0, 0x0161, flags, 1, counts[0], counts[1], counts[2] + (opt_at >= 0)
    )
    for _ in range(source.number(1, 4) if source.one_in(6) else 0):
        buf[source.number(12, len(buf) - 1)] = source.byte()
        odd = True
    if source.one_in(12):
        del buf[source.number(12, len(buf)) :]
        odd = True
    return bytes(buf), not odd


Content = list[tuple[object, ...]]


def content(wire: bytes) -> Content:
    """Return the records with their names in full, OPT left out; raises FormError."""
    found: Content = []
    for section, rtype, rclass, ttl, rdata, length, owner, _ in walk(wire):
        if rtype == c.TYPE_OPT:
            continue
        name = read_name(wire, owner)[0]
        prefix, names, tail, _ = split(wire, rtype, rdata, length)
        time = int.from_bytes(wire[ttl : ttl + 4], "big")
        found.append((section, name, rtype, rclass, prefix, *names, tail, time))
    return found


def timeless(records: Content) -> Content:
    return [record[:-1] for record in records]


def try_content(wire: bytes) -> Content | None:
    try:
        return content(wire)
    except FormError:
        return None


def received(wire: bytes, end: int | None) -> Reply | None:
    try:
        return Reply.from_wire(wire) if end is None else Reply.from_answer(wire, end)
    except FormError:
        return None


def check(data: bytes) -> None:
    source = Source(data)
    if source.one_in(8):
        wire, is_right = source.take(source.left), False
    else:
        wire, is_right = build(source)
    if len(wire) < 17 or wire[4:6] != b"\0\1" or not wire[2] & 0x80 or wire[2] & 0x78:
        return
    try:
        name, end = read_name(wire, 12)
        asked = Request.from_wire(query(name, *struct.unpack_from("!HH", wire, end), ident=0xABCD))
    except (FormError, struct.error):
        return  # a forward would not take it for an answer
    check_reply(wire, asked, is_right)


def check_reply(wire: bytes, asked: Request, is_right: bool) -> None:
    before = try_content(wire)
    replies = [received(wire, None), received(wire, asked.question_end)]
    if is_right and before is not None:
        assert replies[0] is not None, "a good reply is refused"
    assert (replies[0] is None) == (replies[1] is None)
    for reply in replies:
        if reply is None:
            continue
        assert ttl_offsets(reply.wire) == reply.ttl_offsets
        parse_options(reply.options)
        after = try_content(reply.wire)
        if before is not None:
            assert after == before
        check_names(reply.wire)
        check_volatile(reply.wire, reply.ttl_offsets)
        check_plain(reply)
        assert reply_problem(asked, reply) is None
        for now in (None, 1e9):
            try:
                minimal_ttl(reply, typify(reply, now))
            except FormError:
                pass  # a SOA that is cut off
        if after is not None:
            check_sent(asked, reply, after)
            check_order(reply, after)
        check_kept(asked, reply, after)
        try:
            to_dig(wire)
        except FormError:
            pass


def check_names(wire: bytes) -> None:
    """Every name that is relayed can be read, and ends where its record does."""
    for _, rtype, _, _, rdata, length, owner, end in walk(wire):
        read_name(wire, owner)
        layout = LAYOUTS.get(rtype)
        if layout is None or not layout.names or not length:
            continue
        here = rdata + layout.prefix
        for _ in range(3 if rtype == c.TYPE_NAPTR else 0):
            here += wire[here] + 1
        for _ in range(layout.names):
            here = read_name(wire, here)[1]
        assert here <= end


def check_volatile(wire: bytes, offsets: list[int]) -> None:
    """ID, flags, counts and TTLs are changed on the way to the client: no name may lie in them."""
    changed = bytearray(wire)
    changed[0:4] = bytes(byte ^ 0xFF for byte in wire[0:4])
    for at in offsets:
        changed[at : at + 4] = b"\1\1\1\1"
    before = try_content(wire)
    if before is not None:
        after = try_content(bytes(changed))
        assert after is not None
        assert timeless(after) == timeless(before)


def check_plain(reply: Reply) -> None:
    plain = reply.plain_ttls
    if plain is not None:
        ttls = [int.from_bytes(reply.wire[at : at + 4], "big") for at in reply.ttl_offsets]
        assert plain == (min(ttls), max(ttls))


def check_sent(asked: Request, reply: Reply, records: Content) -> None:
    for size, proto in ((None, "udp"), (512, "udp"), (1232, "udp"), (65535, "tcp")):
        opt = None if size is None else edns.Edns(size)
        asker = Request.from_wire(query(asked.question[:-4], asked.qtype, edns=opt, ident=0x4242))
        asker.context = replace(asker.context, protocol=proto)
        asker.peer = asker.client = ("127.0.0.1", 1)
        sent = finish(asker, reply)
        assert sent[:2] == b"\x42\x42"
        assert len(sent) <= asker.size
        shown = content(sent)
        assert shown == records[: len(shown)]
        assert len(shown) == len(records) or sent[2] & 2
        if size is None:
            assert sum(struct.unpack_from("!HHH", sent, 6)) == len(shown)


def check_order(reply: Reply, records: Content) -> None:
    if reply.rcode == 0:
        try:
            other = content(rearrange(reply.wire, round_robin))
        except FormError:
            return
        assert sorted(map(repr, other)) == sorted(map(repr, records))


class Below(Handler):
    """Hands out one reply, and then none."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.asked = 0

    def begin_dns(self, request: Request) -> Reply:
        self.asked += 1
        return self.reply.copy()


_settings = controller_for("cache")
setup(_settings)


def check_kept(asked: Request, reply: Reply, records: Content | None) -> None:
    """A cache takes it or leaves it, and what it gives later is the same but for the TTLs."""
    now = [1000.0]
    cache = Cache(_settings.handlers[0].settings, clock=lambda: now[0])
    cache.next = below = Below(reply)
    for i in range(3):
        asked.received = now[0]
        given = cache.begin_dns(asked)
        assert isinstance(given, Reply)
        assert reply_problem(asked, given) is None
        sent = finish(asked, given)
        shown = try_content(sent)
        if records is not None:
            assert shown is not None
            assert timeless(shown) == timeless(records)[: len(shown)]
            if below.asked == 1 and i:
                assert all(isinstance(r[-1], int) and r[-1] <= 0x7FFFFFFF for r in shown)
        now[0] += 1
    cache.store.clear()


def raw(wire: str | bytes) -> bytes:
    """The input that stands for just this message."""
    return b"\7" + (wire if isinstance(wire, bytes) else bytes.fromhex(wire))


QUESTION = b"\1a\0\0\1\0\1"


def reply_of(records: bytes, an: int = 1, ar: int = 0, rcode: int = 0) -> bytes:
    return struct.pack("!HHHHHH", 0x0161, 0x8180 | rcode, 1, an, 0, ar) + QUESTION + records


A = b"\xc0\x0c\0\1\0\1\1b\0\0\0\4\xc0\0\2\1"
SEEDS = {
    "rebuild without OPT saves as many bytes as follow it": raw(
        "0001818000010001000000020761616161616161076578616d706c65036f7267000001000107616161616161610765"
        "78616d706c65036f726700000100010000003c0004c000020100002904d0000000000000026e73076578616d706c65"
        "036f726700000100010000003c0004c6336401"
    ),
    "OPT of version 1 with an option cut off": raw(
        reply_of(bytes.fromhex("00002904d0000100000004000a00ff"), 0, 1)
    ),
    "OPT of version 1 with an option cut off, SERVFAIL": raw(
        reply_of(bytes.fromhex("00002904d0000100000004000a00ff"), 0, 1, rcode=2)
    ),
    "owner in the ID": raw(reply_of(b"\xc0\0\0\1\0\1\0\0\0\5\0\4\xc0\0\2\1")),
    "alias in the ID": raw(reply_of(b"\xc0\x0c\0\5\0\1\0\0\0\5\0\2\xc0\0")),
    "owner in a TTL": raw(reply_of(A + b"\xc0\x19" + A[2:], 2)),
    "alias in a TTL": raw(reply_of(A + b"\xc0\x0c\0\5\0\1\0\0\0\5\0\2\xc0\x19", 2)),
    "alias that ends in the next TTL": raw(reply_of(b"\xc0\x0c\0\5\0\1\0\0\0\5\0\2\2x" + A, 2)),
}


@pytest.mark.parametrize("data", SEEDS.values(), ids=SEEDS.keys())
def test_seeds(data: bytes) -> None:
    check(data)


def test_any_reply() -> None:
    briefly(check)
