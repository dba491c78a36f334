"""The block profile: where the event loop was kept from turning.

A goroutine that blocks delays itself. Here all queries wait for the one event loop, so the times in
which it did not turn are what Go's block profile is for. A thread schedules a callback in the loop
every 20 ms. While the callback is late, the thread records the stack of the loop's thread, and
whether that thread waits for a processor: then the node is busy, and the code is not at fault.
"""

from __future__ import annotations

import secrets
import sys
import threading
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from corepy.net.cpu_starvation import ThreadCpu
from corepy_pprof.frames import RawStack, raw_stack

if TYPE_CHECKING:
    import asyncio

TICK: Final = 0.02
"""Seconds between two checks, and the shortest stall that is noticed."""

MAX_STACKS: Final = 2000
"""Different stacks that are kept; stalls at others are counted without one."""

OTHER: Final = RawStack((), ())


class Place(NamedTuple):
    """What kept the event loop from turning."""

    stack: RawStack
    is_starved: bool
    """Whether the loop's thread waited for a processor."""


class StallRecorder:
    """Records the stalls of the event loop of the thread that creates it, while it is started."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._ident = threading.get_ident()
        self._cpu = ThreadCpu()
        self._rate = 0
        self._stalls: dict[Place, tuple[int, int]] = {}
        self._turned = threading.Event()
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def stalls(self) -> dict[Place, tuple[int, int]]:
        """Number of stalls and nanoseconds by place, since the first start."""
        return dict(self._stalls)

    def set_rate(self, rate: int) -> None:
        """Record stalls of at least `rate` nanoseconds, and a share of shorter ones; 0: none.

        As in Go, a shorter stall is recorded with the probability that makes the sums right.
        """
        self._rate = rate
        if rate and self._thread is None:
            self._end.clear()
            self._thread = threading.Thread(target=self._run, name="pprof block", daemon=True)
            self._thread.start()
        elif not rate:
            self._stop()

    def _stop(self) -> None:
        self._end.set()
        self._turned.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while not self._end.wait(TICK):
            self._turned.clear()
            asked = time.monotonic_ns()
            try:
                self._loop.call_soon_threadsafe(self._turned.set)
            except RuntimeError:  # the loop is closed
                return
            if not self._turned.wait(TICK):
                self._watch(asked)

    def _watch(self, asked: int) -> None:
        """Take stacks until the loop turns again, and record how long it was at each."""
        seen: list[tuple[Place, int]] = []
        before, turned, is_starved = asked, False, False
        while not turned and not self._end.is_set():
            stack = raw_stack(sys._current_frames().get(self._ident))
            ran = self._cpu.ran()
            turned = self._turned.wait(TICK)
            now = time.monotonic_ns()
            if not turned:
                is_starved = self._cpu.is_starved(ran, TICK)
            seen.append((Place(stack, is_starved), now - before))
            before = now
        if not self._end.is_set():
            self.record(seen)

    def record(self, seen: list[tuple[Place, int]]) -> None:
        """Record one stall: the places during it, with nanoseconds for each."""
        length = sum(spent for _, spent in seen)
        weight = 1.0
        if length < self._rate:
            if secrets.randbelow(self._rate) > length:
                return
            weight = self._rate / max(length, 1)
        for number, (place, spent) in enumerate(seen):
            is_kept = place in self._stalls or len(self._stalls) < MAX_STACKS
            key = place if is_kept else Place(OTHER, place.is_starved)
            count, delay = self._stalls.get(key, (0, 0))
            first = round(weight) if number == 0 else 0
            self._stalls[key] = count + first, delay + round(spent * weight)
