"""Change the order of a message's records.

Most often the records are addresses of one name, with the same owner, type and length, which can be
swapped in place. Any other change may break compression pointers, so the message is rebuilt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from corepy.dns import constants as c
from corepy.dns.compress import LARGEST, rebuild
from corepy.dns.rdata import split
from corepy.dns.wire import ADDITIONAL, ANSWER, AUTHORITY, NameReader, counts, skip_questions, walk

EVERYWHERE: Final = (ANSWER, AUTHORITY, ADDITIONAL)
_LARGEST_ANEW: Final = 4096
"""Maximum size in bytes of a message that is rebuilt."""

ADDRESSES: Final = frozenset((c.TYPE_A, c.TYPE_AAAA))


class Record(NamedTuple):
    """A record and the offsets of its parts in `wire`."""

    wire: bytes
    names: NameReader
    rtype: int
    start: int
    fixed: int
    rdata_start: int
    end: int

    @property
    def owner(self) -> bytes:
        """The owner's wire name, in lower case."""
        return self.names.read(self.start)[0].lower()

    @property
    def rdata(self) -> bytes:
        """The rdata as in the message."""
        return self.wire[self.rdata_start : self.end]

    def can_take_the_place_of(self, other: Record) -> bool:
        """Return whether this record's bytes can replace another's without affecting pointers.

        A pointer can lead to an owner, never into an address.
        """
        wire = self.wire
        return self is other or (
            self.rtype == other.rtype
            and self.rtype in ADDRESSES
            and self.end - self.start == other.end - other.start
            and wire[self.start : self.fixed] == wire[other.start : other.fixed]
        )

    def expanded(self) -> bytes:
        """Return the record without compression."""
        wire = self.wire
        rdlength = self.end - self.rdata_start
        prefix, names, tail, _ = split(wire, self.rtype, self.rdata_start, rdlength, self.names)
        rdata = b"".join((prefix, *names, tail))
        head = wire[self.fixed : self.rdata_start - 2]
        owner, _ = self.names.read(self.start)
        return b"".join((owner, head, len(rdata).to_bytes(2, "big"), rdata))


Order = Callable[[list[Record]], Sequence[Record]]


def rearrange(wire: bytes, order: Order, sections: Sequence[int] = EVERYWHERE) -> bytes:
    """Return the message with the records of `sections` in the given order; raises FormError.

    A message that would exceed the size limit is returned unchanged. So is a message that would
    take too long to rebuild, because that would block the event loop.
    """
    if len(wire) > LARGEST:
        return wire
    names = NameReader(wire)
    before: dict[int, list[Record]] = {section: [] for section in EVERYWHERE}
    for section, rtype, _, ttl, rdata, rdlength, owner, _ in walk(wire):
        record = Record(wire, names, rtype, owner, ttl - 4, rdata, rdata + rdlength)
        before[section].append(record)
    old: list[Record] = []
    new: list[Record] = []
    for section, records in before.items():
        old += records
        new += order(records) if section in sections and len(records) > 1 else records
    if all(map(Record.can_take_the_place_of, new, old)):
        return _swapped(wire, old, new)
    return _written_anew(wire, new) if len(wire) <= _LARGEST_ANEW else wire


def _swapped(wire: bytes, old: list[Record], new: list[Record]) -> bytes:
    swapped = bytearray(wire)
    for place, record in zip(old, new, strict=True):
        if record is not place:
            swapped[place.start : place.end] = wire[record.start : record.end]
    return bytes(swapped)


def _written_anew(wire: bytes, records: list[Record]) -> bytes:
    head = wire[: skip_questions(wire, counts(wire)[0])]
    written = rebuild(b"".join((head, *(record.expanded() for record in records))))
    return written if written[2:12] == wire[2:12] else wire


def alike(wire: bytes, offsets: Sequence[int]) -> tuple[int, list[bytes]] | None:
    """Return the offset and the bytes of the answers if all are addresses of one name, else None.

    Such answers may be swapped, whatever else the message contains. `offsets` are the offsets of
    TTLs. Works for messages of any size.
    """
    number, start = wire[6] << 8 | wire[7], skip_questions(wire, counts(wire)[0])
    if not number:
        return None
    ttl = offsets[0]
    size = ttl + 6 + (wire[ttl + 4] << 8 | wire[ttl + 5]) - start
    owner_type_class, length = wire[start:ttl], wire[ttl + 4 : ttl + 6]
    if (wire[ttl - 4] << 8 | wire[ttl - 3]) not in ADDRESSES:
        return None
    records = [wire[at : at + size] for at in range(start, start + number * size, size)]
    at = ttl + 4 - start
    if all(it.startswith(owner_type_class) and it[at : at + 2] == length for it in records):
        return start, records
    return None
