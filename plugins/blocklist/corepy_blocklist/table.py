"""The rules of all sources, in memory that a file descriptor maps: about 32 bytes for a name.

Layout: the entries, sorted by bucket; records of local data; the offsets of the buckets; a
description in JSON; the trailer. The bucket of a key is given by the first bits of its CRC-32. An
entry has the length of its key, the key, and its value: action and scope, number of the source,
line or position of local data. Entries with the same key are sorted by source.

Python objects for a million names would take 150 MB and be visited by the garbage collector. A
look-up costs about a third of a microsecond for each name above the one that is asked for.
"""

from __future__ import annotations

import json
import mmap
import os
import weakref
from struct import Struct
from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

from corepy_blocklist.rule import (
    BELOW,
    NAME,
    NSDNAME,
    Action,
    LocalRecord,
    Mask,
    Rule,
    SourceKind,
    network_key,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

MAGIC: Final = b"corepy blocks 1\n"
TRAILER: Final = Struct("<16sIIIII")
"""Magic, log2 of the number of buckets, bytes of entries, of records, of offsets, of JSON."""

VALUE: Final = Struct("<BHI")
RECORDS: Final = Struct("<IH")
"""Line and number of the records of local data."""

RECORD: Final = Struct("<HIH")
"""Type, TTL and length of rdata."""

FEWEST_BITS: Final = 6
_HASH_BITS: Final = 32
_IPV6_BITS: Final = 128
_ZONES: Final = frozenset((SourceKind.RPZ, SourceKind.TRANSFERRED_RPZ))
Entry = tuple[int, int, int]
"""Action and scope, number of the source, and line or position of an entry."""

_unpack_value = VALUE.unpack_from


class Table:
    """Finds rules; never changes."""

    def __init__(self, descriptor: int) -> None:
        """Map a file that `table_writer` has written; raises ValueError for another one."""
        self.descriptor = os.dup(descriptor)
        """The file, open as long as the table is in use."""

        self._finalizer = weakref.finalize(self, os.close, self.descriptor)
        self._memory = memory = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
        try:
            trailer = TRAILER.unpack(memory[-TRAILER.size :])
        except Exception:
            raise ValueError("the table is cut off") from None
        magic, bits, entries, records, offsets, description = trailer
        end = entries + records + offsets
        if magic != MAGIC or end + description + TRAILER.size != len(memory):
            raise ValueError("the table is malformed")
        self._shift = _HASH_BITS - bits
        self._entries_end = entries
        self._records = entries
        self._offsets = memoryview(memory)[entries + records : end].cast("I")
        self._search = memory.find
        self.description: dict[str, Any] = json.loads(memory[end : end + description])
        self._shortest: int = self.description["shortest"]
        self.digest = bytes.fromhex(self.description["digest"])
        """A digest of the content of all files."""

        self.files: list[dict[str, Any]] = self.description["files"]
        """The report about each file (`compiling.FileReport`)."""

        self._zones = frozenset(
            len(self.files) + at for at, file in enumerate(self.files) if file["kind"] in _ZONES
        )
        self.masks: dict[tuple[int, int], list[int]] = {}
        """The prefix lengths of networks, the longest first, by kind and size of the address."""
        for kind, size, prefixes in self.description["masks"]:
            self.masks[kind, size] = prefixes
        self.first_of: dict[int, int] = {int(k): n for k, n in self.description["first"].items()}
        """The number of the first source that has rules, by the first byte of their keys."""

        self.has_aliases: bool = self.description["aliases"]
        """Whether local data has CNAME records."""

    @property
    def size(self) -> int:
        """Bytes of memory."""
        return len(self._memory)

    @property
    def count(self) -> int:
        """Number of rules."""
        number: int = self.description["rules"]
        return number

    def find(self, name: bytes) -> Rule | None:
        """Return the rule for a name in wire form and lower case.

        The first source decides; within it the name itself, then the longest name above it. In a
        response policy zone, a wildcard does not apply to names below a closer name of the zone
        (RFC 4592 section 3.3.1).
        """
        # It runs for each query, so it makes as few calls as possible.
        offsets, shift, shortest = self._offsets, self._shift, self._shortest
        search = None
        scope = NAME
        while len(name) >= shortest:
            bucket = crc32(name) >> shift
            start = offsets[bucket]
            end = offsets[bucket + 1]
            if start != end and self._search(name, start, end) >= 0:
                search = search or NameSearch(self._zones)
                search.add(self._entries_of(name, start, end), scope)
            scope = BELOW
            name = name[name[0] + 1 :]
        return None if search is None else search.best

    def find_name_server(self, name: bytes) -> Rule | None:
        """Return the rule for the name of a name server, as `find` does."""
        search, scope = NameSearch(self._zones), NAME
        while name:
            search.add(self._entries_at(bytes((NSDNAME,)) + name), scope)
            scope = BELOW
            name = name[name[0] + 1 :]
        return search.best

    def find_address(self, kind: int, address: bytes) -> Rule | None:
        """Return the rule for an address in network byte order: of the longest prefix."""
        best = None
        for prefix in self.masks.get((kind, len(address)), ()):
            for entry in self._entries_at(network_key(kind, address, prefix))[:1]:
                rule = _rule(*entry)
                if best is None or rule.source < best.source:
                    best = rule._replace(prefix=prefix + _IPV6_BITS - len(address) * 8)
        return best

    def records(self, rule: Rule) -> list[LocalRecord]:
        """Return the local data of a rule."""
        memory, at = self._memory, self._records + rule.data
        _, number = RECORDS.unpack_from(memory, at)
        at += RECORDS.size
        found = []
        for _ in range(number):
            rtype, ttl, length = RECORD.unpack_from(memory, at)
            at += RECORD.size
            found.append(LocalRecord(rtype, ttl, memory[at : at + length]))
            at += length
        return found

    def line_of(self, rule: Rule) -> int:
        """Return the line of a rule in its file."""
        if rule.action is not Action.LOCAL_DATA:
            return rule.line
        line: int = RECORDS.unpack_from(self._memory, self._records + rule.data)[0]
        return line

    def entries(self) -> Iterator[tuple[bytes, int, Rule]]:
        """Yield all entries: key, scope and rule."""
        memory, at, end = self._memory, 0, self._entries_end
        while at < end:
            first = at + 1
            at = first + memory[at]
            key = memory[first:at]
            flags, source, number = _unpack_value(memory, at)
            at += VALUE.size
            yield key, flags & (NAME | BELOW), _rule(flags, source, number)

    def _entries_at(self, key: bytes) -> list[Entry]:
        bucket = crc32(key) >> self._shift
        return self._entries_of(key, self._offsets[bucket], self._offsets[bucket + 1])

    def _entries_of(self, key: bytes, at: int, end: int) -> list[Entry]:
        """Return the entries of a key in a bucket, in the order of their sources."""
        memory, length = self._memory, len(key)
        found = []
        while at < end:
            first = at + 1
            at = first + memory[at]
            if at - first == length and memory[first:at] == key:
                found.append(_unpack_value(memory, at))
            at += VALUE.size
        return found


class NameSearch:
    """The rules for a name, in the order of the names from the longest to the shortest."""

    __slots__ = ("_closed", "_zones", "best")

    def __init__(self, zones: frozenset[int]) -> None:
        """`zones` are the sources that are response policy zones."""
        self._zones = zones
        self._closed: set[int] = set()
        self.best: Rule | None = None

    def add(self, entries: list[Entry], scope: int) -> None:
        """Add the entries of the next name; of those with `scope`, the first source decides."""
        best = self.best
        for entry in entries:
            if entry[0] & scope and entry[1] not in self._closed:
                if best is None or entry[1] < best.source:
                    self.best = _rule(*entry)
                break
        if scope == BELOW and self._zones:
            self._closed.update(entry[1] for entry in entries if entry[1] in self._zones)


def _rule(flags: int, source: int, number: int) -> Rule:
    action = Action(flags & 15)
    if action is Action.LOCAL_DATA:
        return Rule(source, action, 0, number)
    return Rule(source, action, number)


def masks_of(masks: set[tuple[Mask, int]]) -> list[tuple[int, int, list[int]]]:
    """Return the prefix lengths of networks for the description of a table."""
    by_kind: dict[tuple[int, int], list[int]] = {}
    for (kind, prefix), size in masks:
        by_kind.setdefault((kind, size), []).append(prefix)
    return [(kind, size, sorted(each, reverse=True)) for (kind, size), each in by_kind.items()]
