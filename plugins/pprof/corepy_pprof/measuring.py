"""What all *pprof* directives of a process share, over reloads: one process has one profile."""

from __future__ import annotations

import asyncio
import tracemalloc
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from corepy_pprof.measures import Measures
from corepy_pprof.stalls import StallRecorder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from corepy.plugin import ProcessGroup
    from corepy_pprof.processes import Followers, MeasuredFollower


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


class Shared:
    """The state of one process, used by the `Pprof` of each server block and generation."""

    def __init__(self) -> None:
        self.measurement = Measurement()
        self.snapshot = asyncio.Lock()
        """Held while a profile of one moment is taken and encoded."""
        self.tracing = HeapTracing()
        self.stalls = StallRecorder(asyncio.get_running_loop())
        self.measures = Measures(self)
        self.followers: Followers | None = None
        """The other processes, in the leader of a server that has any."""
        self._link: MeasuredFollower | None = None
        self._members: dict[object, tuple[int, int]] = {}

    def join(self, member: object, block_rate: int, heap_frames: int) -> None:
        """Add a user with its options; 0 turns off what it does not need."""
        if heap_frames:
            self.tracing.acquire(heap_frames)
        self._members[member] = max(block_rate, 0), heap_frames
        self._set_rate()

    async def connect(self, process_group: ProcessGroup) -> None:
        """Connect the processes of the server, so that they are measured together.

        If a follower cannot connect, such as while the leader has no address, it is not measured.
        """
        if process_group.size == 1:
            return
        from corepy_pprof.processes import NAME, Followers, MeasuredFollower

        if process_group.is_leader:
            if self.followers is None:
                self.followers = Followers(process_group)
        elif self._link is None or not self._link.is_open:
            with suppress(OSError):
                sock = await process_group.connect(NAME)
                self._link = MeasuredFollower(sock, self.measures, self.measurement)

    async def leave(self, member: object) -> None:
        """Remove a user; after the last one nothing is measured."""
        _, heap_frames = self._members.pop(member, (0, 0))
        if heap_frames:
            self.tracing.release()
        self._set_rate()
        if self._members:
            return
        self.measurement.end()
        if self.followers is not None:
            self.followers.close()
        if self._link is not None:
            await self._link.close()
        self.followers = self._link = None

    def _set_rate(self) -> None:
        rates = [rate for rate, _ in self._members.values() if rate]
        self.stalls.set_rate(min(rates, default=0))


_shared: WeakKeyDictionary[asyncio.AbstractEventLoop, Shared] = WeakKeyDictionary()


def shared() -> Shared:
    """Return the state of this process (of the running event loop)."""
    loop = asyncio.get_running_loop()
    found = _shared.get(loop)
    if found is None:
        found = _shared[loop] = Shared()
    return found
