"""The timers of many connections, with one timer of the event loop.

A connection changes its timer with each packet, mostly to a later time. So the heap has one entry
for each connection, which may be too early; it is replaced when it is due.
"""

from __future__ import annotations

import heapq
from asyncio import get_running_loop
from itertools import count
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

Owner = TypeVar("Owner")

SPARE: Final = 64
"""Entries that were replaced, beyond one for each owner, with which the heap is made anew."""

_NEVER: Final = float("inf"), 0


class Timers(Generic[Owner]):
    """Calls a function for each owner whose time has come."""

    def __init__(self, fire: Callable[[Owner, float], None]) -> None:
        """`fire` gets the owner and the current time, which is that of the event loop."""
        self._loop = get_running_loop()
        self._fire = fire
        self._wanted: dict[Owner, float] = {}
        self._queued: dict[Owner, tuple[float, int]] = {}
        # Entries that were replaced stay in the heap for a while, so it has no owners.
        self._owners: dict[int, Owner] = {}
        self._heap: list[tuple[float, int]] = []
        self._number = count()
        self._handle: asyncio.TimerHandle | None = None

    def set(self, owner: Owner, when: float | None) -> None:
        """Call `fire` at `when` seconds of the loop's clock, and not at an earlier time."""
        if when is None:
            self._wanted.pop(owner, None)
            self._unqueue(owner)
            return
        self._wanted[owner] = when
        if when < self._queued.get(owner, _NEVER)[0]:
            self._queue(owner, when)
            self._schedule()

    def clear(self) -> None:
        """Forget all owners."""
        self._wanted.clear()
        self._queued.clear()
        self._owners.clear()
        self._heap.clear()
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _queue(self, owner: Owner, when: float) -> None:
        self._unqueue(owner)
        entry = when, next(self._number)
        self._queued[owner] = entry
        self._owners[entry[1]] = owner
        heapq.heappush(self._heap, entry)
        if len(self._heap) > SPARE + 2 * len(self._queued):
            self._heap = sorted(self._queued.values())

    def _unqueue(self, owner: Owner) -> None:
        entry = self._queued.pop(owner, None)
        if entry is not None:
            del self._owners[entry[1]]

    def _schedule(self) -> None:
        """Let the loop wake up for the first entry."""
        if not self._heap:
            return
        first = self._heap[0][0]
        if self._handle is not None:
            if self._handle.when() <= first:
                return
            self._handle.cancel()
        self._handle = self._loop.call_at(first, self._wake)

    def _wake(self) -> None:
        self._handle = None
        now = self._loop.time()
        while self._heap and self._heap[0][0] <= now:
            owner = self._owners.get(heapq.heappop(self._heap)[1])
            if owner is None:
                continue  # another entry has replaced it
            self._unqueue(owner)
            wanted = self._wanted[owner]
            if wanted > now:
                self._queue(owner, wanted)
                continue
            del self._wanted[owner]
            self._fire(owner, now)
        self._schedule()
