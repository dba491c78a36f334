"""/debug/pprof/trace: the samples in the order of time, as a file for speedscope.

Go's execution trace, a record of all scheduling decisions, has no counterpart here. The nearest is
what the program did when: a stack for each slice of CPU time, and gaps where it was idle.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from corepy_pprof.frames import FrameNames

if TYPE_CHECKING:
    from collections.abc import Iterable

    from corepy_pprof.cpu import CpuProfiler, Event
    from corepy_pprof.profile import Frame

SCHEMA: Final = "https://www.speedscope.app/file-format-schema.json"


def timeline(profiler: CpuProfiler, name: str) -> bytes:
    """Return the samples of a profiler that has kept their order, one timeline per thread."""
    names = FrameNames()
    frames: dict[Frame, int] = {}
    threads: dict[str, list[Event]] = {}
    for event in profiler.events:
        threads.setdefault(event.thread, []).append(event)
    end = profiler.ended - profiler.started
    profiles = [
        _thread(thread or "main thread", events, end, names, frames)
        for thread, events in threads.items()
    ]
    if not profiles:
        profiles = [_thread("main thread", [], end, names, frames)]
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
    name: str, events: Iterable[Event], end: int, names: FrameNames, frames: dict[Frame, int]
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

    for event in events:
        append([], event.at - event.used)
        stack = reversed(names.stack(event.stack))
        # A viewer groups by frame: the function, not the line, which changes from sample to sample.
        places = (frame._replace(line=0) for frame in stack)
        append([frames.setdefault(it, len(frames)) for it in places], event.at)
    append([], end)
    kind = {"type": "sampled", "name": name, "unit": "nanoseconds", "startValue": 0}
    return kind | {"endValue": now, "samples": samples, "weights": weights}
