"""Zone files of any content: read, written, read again; and replies to any query about them."""

from __future__ import annotations

from pathlib import Path

import pytest

from corepy.dns import Edns, Reply, Request, finish, query
from corepy.dns import constants as c
from corepy.dns.names import from_text
from corepy.dns.rdata import check_records
from corepy.dns.reply_validation import reply_problem
from corepy.testing.fuzzing import Source, briefly
from corepy.zone import ZoneBuilder, ZoneError
from corepy.zone.master_file import MasterFileReader
from corepy.zone.master_file import finish as finish_zone
from corepy.zone.replies import answer, quick_answer
from corepy.zone.writer import zone_to_text
from corepy.zone.zone import Zone

ORIGIN = from_text("example.")
LABELS = ("@", "a", "b.a", "c.b.a", "*", "*.a", "x.*.a", "d", "d.d", "ns", "A", "\\000", "example.",
          "a.example.net.", "0p9mhaveqvm6t7vbl5lop2u3t2rp3tom")  # fmt: skip
RECORDS = (
    "A 192.0.2.1", "A 192.0.2.2", "AAAA ::1", "NS ns", "NS d", "NS ns.a", "CNAME a", "CNAME b.a", "CNAME *",
    "CNAME x.example.net.", "DNAME a", "DNAME d", "DNAME example.net.", "MX 1 a", "SRV 1 1 1 b.a", "TXT x",
    "HTTPS 1 .", "SVCB 0 a", "DS 1 13 2 00", "NSEC b.a A NS RRSIG NSEC", "NSEC a A", "NSEC3PARAM 1 0 0 -",
    "NSEC3 1 0 0 - 0p9mhaveqvm6t7vbl5lop2u3t2rp3tom A", "NSEC3 1 1 0 - 00000000000000000000000000000000 NS",
    "RRSIG A 13 1 60 1 1 1 example. AAAA", "RRSIG SOA 13 1 60 1 1 1 example. AAAA",
    "RRSIG NSEC 13 1 60 1 1 1 example. AAAA", "SOA a b 2 3 4 5 6",
)  # fmt: skip
LINES = ("$ORIGIN a", "$ORIGIN .", "$TTL 5", "$GENERATE 1-3 g$.a A 192.0.2.$", "$INCLUDE nowhere", "(", ")",
         '"', ";", "$GENERATE 1-2 $ CNAME ${1}", "", "  A 192.0.2.3")  # fmt: skip
QUERIES = ("example.", "a.example.", "b.a.example.", "x.a.example.", "x.y.a.example.", "d.example.",
           "q.d.d.example.", "*.example.", "\\000.\\000.example.", "g1.a.example.", "ns.a.example.",
           f"{'x' * 63}.{'y' * 63}.{'z' * 63}.d.example.")  # fmt: skip
TYPES = (1, 2, 5, 6, 15, 16, 28, 33, 39, 43, 46, 47, 50, 51, 64, 65, 255, 65280)


def check(data: bytes) -> None:
    source = Source(data)
    lines = ["$TTL 60", "@ SOA ns host 1 2 3 4 5", "@ NS ns"]
    for _ in range(source.number(0, 20)):
        if source.one_in(8):
            lines.append(source.pick(LINES))
        else:
            lines.append(f"{source.pick(LABELS)} {source.pick(RECORDS)}")
    zone = read("\n".join(lines).encode())
    if zone is not None:
        assert list(read("".join(zone_to_text(zone)).encode()) or ()) == list(zone)
        for _ in range(source.number(1, 6)):
            check_reply(zone, source)


def read(content: bytes) -> Zone | None:
    """Return the zone, None if it is refused."""
    builder = ZoneBuilder(ORIGIN)
    path = Path("zone")
    reader = MasterFileReader(builder, lambda _: None)
    reader.read_content(content, path)
    try:
        return finish_zone(builder, path, [])
    except ZoneError:
        return None


def check_reply(zone: Zone, source: Source) -> None:
    """It is valid, is small enough, and has each record once."""
    do = source.one_in(2)
    name, qtype = from_text(source.pick(QUERIES)), source.pick(TYPES)
    request = Request.from_wire(query(name, qtype, edns=Edns(udp_size=1232, do=do)))
    reply, _ = answer(zone, request)
    reply.validated = None
    assert reply_problem(request, reply) is None
    sent = finish(request, reply)
    Reply.from_wire(sent)
    check_records(sent)
    assert reply.rcode in (c.NOERROR, c.NXDOMAIN, 6)
    quick = quick_answer(zone, request)
    assert quick is None or quick.wire == reply.wire


SEEDS = {"no lines": b"", "a zone full of aliases": bytes(range(7, 200))}


@pytest.mark.parametrize("data", SEEDS.values(), ids=SEEDS.keys())
def test_seeds(data: bytes) -> None:
    check(data)


def test_any_zone() -> None:
    briefly(check)
