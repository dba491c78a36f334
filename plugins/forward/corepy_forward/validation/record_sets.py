"""Reads a reply into record sets with their signatures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from corepy.dns import constants as c
from corepy.dns.form_error import FormError
from corepy.dns.rdata import split
from corepy.dns.wire import ANSWER, AUTHORITY, NameReader, read_ttl, walk

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_RECORDS: Final = 1000
"""Records in a message that is validated; a larger one would take milliseconds to read."""

_MIN_RRSIG: Final = 19
_MIN_SIZES: Final = {c.TYPE_CNAME: 1, c.TYPE_DNAME: 1, c.TYPE_SOA: 22, c.TYPE_NSEC: 1}
"""Bytes of rdata below which a record is malformed; `split` accepts empty rdata."""


class Record(NamedTuple):
    """A record of a message; names in `rdata` are not compressed."""

    section: int
    owner: bytes
    """In lower case."""
    rtype: int
    ttl: int
    ttl_offset: int
    rdata: bytes

    @property
    def key(self) -> tuple[bytes, int]:
        """The owner and type of its set; a signature belongs to the set that it covers."""
        if self.rtype == c.TYPE_RRSIG:
            return self.owner, self.rdata[0] << 8 | self.rdata[1]
        return self.owner, self.rtype


class RecordSet:
    """The records with one owner and type in one section, and their signatures."""

    __slots__ = ("owner", "rdatas", "rtype", "signatures", "ttl")

    def __init__(self, owner: bytes, rtype: int) -> None:
        self.owner = owner
        self.rtype = rtype
        self.ttl = 0x7FFFFFFF
        """The lowest TTL of its records in seconds."""
        self.rdatas: list[bytes] = []
        self.signatures: list[bytes] = []
        """The rdata of the RRSIG records."""

    def add(self, record: Record) -> None:
        """Add a record or a signature."""
        self.ttl = min(self.ttl, record.ttl)
        (self.signatures if record.rtype == c.TYPE_RRSIG else self.rdatas).append(record.rdata)

    @property
    def title(self) -> str:
        """The type of its records, for messages."""
        return c.type_name(self.rtype)


Sets = dict[tuple[bytes, int], RecordSet]


class Message:
    """The records of a reply, also as sets of the answer and the authority section."""

    __slots__ = ("answer", "authority", "rcode", "records", "wire")

    def __init__(self, wire: bytes, rcode: int) -> None:
        """Read a message; raises FormError."""
        self.wire = wire
        self.rcode = rcode
        self.records = list(_records(wire))
        self.answer: Sets = {}
        self.authority: Sets = {}
        sections = {ANSWER: self.answer, AUTHORITY: self.authority}
        for record in self.records:
            sets = sections.get(record.section)
            if sets is not None:
                key = record.key
                found = sets.get(key)
                if found is None:
                    found = sets[key] = RecordSet(*key)
                found.add(record)

    def answer_set(self, owner: bytes, rtype: int) -> RecordSet | None:
        """Return a set in the answer section that has records, not only signatures."""
        found = self.answer.get((owner, rtype))
        return found if found is not None and found.rdatas else None


def _records(wire: bytes) -> Iterator[Record]:
    reader = NameReader(wire)
    for count, record in enumerate(walk(wire)):
        section, rtype, rclass, ttl_at, start, length, owner_at, _ = record
        if count >= MOST_RECORDS:
            raise FormError(f"more than {MOST_RECORDS} records")
        if rclass != c.CLASS_IN:
            raise FormError("a record has another class than the question")
        prefix, names, tail, _ = split(wire, rtype, start, length, reader)
        rdata = b"".join((prefix, *names, tail))
        if rtype == c.TYPE_RRSIG and len(rdata) < _MIN_RRSIG:
            raise FormError("an RRSIG record is too short")
        if len(rdata) < _MIN_SIZES.get(rtype, 0):
            raise FormError("a record is too short")
        owner = reader.read(owner_at)[0].lower()
        yield Record(section, owner, rtype, read_ttl(wire, ttl_at), ttl_at, rdata)
