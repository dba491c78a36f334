"""A table of times with a fixed size, for the limits on the rates of clients.

A client over its rate has a time in the future. Most clients of a flood with spoofed addresses send
one query each, so they must neither need memory without limit nor displace those that are known.

* Keys that were used recently are in a dictionary. Twice per idle time the dictionary becomes the
  older one of two, and what was in the older one before is dropped. So no key is removed while it
  is in use, and none is searched for.
* When the table is full, new keys share the cells of a count-min sketch, whose memory is fixed: the
  time of a key is the lower one of two cells. A shared cell may limit a key too early, never too
  late. The cells are chosen with a secret seed, so an attacker cannot choose addresses that share
  the cells of another client.
"""

from __future__ import annotations

import os
from array import array
from math import inf
from typing import Final

CELLS: Final = 1 << 16
"""Cells of each of the two rows of a sketch, 8 bytes each."""

_MASK: Final = CELLS - 1
_SHIFT: Final = 24


class TimeTable:
    """Times by keys. A key without a time has `-inf`, or that of the cells that it would share."""

    __slots__ = ("_cells", "_idle", "_older", "_seed", "_size", "due", "missed", "recent")

    def __init__(self, size: int, idle: float) -> None:
        """Keep at most `size` keys exactly, each for at least `idle` seconds after its last use."""
        self.recent: dict[int, float] = {}
        """The keys used since the last `turn`; a caller may replace the times in it."""

        self.due = -inf
        """The monotonic time at which to call `turn`."""

        self.missed = 0
        """How many times were stored in the sketch."""

        self._older: dict[int, float] = {}
        self._size = size
        self._idle = idle
        self._seed = int.from_bytes(os.urandom(8), "little")
        self._cells: tuple[array[float], array[float]] | None = None

    def __len__(self) -> int:
        """Return the number of keys that are kept exactly."""
        return len(self.recent) + len(self._older)

    def turn(self, now: float) -> None:
        """Drop the keys that were not used for `idle` seconds."""
        self._older = self.recent if now < self.due + self._idle else {}
        self.recent = {}
        self.due = now + self._idle

    def get(self, key: int) -> float:
        """Return the time of `key`."""
        time = self.recent.get(key)
        if time is not None:
            return time
        time = self._older.pop(key, None)
        if time is not None:
            self.recent[key] = time
            return time
        if self._cells is None:
            return -inf
        first, second, above, below = self._places(key, self._cells)
        return min(first[above], second[below])

    def view(self, key: int) -> float:
        """Return the time of `key` without a trace that it was asked for."""
        time = self.recent.get(key, self._older.get(key))
        if time is not None or self._cells is None:
            return -inf if time is None else time
        first, second, above, below = self._places(key, self._cells)
        return min(first[above], second[below])

    def put(self, key: int, time: float) -> None:
        """Store the time of `key`, which `get` was called for."""
        if key in self.recent or len(self.recent) + len(self._older) < self._size:
            self.recent[key] = time
            return
        self.missed += 1
        if self._cells is None:
            self._cells = array("d", [-inf]) * CELLS, array("d", [-inf]) * CELLS
        first, second, above, below = self._places(key, self._cells)
        first[above] = max(first[above], time)
        second[below] = max(second[below], time)

    def _places(
        self, key: int, cells: tuple[array[float], array[float]]
    ) -> tuple[array[float], array[float], int, int]:
        digest = hash((self._seed, key))
        return *cells, digest & _MASK, digest >> _SHIFT & _MASK
