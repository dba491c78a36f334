"""Delays between attempts at a server that fails, so that many clients do not return at once."""

from __future__ import annotations

import secrets
from typing import Final

_STEPS: Final = 1 << 32


class Backoff:
    """Doubles the delay with each failure, and varies it by chance."""

    def __init__(self, first: float, most: float) -> None:
        """Begin with about `first` seconds, and wait no more than `most`."""
        self._first = first
        self._most = most
        self._failures = 0

    def reset(self) -> None:
        """Begin again, after a success."""
        self._failures = 0

    def next_delay(self) -> float:
        """Return the seconds to wait after one more failure: half to all of the current step."""
        step = min(self._most, self._first * 2.0 ** min(self._failures, 32))
        self._failures += 1
        return jittered(step / 2, step)


def jittered(least: float, most: float) -> float:
    """Return seconds between two limits, by chance."""
    return least + (most - least) * secrets.randbelow(_STEPS) / _STEPS
