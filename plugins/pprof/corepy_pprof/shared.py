"""What all *pprof* directives of a process share, over reloads: one process has one profile."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from corepy_pprof.measures import Measures
from corepy_pprof.measuring import HeapTracing, Measurement
from corepy_pprof.stalls import StallRecorder

if TYPE_CHECKING:
    from corepy.plugin import ProcessGroup
    from corepy_pprof.processes import Followers, MeasuredFollower


class Shared:
    """The state of one process, used by the `Pprof` of each server block and generation."""

    def __init__(self) -> None:
        self.measurement = Measurement()
        self.snapshot = asyncio.Lock()
        """Held while a profile of one moment is taken and encoded."""
        self.tracing = HeapTracing()
        self.stalls = StallRecorder(asyncio.get_running_loop())
        self.measures = Measures(self.measurement, self.tracing, self.stalls)
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
