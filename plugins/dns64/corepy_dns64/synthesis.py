"""Makes the reply to a query out of the replies to others (RFC 6147 sections 5.1.4 to 5.4)."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final

from corepy.dns import constants as c
from corepy.dns.rdata import plain_records, plain_sections
from corepy.dns.records import rr
from corepy.dns.reply_like import reply_like
from corepy.dns.wire import ANSWER, AUTHORITY, skip_name, walk

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from corepy.dns import Reply, Request
    from corepy_dns64.prefix import Prefix

MAPPED: Final = bytes(10) + b"\xff\xff"
"""The first bytes of an IPv4-mapped address, at which no IPv6 host can be reached."""

TTL_WITHOUT_SOA: Final = 600
"""Seconds: the largest TTL if the reply to the AAAA query has no SOA record (section 5.1.7)."""

_TTL_SIGN: Final = 0x80000000
_RDATA: Final = 10
"""Bytes between the owner of a record and its rdata."""

_unpack_fixed = Struct("!HHIH").unpack_from
_unpack_ttl = Struct("!I").unpack_from


def addresses(reply: Reply) -> tuple[bool, bool]:
    """Return whether a reply has AAAA records: (usable ones, IPv4-mapped ones)."""
    native = mapped = False
    wire = reply.wire
    for section, rtype, _, _, rdata, _, _, _ in walk(wire):
        if section != ANSWER:
            break
        if rtype == c.TYPE_AAAA:
            if wire.startswith(MAPPED, rdata):
                mapped = True
            else:
                native = True
    return native, mapped


def longest_ttl(reply: Reply) -> int:
    """Return the largest TTL of records that replace the missing ones of `reply`, in seconds."""
    for section, rtype, _, ttl, _, _, _, _ in walk(reply.wire):
        if section == AUTHORITY and rtype == c.TYPE_SOA:
            return _ttl(_unpack_ttl(reply.wire, ttl)[0])
    return TTL_WITHOUT_SOA


def translated(prefix: Prefix, reply: Reply, most: int) -> tuple[list[bytes], int]:
    """Return the answer of a reply with its A records translated, and the number of these.

    A TTL is at most `most` seconds. The signatures of the A records are left out, all other records
    are unchanged (section 5.3.3).
    """
    records, count = list[bytes](), 0
    for record, end, rtype, rclass, ttl in _answer(reply):
        if rtype == c.TYPE_A and rclass == c.CLASS_IN:
            address = record[end + _RDATA :]
            if address:  # rdata of length 0 is readable, but no address
                aaaa = prefix.embed(address)
                records.append(rr(record[:end], c.TYPE_AAAA, min(_ttl(ttl), most), aaaa))
                count += 1
        elif not _covers(record, end, rtype, c.TYPE_A):
            records.append(record)
    return records, count


def without_mapped(reply: Reply) -> list[bytes]:
    """Return the answer of a reply without IPv4-mapped addresses (section 5.1.4).

    The signatures of the addresses are left out, too, since they cover all of them.
    """
    return [
        record
        for record, end, rtype, _, _ in _answer(reply)
        if not (rtype == c.TYPE_AAAA and record.startswith(MAPPED, end + _RDATA))
        and not _covers(record, end, rtype, c.TYPE_AAAA)
    ]


def answer_of(reply: Reply) -> list[bytes]:
    """Return the records of the answer section."""
    return [record for record, *_ in _answer(reply)]


def reply_with(request: Request, answer: Sequence[bytes], source: Reply, flags: int = 0) -> Reply:
    """Return a reply with this answer; all else is that of `source` (section 5.3.2).

    Its flags are RA, TC and the bits in `flags` of `source`.
    """
    _, authority, additional = plain_sections(source.wire)
    kept = c.FLAG_RA | c.FLAG_TC | flags
    return reply_like(request, source, answer, authority, additional, flags=kept)


def _answer(reply: Reply) -> Iterator[tuple[bytes, int, int, int, int]]:
    """Yield each record of the answer: (record, end of its owner, type, class, TTL)."""
    for record in plain_records(reply.wire, ANSWER):
        end = skip_name(record, 0)
        rtype, rclass, ttl, _ = _unpack_fixed(record, end)
        yield record, end, rtype, rclass, ttl


def _covers(record: bytes, end: int, rtype: int, covered: int) -> bool:
    """Return whether a record is the signature of records of a type."""
    return rtype == c.TYPE_RRSIG and record.startswith(covered.to_bytes(2, "big"), end + _RDATA)


def _ttl(value: int) -> int:
    return 0 if value & _TTL_SIGN else value  # RFC 2181 section 8
