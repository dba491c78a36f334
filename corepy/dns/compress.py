"""Rewrites messages with name compression, or truncates them to a size.

A message is rewritten if it does not fit its client, or if its compression is odd. Many servers,
including CoreDNS, do not compress small messages, so rewriting alone often makes them fit. Typical
queries do not get here; the time is linear in the message's length anyway.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from struct import Struct
from typing import Final

from corepy.dns.constants import FLAG_TC, HEADER_SIZE, MAX_SIZE
from corepy.dns.rdata import split
from corepy.dns.wire import ADDITIONAL, ANSWER, AUTHORITY, NameReader, counts, skip_questions, walk

LARGEST: Final = 0x4000
"""Size in bytes of the largest message to rewrite; larger ones would block the event loop."""

_HEADER: Final = Struct("!HHHHHH")
_pack_length: Final = Struct("!H").pack_into
_POINTER_REACH: Final = 0x4000
_POINTER_BITS: Final = 0xC000


class Writer:
    """A message under construction; `name` compresses names against earlier ones."""

    __slots__ = ("_known", "buf")

    def __init__(self, head: bytes) -> None:
        self.buf = bytearray(head)
        # Case-sensitive, so that every name keeps its case.
        self._known: dict[bytes, int] = {}

    def name(self, name: bytes, compress: bool = True) -> None:
        """Append a wire name; with compress, replace a suffix written before by a pointer."""
        known = self._known
        buf = self.buf
        if not compress and len(buf) >= _POINTER_REACH:
            buf += name
            return
        at = 0
        while n := name[at]:
            suffix = name[at:]
            offset = known.get(suffix)
            if offset is not None and compress:
                buf += (_POINTER_BITS | offset).to_bytes(2, "big")
                return
            if offset is None and len(buf) < _POINTER_REACH:
                known[suffix] = len(buf)
            buf += name[at : at + n + 1]
            at += n + 1
        buf.append(0)

    def record(
        self,
        msg: bytes,
        rtype: int,
        fixed: int,
        rdata: int,
        rdlength: int,
        owner: bytes,
        reader: NameReader,
    ) -> None:
        """Append a record of msg; `fixed` is the offset of its type, `rdata` that of its rdata."""
        self.name(owner)
        buf = self.buf
        buf += msg[fixed:rdata]
        start = len(buf)
        prefix, names, tail, compress = split(msg, rtype, rdata, rdlength, reader)
        buf += prefix
        for name in names:
            self.name(name, compress)
        buf += tail
        _pack_length(buf, start - 2, len(buf) - start)


def rebuild(msg: bytes, limit: int = MAX_SIZE) -> bytes:
    """Return the message compressed, in at most limit bytes.

    Records are kept in order as long as they fit. The first one that does not fit and all after it
    are removed, and TC is set, regardless of the section (miekg/dns, msg_truncate.go). The question
    is kept even above the limit. Raise FormError.
    """
    questions = counts(msg)[0]
    ident, flags, *_ = _HEADER.unpack_from(msg)
    writer = Writer(bytes(HEADER_SIZE))
    buf = writer.buf
    reader = NameReader(msg)
    offset = HEADER_SIZE
    for _ in range(questions):
        name, offset = reader.read(offset)
        writer.name(name)
        buf += msg[offset : offset + 4]
        offset += 4
    kept = {ANSWER: 0, AUTHORITY: 0, ADDITIONAL: 0}
    for section, rtype, _, ttl, rdata, rdlength, at, _ in walk(msg):
        mark = len(buf)
        owner, _ = reader.read(at)
        writer.record(msg, rtype, ttl - 4, rdata, rdlength, owner, reader)
        if len(buf) > limit:
            del buf[mark:]
            flags |= FLAG_TC
            break
        kept[section] += 1
    _HEADER.pack_into(buf, 0, ident, flags, questions, *kept.values())
    return bytes(buf)


def cut(msg: bytes, limit: int, offsets: Sequence[int]) -> bytes:
    """Return the message with as many records as fit into limit bytes; TC is set if some do not.

    Names are not rewritten, so this is cheap for messages of any size. `offsets` are those of the
    TTLs of all records. The message must have no OPT record.
    """
    if len(msg) <= limit:
        return msg
    number = bisect_right(offsets, limit - 6)
    end = _end_of(msg, offsets, number)
    if end > limit and number:
        number -= 1
        end = _end_of(msg, offsets, number)
    return _first(msg, number, end)


def first_records(msg: bytes, number: int, offsets: Sequence[int]) -> bytes:
    """Return the message with its first `number` records, and TC if there are more."""
    if len(offsets) <= number:
        return msg
    return _first(msg, number, _end_of(msg, offsets, number))


def _end_of(msg: bytes, offsets: Sequence[int], number: int) -> int:
    """Return the offset of the end of the first `number` records."""
    if not number:
        return skip_questions(msg, counts(msg)[0])
    at = offsets[number - 1]
    return at + 6 + (msg[at + 4] << 8 | msg[at + 5])


def _first(msg: bytes, number: int, end: int) -> bytes:
    ident, flags, questions, *numbers = _HEADER.unpack_from(msg)
    kept = []
    for each in numbers:
        kept.append(min(each, number))
        number -= kept[-1]
    return _HEADER.pack(ident, flags | FLAG_TC, questions, *kept) + msg[HEADER_SIZE:end]
