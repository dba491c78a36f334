"""Many entries, by key, up to a capacity; the least useful one goes first.

Who is evicted is decided by CLOCK (second chance): entries stand in a queue in the order they came;
the front one goes if nobody asked for it since it stood there last, else it goes to the back once
more. It costs one assignment on a hit and no lock, keeps popular names through a flood of names
that are asked for once, and needs a queue slot for each entry. CoreDNS evicts at random from one of
256 shards, and so may evict long before it is full.

Invariant: every key of the table is in the queue. The queue may hold keys that were removed since;
they are dropped when they come to the front, or all at once when they are too many.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from corepy_cache.entry import Entry
    from corepy_cache.memory import Budget

_SLACK: Final = 64


class Store:
    """Entries of one kind of one cache.

    `entries` is the table, for reading; `get` is its own method. Both are open for speed.
    """

    __slots__ = (
        "__weakref__",
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
        """How many had to go, whoever needed the room; who counts them sets it to 0."""
        self._budget = budget
        self.entries: dict[bytes, Entry] = {}
        self._queue: deque[bytes] = deque()
        self.get = self.entries.get
        budget.stores.add(self)

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self.entries.values()))

    def put(self, entry: Entry) -> None:
        """Keep `entry`, in place of one with the same key; others may be evicted for it."""
        entries, budget = self.entries, self._budget
        key = entry.key
        size = entry.size
        old = entries.get(key)
        if old is not None:
            size -= old.size
            entry.used = old.used
            key = entry.key = old.key  # the queue has this one: hold it once
        else:
            if len(entries) >= self.capacity:
                self.evict()
            self._queue.append(key)
        entries[key] = entry
        self.bytes += size
        budget.used += size
        if budget.used > budget.limit:
            budget.make_room()

    def remove(self, key: bytes) -> bool:
        """Forget an entry; tell whether it was there."""
        if key not in self.entries:
            return False
        self._account(-self.entries.pop(key).size)
        if len(self._queue) > 2 * len(self.entries) + _SLACK:
            self._queue = deque(key for key in self._queue if key in self.entries)
        return True

    def evict(self) -> bool:
        """Make the least useful entry go; False if there is none."""
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
        """Forget all of them."""
        self._account(-self.bytes)
        self.entries.clear()
        self._queue.clear()

    def _account(self, difference: int) -> None:
        self.bytes += difference
        self._budget.used += difference
