"""Collects rules and writes a table; runs beside the server, in a process or a thread of its own.

The rules wait as bytes in parts, by the first bits of their hash, and one part at a time is sorted.
So a million names need 60 MB for a moment, not 300.
"""

from __future__ import annotations

import json
from array import array
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NamedTuple
from zlib import crc32

from corepy_blocklist.rule import (
    CLIENT_IP,
    MOST_KEY_BYTES,
    NSDNAME,
    LocalRecord,
    Mask,
)
from corepy_blocklist.table import (
    FEWEST_BITS,
    MAGIC,
    RECORD,
    RECORDS,
    TRAILER,
    VALUE,
    masks_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_PART_SHIFT: Final = 32 - FEWEST_BITS
MOST_BYTES: Final = 1 << 30
"""Maximum size of all entries and of all records in bytes."""

_unpack_value = VALUE.unpack_from
_pack_value = VALUE.pack
_ACTION: Final = 15
_SCOPE: Final = 0xF0


class TooLargeError(ValueError):
    """The rules exceed the size of a table."""


class Mark(NamedTuple):
    """A state of a writer."""

    parts: tuple[int, ...]
    records: int
    size: int
    shortest: int
    masks: frozenset[tuple[Mask, int]]
    first: dict[int, int]
    has_aliases: bool


class TableWriter:
    """Collects rules in the order of their sources."""

    def __init__(self) -> None:
        self._parts = [bytearray() for _ in range(1 << FEWEST_BITS)]
        self._records = bytearray()
        self._size = 0
        self._shortest = MOST_KEY_BYTES + 1
        self._masks: set[tuple[Mask, int]] = set()
        self._first: dict[int, int] = {}
        self._has_aliases = False

    def add(self, key: bytes, scope: int, action: int, source: int, number: int) -> None:
        """Add a rule; `number` is its line, or the position of its records. Raises TooLargeError.

        `key` has at most `MOST_KEY_BYTES` bytes.
        """
        entry = b"%c%b%b" % (len(key), key, _pack_value(scope | action, source, number))
        self._parts[crc32(key) >> _PART_SHIFT] += entry
        self._size += len(entry)
        if self._size > MOST_BYTES:
            raise TooLargeError(f"the rules take more than {MOST_BYTES >> 20} MiB")
        if key[0] < CLIENT_IP:
            if len(key) < self._shortest:
                self._shortest = len(key)
            return
        self._first[key[0]] = min(source, self._first.get(key[0], source))
        if key[0] != NSDNAME:
            self._masks.add(((key[0], key[1]), len(key) - 2))

    def add_records(self, line: int, records: Iterable[LocalRecord], cname: int) -> int:
        """Add local data, and return its position; `cname` is the type of aliases."""
        kept = list(records)
        position = len(self._records)
        self._records += RECORDS.pack(line, len(kept))
        for rtype, ttl, rdata in kept:
            self._records += RECORD.pack(rtype, ttl, len(rdata)) + rdata
            self._has_aliases |= rtype == cname
        if len(self._records) > MOST_BYTES:
            raise TooLargeError(f"the local data takes more than {MOST_BYTES >> 20} MiB")
        return position

    def mark(self) -> Mark:
        """Return the present state for `roll_back`."""
        return Mark(
            tuple(map(len, self._parts)),
            len(self._records),
            self._size,
            self._shortest,
            frozenset(self._masks),
            dict(self._first),
            self._has_aliases,
        )

    def roll_back(self, mark: Mark) -> None:
        """Remove all that was added since `mark`."""
        for part, length in zip(self._parts, mark.parts, strict=True):
            del part[length:]
        del self._records[mark.records :]
        self._size, self._shortest = mark.size, mark.shortest
        self._masks, self._first = set(mark.masks), dict(mark.first)
        self._has_aliases = mark.has_aliases

    def write(self, file: BinaryIO, description: Mapping[str, Any]) -> None:
        """Write the table, with a description that the server gets."""
        entries = sum(map(_count, self._parts))
        bits = max(FEWEST_BITS, entries.bit_length() + 1)  # 60 % of the buckets remain empty
        offsets, rules, size = array("I"), 0, 0
        for part in self._parts:
            number, packed = _sorted(part, 32 - bits, size, 1 << (bits - FEWEST_BITS), offsets)
            part.clear()
            rules += number
            size += len(packed)
            file.write(packed)
        padding = -(size + len(self._records)) % 4
        self._records += bytes(padding)
        offsets.append(size)
        file.write(self._records)
        file.write(offsets.tobytes())
        all_of_it = {
            **description,
            "rules": rules,
            "shortest": self._shortest,
            "masks": masks_of(self._masks),
            "first": self._first,
            "aliases": self._has_aliases,
        }
        text = json.dumps(all_of_it).encode()
        file.write(text)
        lengths = (size, len(self._records), len(offsets) * offsets.itemsize, len(text))
        file.write(TRAILER.pack(MAGIC, bits, *lengths))


def _count(part: bytearray) -> int:
    at, number, end, step = 0, 0, len(part), 1 + VALUE.size
    while at < end:
        at += part[at] + step
        number += 1
    return number


def _sorted(
    part: bytearray, shift: int, before: int, buckets: int, offsets: array[int]
) -> tuple[int, bytes]:
    """Return the number of the entries of a part without duplicates, and their bytes.

    Appends the offset of each bucket, the first of which is `before`.
    """
    entries = _distinct(part)
    packed = bytearray()
    first: int | None = None
    filled = 0
    for crc, key, source, flags, number in entries:
        bucket = crc >> shift
        if first is None:
            first = bucket & ~(buckets - 1)
        while filled <= bucket - first:
            offsets.append(before + len(packed))
            filled += 1
        packed += b"%c%b%b" % (len(key), key, _pack_value(flags, source, number))
    while filled < buckets:
        offsets.append(before + len(packed))
        filled += 1
    return len(entries), bytes(packed)


def _distinct(part: bytearray) -> list[tuple[int, bytes, int, int, int]]:
    """Return the entries of a part in order: hash, key, source, action and scope, number.

    Of equal ones of a source, the first line is kept.
    """
    scopes: dict[tuple[bytes, int, int], int] = {}
    entries = []
    at, end = 0, len(part)
    while at < end:
        first = at + 1
        at = first + part[at]
        key = bytes(part[first:at])
        flags, source, number = _unpack_value(part, at)
        at += VALUE.size
        rule = key, source, flags & _ACTION
        known = scopes.get(rule, 0)
        added = flags & _SCOPE & ~known
        if added:
            scopes[rule] = known | added
            entries.append((crc32(key), key, source, added | flags & _ACTION, number))
    entries.sort(key=_place)
    return entries


def _place(entry: tuple[int, bytes, int, int, int]) -> tuple[int, bytes, int, int]:
    """Return the order of entries: that of the buckets, then of the sources, then of actions."""
    crc, key, source, flags, _ = entry
    return crc, key, source, flags & _ACTION
