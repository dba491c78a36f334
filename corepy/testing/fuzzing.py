"""Helpers for fuzz targets: functions that take bytes and raise if they find a mistake.

A target is a module with a function `check(data)` and a dictionary `SEEDS` of inputs that failed
in the past. pytest runs it with the seeds and, through `briefly`, with some random inputs; `make
fuzz` runs it for a given time (tests/fuzz/run.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

Choice = TypeVar("Choice")
Check = Callable[[bytes], None]

EXAMPLES = 150
"""Random inputs of a run by `briefly`."""

LONGEST = 2048
"""Bytes of the longest generated input."""


class Source:
    """Derives decisions from bytes in order; after the last byte, all decisions are zero."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        """Number of unused bytes."""
        return max(0, len(self._data) - self._at)

    def take(self, number: int) -> bytes:
        """Return the next `number` bytes, fewer at the end."""
        taken = self._data[self._at : self._at + number]
        self._at += number
        return taken

    def byte(self) -> int:
        """Return the next byte as a number."""
        return self.take(1)[0] if self.left else 0

    def number(self, low: int, high: int) -> int:
        """Return a number in low..high, both included."""
        if high - low < 256:
            return low + self.byte() % (high - low + 1)
        return low + int.from_bytes(self.take(4), "big") % (high - low + 1)

    def pick(self, choices: Sequence[Choice]) -> Choice:
        """Return one of the choices."""
        return choices[self.number(0, len(choices) - 1)]

    def one_in(self, number: int) -> bool:
        """Return True with a probability of 1 / `number`; False once all bytes are used."""
        return self.left > 0 and self.byte() % number == number - 1


def briefly(check: Check, examples: int = EXAMPLES) -> None:
    """Run a target on a few random inputs in the test suite; exceptions of the target propagate."""
    from hypothesis import HealthCheck, example, given, settings
    from hypothesis import strategies as st

    quiet = settings(
        max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    quiet(given(st.binary(max_size=LONGEST))(example(b"")(check)))()
