"""Takes the profiles of this process; `answers` combines them with those of the others."""

from __future__ import annotations

import gc
import os
import tracemalloc
from typing import TYPE_CHECKING, Final, NamedTuple

from corepy.plugin import in_thread, plugin_logger
from corepy_pprof import collectors, heap
from corepy_pprof.activities import tasks, threads
from corepy_pprof.cpu import CpuProfiler
from corepy_pprof.profile import Profile, difference
from corepy_pprof.text import as_goroutines
from corepy_pprof.timeline import Timeline, timeline_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from corepy_pprof.measuring import HeapTracing, Measurement
    from corepy_pprof.parameters import Parameters
    from corepy_pprof.stalls import StallRecorder

PROFILE_SECONDS: Final = 30.0
TRACE_SECONDS: Final = 1.0
HEAP_SECONDS: Final = 5.0
"""Default length of a heap profile, if allocations are not recorded all the time."""

HEAP_FRAMES: Final = 8
"""Frames of each allocation's stack that such a profile records."""

GOROUTINES: Final = "goroutines"
"""The name of the list of all threads and tasks (`goroutine?debug=2`)."""

SNAPSHOTS: Final = frozenset(("block", "mutex", "goroutine", "threadcreate"))
"""Profiles that need no time: without `seconds`, they are of one moment."""

Content = Profile | Timeline | str
"""What a process returns: a profile, for `trace` a timeline, for `GOROUTINES` a text."""

LOG = plugin_logger("pprof")


def is_of_one_moment(name: str, parameters: Parameters) -> bool:
    """Return whether a request needs no time, so that it does not exclude other measurements."""
    return name == GOROUTINES or (name in SNAPSHOTS and parameters.seconds is None)


class Part(NamedTuple):
    """What one process returns."""

    process: int
    """Its process ID."""

    content: Content


class Measures:
    """The profiles of one process by name."""

    def __init__(
        self, measurement: Measurement, tracing: HeapTracing, stalls: StallRecorder
    ) -> None:
        """Use what all *pprof* directives of the process share."""
        self._measurement = measurement
        self._tracing = tracing
        self._stalls = stalls
        self._snapshots: dict[str, Callable[[], Awaitable[Profile]]] = {
            "block": self._block,
            "mutex": self._mutex,
            "goroutine": collectors.goroutine,
            "threadcreate": collectors.threadcreate,
        }
        assert self._snapshots.keys() == SNAPSHOTS

    async def take(self, name: str, parameters: Parameters) -> Part:
        """Return a profile; raises `BusyError` or `ProfilerUnavailable`."""
        return Part(os.getpid(), await self._content(name, parameters))

    async def _content(self, name: str, parameters: Parameters) -> Content:
        if name == "profile":
            return await self._cpu(parameters)
        if name == "trace":
            return await self._trace(parameters)
        if name == GOROUTINES:
            return as_goroutines([*threads(), *await tasks()])
        if name in SNAPSHOTS:
            return await self._snapshot(name, parameters)
        return await self._heap(name, parameters)

    async def _cpu(self, parameters: Parameters) -> Profile:
        profiler = CpuProfiler()
        await self._run("profile", profiler, parameters.seconds or PROFILE_SECONDS)
        profile: Profile = await in_thread(lambda: collectors.cpu(profiler))
        return profile

    async def _trace(self, parameters: Parameters) -> Timeline:
        profiler = CpuProfiler(keeps_order=True)
        await self._run("trace", profiler, parameters.seconds or TRACE_SECONDS)
        timeline: Timeline = await in_thread(lambda: timeline_of(profiler))
        return timeline

    async def _run(self, name: str, profiler: CpuProfiler, seconds: float) -> None:
        """Sample until the time is over, the server stops, or the client leaves."""
        with self._measurement.hold(name, seconds):
            profiler.start()
            LOG.info("%s: measuring for %g s", name, seconds)
            try:
                await self._measurement.wait(seconds)
            finally:
                profiler.stop()

    async def _heap(self, name: str, parameters: Parameters) -> Profile:
        is_on, seconds = self._tracing.is_on, parameters.seconds
        if not is_on and seconds is None:
            seconds = HEAP_SECONDS
        with self._measurement.hold(name, seconds or 0.0):
            profile = await self._trace_heap(name, parameters, seconds or 0.0)
        profile.name = name
        if not is_on:
            profile.comments.append("only what was allocated during the request")
        return profile

    async def _trace_heap(self, name: str, parameters: Parameters, seconds: float) -> Profile:
        """Return what is allocated now; with `seconds`, what has been added after that time."""
        tracing = self._tracing
        was_on = tracing.is_on
        tracing.acquire(HEAP_FRAMES)
        try:
            before = await _heap_profile() if was_on and seconds else None
            if seconds:
                LOG.info("%s: measuring for %g s", name, seconds)
                await self._measurement.wait(seconds)
            if parameters.collect:
                gc.collect()
            after = await _heap_profile()
        finally:
            tracing.release()
        return after if before is None else difference(before, after)

    async def _snapshot(self, name: str, parameters: Parameters) -> Profile:
        """Return the current state, or the difference that `seconds` make."""
        if parameters.seconds is None:
            return await self._snapshots[name]()
        with self._measurement.hold(name, parameters.seconds):
            before = await self._snapshots[name]()
            await self._measurement.wait(parameters.seconds)
            return difference(before, await self._snapshots[name]())

    async def _block(self) -> Profile:
        return collectors.block(self._stalls.stalls)

    async def _mutex(self) -> Profile:
        return collectors.block({}, "mutex")


async def _heap_profile() -> Profile:
    samples = await in_thread(lambda: heap.samples(tracemalloc.take_snapshot()))
    return collectors.heap(samples)
