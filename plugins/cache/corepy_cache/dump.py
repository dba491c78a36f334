"""The entries of a cache as bytes, for the cache of another process.

The first byte is "L" if replies were made with look-ups in other server blocks, else "-". Two
numbers of 4 bytes follow: the minimum TTLs in seconds of positive replies and of denials, which may
have extended entries. Then follow the entries, each a record. All numbers are in network byte
order:

| bytes | content |
| --- | --- |
| 2, 2 | lengths of the key and of the tail |
| 1 | flags, see below |
| 4, 4 | TTL and age in seconds |
| 8 | the header of the message without its ID and the number of questions |
| | the key, and the tail, which is the message behind its question |
| 2, 2 | if a flag is set: lengths of the EDNS options and of the wildcard |
| | these two |

Nothing in a record is trusted: query and message are validated like those from the network, and the
entry is subject to the limits of the new cache. Failures are not written, since a restart may be
the attempt to end them, nor are the numbers of hits: *prefetch* counts anew.
"""

from __future__ import annotations

from math import ceil
from struct import Struct
from struct import error as StructError
from typing import TYPE_CHECKING, Final

from corepy.dns import Request
from corepy.dns.constants import FLAG_AD, FLAG_CD, FLAG_RD
from corepy.dns.edns import OPTION_SUBNET, Edns, parse_options
from corepy.dns.form_error import FormError
from corepy.dns.message import query
from corepy.dns.survey import survey
from corepy_cache.contents import is_within
from corepy_cache.entry import CacheEntry
from corepy_cache.keys import name_of

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from corepy_cache.cache_store import CacheStore

_HEADER: Final = Struct("!cII")
_RECORD: Final = Struct("!HHBII2s6s")
_EXTRAS: Final = Struct("!HH")
_QUESTION: Final = Struct("!HH")
_USES_LOOKUPS: Final = b"L"
_NO_LOOKUPS: Final = b"-"
_DENIAL, _ANSWERS, _USED, _HAS_EXTRAS, _LAST_GOOD = (1 << bit for bit in range(5))
"""The flags of a record; the last one is of an answer that `prefer_positive` prefers to the next
record.
"""

_SLICE: Final = 200
"""Entries to write or read before other queries run, which takes about a millisecond."""

_SLICE_SIZE: Final = 1 << 16
"""Bytes to read before other queries run: large messages take longer."""

_FIRST_FLAGS: Final = 0x85
"""The first byte of the flags of each entry: QR, AA and RD."""

_SECOND_FLAGS: Final = 0xB3
"""The bits that may be set in the second byte: RA, AD, CD, and those of the rcodes below."""

_RCODES: Final = (0, 3)
_LONGEST: Final = 0x7FFFFFFF
_LONGEST_WILDCARD: Final = 0xFFFF
_CD_KEY, _NO_RD_KEY, _DO_KEY = 1, 2, 4
"""The flags in a key, see `keys.key_of`."""


def dump(store: CacheStore, most: int) -> Iterator[bytes]:
    """Yield the usable entries, the newest first, up to `most` bytes of records, in slices.

    Entries may be stored and removed between two slices.
    """
    contents = store.contents
    yield _HEADER.pack(_USES_LOOKUPS if contents.uses_lookups else _NO_LOOKUPS, *contents.min_ttls)
    least = -store.settings.stale.up_to
    for table in (store.success, store.denial):
        entries = list(table.entries.values())
        while entries:
            now = store.clock()
            written = bytearray()
            for entry in reversed(entries[-_SLICE:]):
                is_usable = entry.rcode in _RCODES and entry.left(now) > least
                if is_usable and _is_writable(entry):
                    record = _record(entry, now)
                    most -= len(record)
                    if most < 0:
                        yield bytes(written)
                        return
                    written += record
            del entries[-_SLICE:]
            yield bytes(written)


def _is_writable(entry: CacheEntry) -> bool:
    """Return whether an entry can be a record: any plugin may have set its `wildcard`."""
    wildcard: object = entry.wildcard
    if isinstance(wildcard, str) and wildcard.isascii() and len(wildcard) <= _LONGEST_WILDCARD:
        return entry.last_good is None or _is_writable(entry.last_good)
    return False


def _record(entry: CacheEntry, now: float, flags: int = 0) -> bytes:
    head, key, tail = entry.head, entry.key, entry.tail
    flags |= (entry.denial and _DENIAL) | (entry.answers and _ANSWERS) | (entry.used and _USED)
    second = head[3] | FLAG_AD if entry.authentic else head[3]
    extras = b""
    if entry.options or entry.wildcard:
        flags |= _HAS_EXTRAS
        wildcard = entry.wildcard.encode()
        extras = _EXTRAS.pack(len(entry.options), len(wildcard)) + entry.options + wildcard
    age = max(0, ceil(now - entry.stored))
    fixed = _RECORD.pack(
        len(key), len(tail), flags, entry.ttl, age, bytes((head[2], second)), head[6:12]
    )
    good = b"" if entry.last_good is None else _record(entry.last_good, now, _LAST_GOOD)
    return b"".join((good, fixed, key, tail, extras))


def load(store: CacheStore, state: memoryview, elapsed: float) -> Generator[None, None, int]:
    """Store the entries of `state`, which was written `elapsed` seconds ago; return their number.

    Yields between slices. Raises ValueError for a malformed state, of which nothing is stored. At
    any time, at most as many entries exist as the cache may have. As at a reload, a lower minimum
    TTL ends the entries that the earlier one may have extended.
    """
    if len(state) < _HEADER.size:
        raise ValueError("it is cut off")
    mark, *min_ttls = _HEADER.unpack_from(state)
    reader = _Reader(state[_HEADER.size :], store.clock() - elapsed)
    positive, negative = list[CacheEntry](), list[CacheEntry]()
    settings = store.settings
    while reader.has_more:
        for entry in reader.read_slice():
            bounds = settings.denial if entry.denial else settings.success
            same_kind = negative if entry.denial else positive
            earlier = min_ttls[entry.denial]
            is_extended = bounds.min_ttl < earlier and is_within(earlier, entry)
            if len(same_kind) < bounds.capacity and not is_extended:
                same_kind.append(entry)
        yield
    entries = positive + negative
    store.contents.uses_lookups |= mark == _USES_LOOKUPS
    count = 0
    while entries:
        count += sum(map(store.restore, reversed(entries[-_SLICE:])))
        del entries[-_SLICE:]
        yield
    return count


class _Reader:
    """Reads records one by one."""

    def __init__(self, state: memoryview, written: float) -> None:
        """Read `state`, which was written at this time of the store's clock."""
        self._state = state
        self._at = 0
        self._written = written

    @property
    def has_more(self) -> bool:
        return self._at < len(self._state)

    def read_slice(self) -> Iterator[CacheEntry]:
        end = min(self._at + _SLICE_SIZE, len(self._state))
        for _ in range(_SLICE):
            if self._at < end:
                yield self._read()

    def _read(self) -> CacheEntry:
        """Return the next entry, with its `last_good`; raises ValueError."""
        try:
            flags, entry = self._record()
            if not flags & _LAST_GOOD:
                return entry
            flags, following = self._record()
        except (FormError, StructError, UnicodeDecodeError, IndexError) as error:
            raise ValueError(f"a malformed entry: {error}") from None
        if flags & _LAST_GOOD or following.key != entry.key:
            raise ValueError("an entry without the one that it belongs to")
        following.last_good = entry
        return following

    def _take(self, size: int) -> bytes:
        start, self._at = self._at, self._at + size
        if self._at > len(self._state):
            raise ValueError("an entry is cut off")
        return bytes(self._state[start : self._at])

    def _record(self) -> tuple[int, CacheEntry]:
        fixed = _RECORD.unpack(self._take(_RECORD.size))
        key_size, tail_size, flags, ttl, age, bits, counts = fixed
        key, tail = self._take(key_size), self._take(tail_size)
        first, second = bits
        if first != _FIRST_FLAGS or second & ~_SECOND_FLAGS or second & 15 not in _RCODES:
            raise ValueError("an entry with other flags")
        if not 0 < ttl <= _LONGEST:
            raise ValueError("an entry with a TTL out of range")
        request = _request(key)
        end = request.question_end
        wire = b"".join((b"\0\0", bits, b"\0\1", counts, request.wire[12:end], tail))
        offsets, opt, size = survey(wire)
        if opt or size != len(wire):
            raise ValueError("an entry with more than a message")
        entry = CacheEntry(key, request, wire, offsets, ttl, self._written - age)
        entry.shown = -1  # unknown: the tail has the TTL of the last hit
        entry.denial, entry.answers = bool(flags & _DENIAL), bool(flags & _ANSWERS)
        entry.used = bool(flags & _USED)
        if flags & _HAS_EXTRAS:
            options, wildcard = map(self._take, _EXTRAS.unpack(self._take(_EXTRAS.size)))
            if any(code != OPTION_SUBNET or len(it) < 4 for code, it in parse_options(options)):
                raise ValueError("an entry with other options")
            entry.options, entry.wildcard = options, wildcard.decode()
        return flags, entry


def _request(key: bytes) -> Request:
    """Return a query whose reply is stored under `key`."""
    name = name_of(key)
    end = len(name) + _QUESTION.size
    qtype, qclass = _QUESTION.unpack_from(key, len(name))
    bits = key[end] if len(key) > end else 0
    if bits & ~(_CD_KEY | _NO_RD_KEY | _DO_KEY):
        raise ValueError("an entry with an unknown kind of key")
    flags = (FLAG_CD if bits & _CD_KEY else 0) | (0 if bits & _NO_RD_KEY else FLAG_RD)
    edns = Edns(do=True) if bits & _DO_KEY else None
    request = Request.from_wire(query(name, qtype, qclass, flags=flags, edns=edns))
    if request.asked != key[:end]:
        raise ValueError("an entry with capital letters in its key")
    return request
