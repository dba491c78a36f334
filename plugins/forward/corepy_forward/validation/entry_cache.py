"""`EntryCache`: the facts about names, bounded in number and in bytes."""

from __future__ import annotations

from time import monotonic
from typing import Final, NamedTuple

from corepy_forward.validation.entries import Entry
from corepy_forward.validation.verdicts import Bogus

MOST_ENTRIES: Final = 4096
"""Names whose facts are cached; those used least recently are removed."""

MOST_KEY_BYTES: Final = 4 << 20
"""Memory for their keys: 1 KB for each. A hostile zone can have 64 KB of keys."""

_KEY_OVERHEAD: Final = 100
"""Bytes of the objects for one key, beyond its rdata."""


class _Cached(NamedTuple):
    """An entry, or the reason why there is none."""

    found: Entry | Bogus
    made: float
    until: float
    size: int


class EntryCache:
    """Entries and failures by name in wire form and lower case."""

    def __init__(self) -> None:
        self._cached: dict[bytes, _Cached] = {}
        self._size = 0

    def __len__(self) -> int:
        return len(self._cached)

    def get(self, name: bytes) -> Entry | None:
        """Return the entry of a name, None if it is not cached; raises a cached Bogus."""
        cached = self._cached.pop(name, None)
        if cached is None:
            return None
        if cached.until <= monotonic():
            self._size -= cached.size
            return None
        self._cached[name] = cached  # now the most recently used
        if isinstance(cached.found, Bogus):
            raise cached.found.copy()
        return cached.found

    def put(self, name: bytes, found: Entry | Bogus, seconds: float) -> None:
        """Cache facts for a time."""
        self.remove(name)
        size = 0
        if isinstance(found, Bogus):
            found = found.copy()
        else:
            size = sum(len(it.rdata) + _KEY_OVERHEAD for it in found.keys)
        now = monotonic()
        self._cached[name] = _Cached(found, now, now + seconds, size)
        self._size += size
        while len(self._cached) > MOST_ENTRIES or self._size > MOST_KEY_BYTES:
            self.remove(next(iter(self._cached)))

    def remove(self, name: bytes) -> None:
        """Forget a name."""
        cached = self._cached.pop(name, None)
        if cached is not None:
            self._size -= cached.size

    def remove_older(self, name: bytes, seconds: float) -> None:
        """Forget a name whose facts are older than this."""
        cached = self._cached.get(name)
        if cached is not None and cached.made + seconds < monotonic():
            self.remove(name)

    def clear(self) -> None:
        """Forget all names."""
        self._cached.clear()
        self._size = 0
