"""/debug/pprof/trace: the samples in the order of time, as a file for speedscope.

Go's execution trace, a record of all scheduling decisions, has no counterpart here. The nearest is
what the program did when: a stack for each slice of CPU time, and gaps where it was idle.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from corepy_pprof.frames import FrameNames

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from corepy_pprof.cpu import CpuProfiler
    from corepy_pprof.frames import RawStack
    from corepy_pprof.profile import Frame, Stack

SCHEMA: Final = "https://www.speedscope.app/file-format-schema.json"


class Moment(NamedTuple):
    """One sample."""

    stack: Stack

    thread: str
    """The name of the thread, "" for the main thread."""

    at: int
    """Nanoseconds since the start."""

    used: int
    """Nanoseconds of CPU time since the sample before."""


@dataclass(slots=True)
class Timeline:
    """The samples of one process in the order of time."""

    samples: list[Moment]
    end: int
    """Nanoseconds since the start."""

    def without_samples(self) -> Timeline:
        """Return a copy that is ready for other samples."""
        return replace(self, samples=[])


def timeline_of(profiler: CpuProfiler) -> Timeline:
    """Return the samples of a profiler that has kept their order."""
    names = FrameNames()
    known: dict[RawStack, Stack] = {}
    moments = []
    for event in profiler.events:
        stack = known.get(event.stack)
        if stack is None:
            stack = known[event.stack] = names.stack(event.stack)
        moments.append(Moment(stack, event.thread, event.at, event.used))
    return Timeline(moments, profiler.ended - profiler.started)


def encode_timelines(timelines: Sequence[tuple[str, Timeline]], name: str) -> bytes:
    """Return a file with one timeline per thread; each process has a prefix for its threads."""
    frames: dict[Frame, int] = {}
    profiles: list[dict[str, Any]] = []
    for prefix, timeline in timelines:
        threads: dict[str, list[Moment]] = {}
        for moment in timeline.samples:
            threads.setdefault(moment.thread, []).append(moment)
        profiles += [
            _thread(prefix + (thread or "main thread"), moments, timeline.end, frames)
            for thread, moments in (threads or {"": []}).items()
        ]
    shared = [{"name": it.function, "file": it.file, "line": it.start} for it in frames]
    content = {
        "$schema": SCHEMA,
        "exporter": "corepy pprof",
        "name": name,
        "activeProfileIndex": 0,
        "shared": {"frames": shared},
        "profiles": profiles,
    }
    return json.dumps(content, separators=(",", ":")).encode()


def _thread(
    name: str, moments: Iterable[Moment], end: int, frames: dict[Frame, int]
) -> dict[str, Any]:
    """Return one thread's timeline; `frames` collects the frames of all."""
    samples: list[list[int]] = []
    weights: list[int] = []
    now = 0

    def append(stack: list[int], until: int) -> None:
        nonlocal now
        if until > now:
            samples.append(stack)
            weights.append(until - now)
            now = until

    for moment in moments:
        append([], moment.at - moment.used)
        # A viewer groups by frame: the function, not the line, which changes from sample to sample.
        places = (frame._replace(line=0) for frame in reversed(moment.stack))
        append([frames.setdefault(it, len(frames)) for it in places], moment.at)
    append([], end)
    kind = {"type": "sampled", "name": name, "unit": "nanoseconds", "startValue": 0}
    return kind | {"endValue": now, "samples": samples, "weights": weights}
