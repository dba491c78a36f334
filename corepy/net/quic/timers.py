"""The timers of many connections, with one timer of the event loop.

A connection changes its timer with each packet, mostly to a later time. So the heap has one entry
for each connection, which may be too early; it is replaced when it is due.
"""

from __future__ import annotations

import heapq
from asyncio import get_running_loop
from itertools import count
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

Owner = TypeVar("Owner")


class Timers(Generic[Owner]):
    """Calls a function for each owner whose time has come."""

    def __init__(self, fire: Callable[[Owner, float], None]) -> None:
        """`fire` gets the owner and the current time, which is that of the event loop."""
        self._loop = get_running_loop()
        self._fire = fire
        self._wanted: dict[Owner, float] = {}
        self._queued: dict[Owner, float] = {}
        self._heap: list[tuple[float, int, Owner]] = []
        self._number = count()
        self._handle: asyncio.TimerHandle | None = None

    def set(self, owner: Owner, when: float | None) -> None:
        """Call `fire` at `when` seconds of the loop's clock, and not at an earlier time."""
        if when is None:
            self._wanted.pop(owner, None)
            return
        self._wanted[owner] = when
        if when < self._queued.get(owner, float("inf")):
            self._queue(owner, when)
            self._schedule()

    def clear(self) -> None:
        """Forget all owners."""
        self._wanted.clear()
        self._queued.clear()
        self._heap.clear()
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _queue(self, owner: Owner, when: float) -> None:
        self._queued[owner] = when
        heapq.heappush(self._heap, (when, next(self._number), owner))

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
            when, _, owner = heapq.heappop(self._heap)
            if self._queued.get(owner) != when:
                continue  # an earlier entry has replaced it
            del self._queued[owner]
            wanted = self._wanted.get(owner)
            if wanted is None:
                continue
            if wanted > now:
                self._queue(owner, wanted)
                continue
            del self._wanted[owner]
            self._fire(owner, now)
        self._schedule()
