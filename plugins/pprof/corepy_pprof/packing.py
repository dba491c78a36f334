"""Converts what a process has measured, to send it to another process.

The format is JSON: unlike pickle, it contains no code that the reader would run.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from corepy_pprof.profile import Frame, Profile, Sample, ValueType
from corepy_pprof.timeline import Moment, Timeline

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from corepy_pprof.measures import Content
    from corepy_pprof.profile import Stack

AT_ONCE: Final = 500
"""Samples that are converted at once: json holds the interpreter's lock, so that queries wait."""


def pack(content: Content) -> tuple[bytes, list[bytes]]:
    """Return content for another process: all but its list of samples, and these in portions."""
    if isinstance(content, str):
        return _dump(content), []
    samples: Sequence[Sample | Moment] = content.samples
    starts = range(0, len(samples), AT_ONCE)
    portions = [_pack_samples(samples[start : start + AT_ONCE]) for start in starts]
    return _dump(asdict(content.without_samples())), portions


def _pack_samples(samples: Iterable[Sample | Moment]) -> bytes:
    """Convert a portion: its frames, and the samples with the numbers of these in their stacks."""
    frames: dict[Frame, int] = {}
    rows = [
        ([frames.setdefault(frame, len(frames)) for frame in it.stack], *it[1:]) for it in samples
    ]
    return _dump((list(frames), rows))


def unpack(head: bytes, portions: Iterable[bytes]) -> Content:
    """Return the content that `pack` has converted."""
    read = json.loads(head)
    if isinstance(read, str):
        return read
    rows = (row for portion in portions for row in _unpack_samples(portion))
    if "types" not in read:
        return Timeline([Moment(stack, *rest) for stack, *rest in rows], read["end"])
    read["types"] = tuple(ValueType(*it) for it in read["types"])
    read["period_type"] = ValueType(*read["period_type"])
    read["samples"] = [
        Sample(stack, tuple(values), tuple((label, text) for label, text in labels))
        for stack, values, labels in rows
    ]
    return Profile(**read)


def _unpack_samples(portion: bytes) -> Iterator[tuple[Stack, *tuple[Any, ...]]]:
    """Yield the samples of a portion as tuples of their fields."""
    listed, rows = json.loads(portion)
    frames = [Frame(*it) for it in listed]
    for numbers, *rest in rows:
        yield tuple(frames[number] for number in numbers), *rest


def _dump(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
