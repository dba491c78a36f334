"""Space-Saving: the most frequent items of a stream, in fixed memory, with an error bound.

The algorithm is that of Metwally, Agrawal and El Abbadi, "Efficient Computation of Frequent and
Top-k Elements in Data Streams" (ICDT 2005), with weights. A sketch has `capacity` counters. An item
without a counter takes over the smallest one, including its count, which becomes the error of the
item. For a stream of the total weight N and k counters:

* a count is at least the true weight of its item, and at most that plus the error;
* an error is at most N / k;
* every item with a true weight above N / k has a counter.
"""

from __future__ import annotations

from heapq import heappush, heapreplace
from typing import NamedTuple


class Item(NamedTuple):
    """An item, and bounds of its weight: at least `estimate` - `error`, at most `estimate`."""

    key: bytes
    estimate: int
    error: int


class SpaceSaving:
    """A sketch of one stream of byte strings."""

    __slots__ = ("_counts", "_errors", "_heap", "capacity", "total")

    def __init__(self, capacity: int) -> None:
        """Use `capacity` counters."""
        self.capacity = capacity
        self.total = 0
        """The weight of all items so far."""
        self._counts: dict[bytes, int] = {}
        self._errors: dict[bytes, int] = {}
        self._heap: list[tuple[int, bytes]] = []
        """An entry for each counter, with its count at an earlier time.

        Counts only grow, so the first entry whose count is current is that of the smallest counter.
        """

    def add(self, key: bytes, weight: int) -> None:
        """Count `key` with a positive weight."""
        self.total += weight
        counts = self._counts
        count = counts.get(key)
        if count is not None:
            counts[key] = count + weight
        elif len(counts) < self.capacity:
            counts[key] = weight
            heappush(self._heap, (weight, key))
        else:
            smallest = self._smallest()
            victim = self._heap[0][1]
            del counts[victim]
            self._errors.pop(victim, None)
            counts[key] = smallest + weight
            self._errors[key] = smallest
            heapreplace(self._heap, (smallest + weight, key))

    def _smallest(self) -> int:
        """Return the smallest count, and put its entry at the front of the heap."""
        heap, counts = self._heap, self._counts
        while True:
            count, key = heap[0]
            current = counts[key]
            if current == count:
                return count
            heapreplace(heap, (current, key))

    @property
    def bound(self) -> int:
        """The maximum weight of an item without a counter."""
        return self._smallest() if len(self._counts) >= self.capacity else 0

    def items(self) -> list[Item]:
        """Return the items with a counter, those with the highest counts first."""
        errors = self._errors
        found = [Item(key, count, errors.get(key, 0)) for key, count in self._counts.items()]
        found.sort(key=lambda item: (-item.estimate, item.key))
        return found


class Summary(NamedTuple):
    """The first items of one or several sketches."""

    items: list[Item]
    total: int
    bound: int
    """The maximum weight of an item that is not among the items."""


def summary(sketch: SpaceSaving, most: int) -> Summary:
    """Return the first `most` items of a sketch."""
    items = sketch.items()
    rest = items[most].estimate if len(items) > most else 0
    return Summary(items[:most], sketch.total, max(rest, sketch.bound))


def merged(parts: list[Summary], most: int) -> Summary:
    """Return the first `most` items of several streams together.

    The bounds of an item are the sums of its bounds in each stream (Agarwal et al., "Mergeable
    Summaries", PODS 2012): a stream that does not list it may contain it as often as its `bound`.
    """
    bound = sum(part.bound for part in parts)
    counts: dict[bytes, list[int]] = {}
    for part in parts:
        for key, count, error in part.items:
            sums = counts.setdefault(key, [bound, bound])
            sums[0] += count - part.bound
            sums[1] += error - part.bound
    items = [Item(key, count, error) for key, (count, error) in counts.items()]
    items.sort(key=lambda item: (-item.estimate, item.key))
    rest = items[most].estimate if len(items) > most else 0
    return Summary(items[:most], sum(part.total for part in parts), max(rest, bound))
