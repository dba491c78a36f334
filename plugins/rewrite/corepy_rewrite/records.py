"""The records of a message, taken apart so that their names can be changed."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final

from corepy.dns import constants as c
from corepy.dns.compress import Writer
from corepy.dns.rdata import split
from corepy.dns.wire import ADDITIONAL, ANSWER, AUTHORITY, NameReader, read_ttl, walk

if TYPE_CHECKING:
    from collections.abc import Iterable

_NAMED: Final = frozenset(
    (
        *(c.TYPE_SRV, c.TYPE_MX, c.TYPE_CNAME, c.TYPE_NS),
        *(c.TYPE_DNAME, c.TYPE_NAPTR, c.TYPE_SOA, c.TYPE_PTR),
    )
)
"""The types whose first name is the value that rules change."""

_HEADER: Final = Struct("!HHHHHH")
_pack_fixed = Struct("!HHIH").pack
_pack_length = Struct("!H").pack_into
_SIZE_OF_LENGTH: Final = 2


class Record:
    """A record with its names in full."""

    __slots__ = (
        "compresses",
        "names",
        "owner",
        "prefix",
        "rclass",
        "rtype",
        "section",
        "tail",
        "ttl",
    )

    section: int
    owner: bytes
    rtype: int
    rclass: int
    ttl: int
    prefix: bytes
    names: list[bytes]
    tail: bytes
    compresses: bool

    @property
    def value(self) -> bytes | None:
        """The name that is the record's value, None for a type without one."""
        return self.names[0] if self.rtype in _NAMED and self.names else None

    @value.setter
    def value(self, name: bytes) -> None:
        self.names[0] = name

    def write_to(self, writer: Writer) -> None:
        """Append the record to a message."""
        writer.name(self.owner)
        buf = writer.buf
        buf += _pack_fixed(self.rtype, self.rclass, self.ttl, 0)
        start = len(buf)
        buf += self.prefix
        for name in self.names:
            writer.name(name, self.compresses)
        buf += self.tail
        _pack_length(buf, start - _SIZE_OF_LENGTH, len(buf) - start)


def read_records(wire: bytes) -> list[Record]:
    """Return the records of a message in their order; raises FormError."""
    records: list[Record] = []
    reader = NameReader(wire)
    for section, rtype, rclass, ttl, rdata, length, owner, _ in walk(wire):
        record = Record()
        record.section = section
        record.owner = reader.read(owner)[0]
        record.rtype, record.rclass, record.ttl = rtype, rclass, read_ttl(wire, ttl)
        record.prefix, record.names, record.tail, record.compresses = split(
            wire, rtype, rdata, length, reader
        )
        records.append(record)
    return records


def write_message(header: bytes, question: bytes, records: Iterable[Record]) -> bytes:
    """Return a message of a header, of which ID and flags count, a question, and records.

    Records that exceed the size of a message are left out, and TC is set.
    """
    writer = Writer(bytes(c.HEADER_SIZE))
    buf = writer.buf
    writer.name(question[:-4])
    buf += question[-4:]
    ident, flags, *_ = _HEADER.unpack_from(header)
    counts = {ANSWER: 0, AUTHORITY: 0, ADDITIONAL: 0}
    for record in records:
        end = len(buf)
        record.write_to(writer)
        if len(buf) > c.MAX_SIZE:
            del buf[end:]
            flags |= c.FLAG_TC
            break
        counts[record.section] += 1
    _HEADER.pack_into(buf, 0, ident, flags, 1, *counts.values())
    return bytes(buf)
