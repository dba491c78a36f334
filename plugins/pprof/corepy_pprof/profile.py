"""A profile: stacks of the program with values, and their meaning.

The model is that of pprof's profile.proto, reduced to what an interpreted program can fill in:
frames have a function, a file and a line, but no address.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MAX_DEPTH: Final = 64
"""Frames that are kept of a stack, the innermost ones."""


class Frame(NamedTuple):
    """A position in the program."""

    function: str
    """The qualified name with the module, such as "asyncio.events.Handle._run"."""

    file: str
    line: int
    start: int = 0
    """The first line of the function; 0 if unknown."""


class ValueType(NamedTuple):
    """The meaning of a value, such as ("cpu", "nanoseconds")."""

    kind: str
    unit: str


Stack = tuple[Frame, ...]
"""Frames, the innermost one first."""

Labels = tuple[tuple[str, str], ...]
"""Names and texts that distinguish samples with the same stack."""


class Sample(NamedTuple):
    """A stack, and a value for each of the profile's types."""

    stack: Stack
    values: tuple[int, ...]
    labels: Labels = ()


@dataclass(slots=True)
class Profile:
    """What /debug/pprof/NAME returns, before it is encoded."""

    name: str
    types: tuple[ValueType, ...]
    samples: list[Sample]
    period_type: ValueType
    period: int = 1
    """The amount of `period_type` between two samples."""

    time: int = 0
    """Start of the measurement, nanoseconds since 1970."""

    duration: int = 0
    """Nanoseconds; 0 for a snapshot."""

    comments: list[str] = field(default_factory=list)

    def without_samples(self) -> Profile:
        """Return a copy that is ready for other samples."""
        return replace(self, samples=[], comments=list(self.comments))


def total(samples: Iterable[Sample]) -> list[Sample]:
    """Return the samples with those of the same stack and labels added up, without zeros."""
    sums: dict[tuple[Stack, Labels], list[int]] = {}
    for stack, values, labels in samples:
        known = sums.setdefault((stack, labels), [0] * len(values))
        for index, value in enumerate(values):
            known[index] += value
    return [
        Sample(stack, tuple(values), labels)
        for (stack, labels), values in sums.items()
        if any(values)
    ]


def difference(before: Profile, after: Profile) -> Profile:
    """Return what has been added to `before`; what is gone has negative values, as in Go."""
    gone = [
        Sample(it.stack, tuple(-value for value in it.values), it.labels) for it in before.samples
    ]
    samples = total([*gone, *after.samples])
    return Profile(
        after.name,
        after.types,
        samples,
        after.period_type,
        after.period,
        before.time,
        after.time - before.time,
        after.comments,
    )


def combine(profiles: Sequence[tuple[int, Profile]]) -> Profile:
    """Return the samples of several processes, each with its ID as the label `process`."""
    combined = profiles[0][1].without_samples()
    for process, profile in profiles:
        label = ("process", str(process))
        combined.samples += [
            Sample(it.stack, it.values, (*it.labels, label)) for it in profile.samples
        ]
        combined.comments += [it for it in profile.comments if it not in combined.comments]
    return combined
