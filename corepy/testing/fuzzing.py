"""Fuzz targets: functions of bytes that raise whenever something is wrong.

A target is a module with a function `check(data)` and a dictionary `SEEDS` of inputs that once
failed. pytest runs it with the seeds and, by `briefly`, with some random inputs; `make fuzz` runs
it for as long as it is told to (tests/fuzz/run.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

Choice = TypeVar("Choice")
Check = Callable[[bytes], None]

EXAMPLES = 150
"""Inputs of a brief run."""

LONGEST = 2048
"""Bytes of the longest input that is made."""


class Source:
    """Decisions taken from bytes, one after the other; behind the last, all are zero."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        """How many bytes are left."""
        return max(0, len(self._data) - self._at)

    def take(self, number: int) -> bytes:
        """Return so many bytes, or what is left."""
        taken = self._data[self._at : self._at + number]
        self._at += number
        return taken

    def byte(self) -> int:
        """Return one byte as a number."""
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
        """Return True once in so many times; never when the bytes are used up."""
        return self.left > 0 and self.byte() % number == number - 1


def briefly(check: Check, examples: int = EXAMPLES) -> None:
    """Run a target on a few inputs, as a part of the test suite; raises what it raises."""
    from hypothesis import HealthCheck, example, given, settings
    from hypothesis import strategies as st

    quiet = settings(
        max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    quiet(given(st.binary(max_size=LONGEST))(example(b"")(check)))()
