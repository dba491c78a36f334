"""The tables of cached replies."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from corepy_cache.budget import Budget
    from corepy_cache.entry import CacheEntry

_SLACK: Final = 64


@final
class EntryTable:
    """The entries of one kind in one cache, by key; evicts the least useful entry first.

    The eviction algorithm is CLOCK (second chance). Entries are queued in the order of insertion.
    The entry at the front is evicted if it was not used since it was last queued; otherwise it
    moves to the back once more. This costs one assignment on a hit and no lock, and needs a queue
    slot per entry. It keeps popular names during a flood of names that are queried once. CoreDNS
    evicts at random from one of 256 shards, so it may evict long before it is full.

    Invariant: every key of the table is in the queue. The queue may contain keys that were removed
    from the table. They are dropped at the front of the queue, or all at once if there are too
    many.

    `entries` is the table, for reading; `get` is its method. Both are public for speed.
    """

    __slots__ = (
        "_budget",
        "_queue",
        "bytes",
        "capacity",
        "entries",
        "evicted",
        "get",
    )

    def __init__(self, capacity: int, budget: Budget) -> None:
        self.capacity = capacity
        self.bytes = 0
        self.evicted = 0
        """Number of evictions since the caller that counts them last reset it to 0."""
        self._budget = budget
        self.entries: dict[bytes, CacheEntry] = {}
        self._queue: deque[bytes] = deque()
        self.get = self.entries.get

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[CacheEntry]:
        return iter(list(self.entries.values()))

    def put(self, entry: CacheEntry) -> None:
        """Insert `entry` in place of any with the same key; may evict others."""
        entries, budget = self.entries, self._budget
        key = entry.key
        size = entry.size
        old = entries.get(key)
        if old is not None:
            size -= old.size
            entry.used = old.used
            key = entry.key = old.key  # share the key object in the queue
        else:
            if not entries:
                budget.tables.add(self)
            elif len(entries) >= self.capacity:
                self.evict()
            self._queue.append(key)
        entries[key] = entry
        self.bytes += size
        budget.used += size
        if budget.used > budget.limit:
            budget.make_room()

    def remove(self, key: bytes) -> bool:
        """Remove an entry; returns whether it existed."""
        if key not in self.entries:
            return False
        self._account(-self.entries.pop(key).size)
        if len(self._queue) > 2 * len(self.entries) + _SLACK:
            self._queue = deque(key for key in self._queue if key in self.entries)
        return True

    def evict(self) -> bool:
        """Evict the least useful entry; returns False if the store is empty."""
        queue, entries = self._queue, self.entries
        while queue:
            key = queue.popleft()
            entry = entries.get(key)
            if entry is None:
                continue
            if entry.used:
                entry.used = False
                queue.append(key)
                continue
            del entries[key]
            size = entry.size
            self.bytes -= size
            self._budget.used -= size
            self.evicted += 1
            return True
        return False

    def clear(self) -> None:
        """Remove all entries."""
        self._account(-self.bytes)
        self.entries.clear()
        self._queue.clear()
        self._budget.tables.discard(self)

    def _account(self, difference: int) -> None:
        self.bytes += difference
        self._budget.used += difference
