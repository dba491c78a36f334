"""What only one measurement of a process can use at a time, and what several share."""

from __future__ import annotations

import asyncio
import tracemalloc
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class BusyError(Exception):
    """Another measurement is in progress; the message names it."""


class Measurement:
    """Admits one measurement at a time: two would measure each other."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._current = ""
        self._until = 0.0

    @property
    def is_active(self) -> bool:
        """Whether a measurement is in progress."""
        return bool(self._current)

    @contextmanager
    def hold(self, name: str, seconds: float) -> Iterator[None]:
        """Exclude other measurements; raise `BusyError` if one is in progress."""
        if self._current:
            left = max(0.0, self._until - self._loop.time())
            raise BusyError(
                f"{self._current} is being measured, for another {left:.0f} s; try later"
            )
        self._current, self._until = name, self._loop.time() + seconds
        self._ended.clear()
        try:
            yield
        finally:
            self._current = ""

    async def wait(self, seconds: float) -> None:
        """Wait, but not after `end`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ended.wait()

    def end(self) -> None:
        """End the measurement in progress; its client gets what has been measured."""
        self._ended.set()


class HeapTracing:
    """tracemalloc, which is on as long as anything needs it.

    If it was on before (PYTHONTRACEMALLOC), it stays on.
    """

    def __init__(self) -> None:
        self._users = 0
        self._is_own = False

    @property
    def is_on(self) -> bool:
        """Whether allocations are recorded."""
        return tracemalloc.is_tracing()

    def acquire(self, frames: int) -> None:
        """Record allocations from now on, with up to `frames` frames of the stack each."""
        self._users += 1
        if not tracemalloc.is_tracing():
            self._is_own = True
            tracemalloc.start(frames)

    def release(self) -> None:
        """Stop recording, and forget all records, if this was the last use."""
        self._users -= 1
        if not self._users and self._is_own:
            self._is_own = False
            tracemalloc.stop()
