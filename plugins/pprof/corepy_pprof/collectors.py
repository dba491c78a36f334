"""Builds the profiles; the names and types of their values are those of Go's runtime/pprof."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from corepy_pprof.activities import entry, tasks, thread_count, threads
from corepy_pprof.cpu import PERIOD
from corepy_pprof.frames import FrameNames
from corepy_pprof.profile import Frame, Profile, Sample, ValueType, total

if TYPE_CHECKING:
    from collections.abc import Mapping

    from corepy_pprof.activities import Activity
    from corepy_pprof.cpu import CpuProfiler
    from corepy_pprof.frames import RawStack
    from corepy_pprof.profile import Labels, Stack
    from corepy_pprof.stalls import Place

CPU: Final = ValueType("cpu", "nanoseconds")
COUNT: Final = "count"
CONTENTIONS: Final = ValueType("contentions", COUNT), ValueType("delay", "nanoseconds")
HEAP: Final = ValueType("inuse_objects", COUNT), ValueType("inuse_space", "bytes")
UNKNOWN: Final = Frame("unknown stacks", "", 0)
STARVED: Final = (("cause", "no processor"),)
NO_CODE: Final = Frame("threads without Python code", "", 0)


def cpu(profiler: CpuProfiler) -> Profile:
    """Return the CPU profile of a profiler that has stopped."""
    names = FrameNames()
    samples = [
        Sample(_stack(names, raw), (count, used), (("thread", thread),) if thread else ())
        for (thread, raw), (count, used) in profiler.stacks.items()
    ]
    duration = profiler.ended - profiler.started
    profile = _profile("profile", (ValueType("samples", COUNT), CPU), total(samples))
    profile.period_type, profile.period = CPU, round(PERIOD * 1e9)
    # time of day: shown to the reader of the profile
    profile.time, profile.duration = time.time_ns() - duration, duration
    if profiler.failures:
        profile.comments.append(f"{profiler.failures} samples could not be taken")
    return profile


def heap(samples: list[Sample]) -> Profile:
    """Return the heap profile with these samples."""
    return _profile("heap", HEAP, samples, HEAP[-1])


def block(stalls: Mapping[Place, tuple[int, int]], name: str = "block") -> Profile:
    """Return the block profile of these stalls, each with a number and nanoseconds."""
    names = FrameNames()
    samples = [
        Sample(_stack(names, place.stack), values, STARVED if place.is_starved else ())
        for place, values in stalls.items()
    ]
    return _profile(name, CONTENTIONS, total(samples))


async def goroutine() -> Profile:
    """Return the threads and tasks of this moment, those with the same stack together."""
    names = FrameNames()
    samples = [_activity(names, it, it.stack) for it in [*threads(), *await tasks()]]
    return _profile("goroutine", (ValueType("goroutine", COUNT),), total(samples))


async def threadcreate() -> Profile:
    """Return the threads of this moment by the function that they run."""
    names, found = FrameNames(), threads()
    samples = [_activity(names, it, entry(it.stack)) for it in found]
    others = thread_count() - len(found)
    if others > 0:
        samples.append(Sample((NO_CODE,), (others,)))
    return _profile("threadcreate", (ValueType("threadcreate", COUNT),), total(samples))


def _activity(names: FrameNames, activity: Activity, raw: RawStack) -> Sample:
    labels: Labels = () if activity.label is None else (activity.label,)
    return Sample(_stack(names, raw), (1,), labels)


def _stack(names: FrameNames, raw: RawStack) -> Stack:
    return names.stack(raw) or (UNKNOWN,)


def _profile(
    name: str,
    types: tuple[ValueType, ...],
    samples: list[Sample],
    period_type: ValueType | None = None,
) -> Profile:
    """Return a profile of this moment."""
    # time of day: shown to the reader of the profile
    return Profile(name, types, samples, period_type or types[0], time=time.time_ns())
