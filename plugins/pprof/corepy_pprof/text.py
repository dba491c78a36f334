"""Profiles as text (`debug=1`), and threads and tasks as Go prints goroutines (`debug=2`).

The form is the older one of Go's runtime/pprof, which pprof also reads. Addresses stand for frames;
the lines with # name them.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from corepy_pprof.frames import FrameNames

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from corepy_pprof.activities import Activity
    from corepy_pprof.profile import Frame, Profile, Sample


def as_text(profile: Profile) -> str:
    """Return the profile as text, the largest samples first."""
    samples = sorted(profile.samples, key=lambda it: it.values[-1], reverse=True)
    addresses: dict[Frame, int] = {}
    parts = [_head(profile, samples)]
    for sample in samples:
        for frame in sample.stack:
            addresses.setdefault(frame, len(addresses) + 1)
        parts.append(_sample(profile, sample, addresses))
    parts += [f"# {comment}\n" for comment in profile.comments]
    return "".join(parts)


def _head(profile: Profile, samples: Iterable[Sample]) -> str:
    count, amount = sum(it.values[0] for it in samples), sum(it.values[-1] for it in samples)
    if profile.types[-1].unit == "bytes":
        return f"heap profile: {count}: {amount} [{count}: {amount}] @ heap/1\n"
    if profile.types[-1].unit == "nanoseconds":
        kind = "mutex" if profile.name == "mutex" else "contention"
        return f"--- {kind}:\ncycles/second=1000000000\n"
    return f"{profile.name} profile: total {count}\n"


def _sample(profile: Profile, sample: Sample, addresses: dict[Frame, int]) -> str:
    count, amount = sample.values[0], sample.values[-1]
    unit = profile.types[-1].unit
    values = {
        "bytes": f"{count}: {amount} [{count}: {amount}]",
        "nanoseconds": f"{amount} {count}",
    }.get(unit, f"{count}")
    stack = "".join(f" {addresses[it]:#x}" for it in sample.stack)
    labels = f"# labels: {json.dumps(dict(sample.labels))}\n" if sample.labels else ""
    frames = "".join(
        f"#\t{addresses[it]:#x}\t{it.function}\t{it.file}:{it.line}\n" for it in sample.stack
    )
    return f"{values} @{stack}\n{labels}{frames}\n"


def as_goroutines(activities: Sequence[Activity]) -> str:
    """Return all threads and tasks with their stacks, as in a panic of a Go program."""
    names = FrameNames()
    return "\n".join(
        _goroutine(number, activity, names) for number, activity in enumerate(activities, 1)
    )


def _goroutine(number: int, activity: Activity, names: FrameNames) -> str:
    name = "".join(it if it.isprintable() and it not in "[]" else "_" for it in activity.name)
    head = f"goroutine {number} [{activity.state}, {activity.kind} {name}]:\n"
    frames = (f"{it.function}(...)\n\t{it.file}:{it.line}\n" for it in names.stack(activity.stack))
    return head + "".join(frames)
