"""Schedules the start of workers: at once at first, with increasing delays while workers fail."""

from __future__ import annotations

import time

BACKOFF = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0)
"""Seconds before the next start, by the number of consecutive failures; the last one repeats."""

STABLE_AFTER = 10.0
"""Seconds of service after which the count of failures starts again."""

SHORT_LIFE = 0.1
"""Weight of the failure of a worker that did serve.

Such a worker is replaced without delay the first ten times in a row.
"""

RELAY_AFTER = 3
"""Consecutive failures after which the fallback answers."""

STANDBY_GAP = 30.0
"""Minimum seconds between the starts of two standbys for a worker that may hang."""


class Restarts:
    """The time of the next start, and the failures that delay it."""

    def __init__(self) -> None:
        """Plan the first start for now."""
        self._at: float | None = 0.0
        self._failures = 0.0
        self._is_standby = False
        self._standby_from = 0.0

    @property
    def is_planned(self) -> bool:
        """Whether a start is planned."""
        return self._at is not None

    @property
    def is_due(self) -> bool:
        """Whether a worker must be started now."""
        return self._at is not None and time.monotonic() >= self._at

    @property
    def keep_failing(self) -> bool:
        """Whether enough workers have failed for the fallback to answer."""
        return self._failures >= RELAY_AFTER

    def plan(self, delay: float = 0.0) -> None:
        """Plan a start in `delay` seconds."""
        self._at = time.monotonic() + delay

    def cancel(self) -> None:
        """Cancel the planned start."""
        self._at = None

    def plan_standby(self) -> bool:
        """Plan the start of a standby now; return False if the last one is too recent."""
        now = time.monotonic()
        if now < self._standby_from:
            return False
        self._standby_from = now + STANDBY_GAP
        self._at, self._is_standby = now, True
        return True

    def take_standby(self) -> bool:
        """Return whether the worker just started is a standby, and reset the mark."""
        is_standby, self._is_standby = self._is_standby, False
        return is_standby

    def count_failure(self, weight: float) -> float:
        """Count a failure; return the seconds to wait before the next start."""
        delay = BACKOFF[min(int(self._failures), len(BACKOFF) - 1)]
        self._failures += weight
        return delay

    def forgive(self, seconds: float) -> None:
        """Reset the count of failures if a worker has served for long enough."""
        if seconds > STABLE_AFTER:
            self._failures = 0.0
