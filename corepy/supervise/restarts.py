"""When the next worker is started: at once at first, later and later while workers fail."""

from __future__ import annotations

import time

BACKOFF = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0)
"""Seconds before a worker is started again, by how many have failed in a row; the last one
repeats.
"""

STABLE_AFTER = 10.0
"""Seconds of service after which a failure is the first one again."""

SHORT_LIFE = 0.1
"""Weight of a worker that did serve: it is replaced at once, ten times in a row, unless that goes
on and on.
"""

RELAY_AFTER = 3
"""Failures in a row after which the fallback answers."""

STANDBY_GAP = 30.0
"""Seconds between two workers that are started because the current one may hang."""


class Restarts:
    """The time of the next start, and the failures that put it off."""

    def __init__(self) -> None:
        """Plan the first start for now."""
        self._at: float | None = 0.0
        self._failures = 0.0
        self._is_standby = False
        self._standby_from = 0.0

    @property
    def is_planned(self) -> bool:
        """Whether a worker is going to be started."""
        return self._at is not None

    @property
    def is_due(self) -> bool:
        """Whether a worker is to be started now."""
        return self._at is not None and time.monotonic() >= self._at

    @property
    def keep_failing(self) -> bool:
        """Whether so many workers have failed that the fallback has to answer."""
        return self._failures >= RELAY_AFTER

    def plan(self, delay: float = 0.0) -> None:
        """Start a worker in `delay` seconds."""
        self._at = time.monotonic() + delay

    def cancel(self) -> None:
        """Start no worker."""
        self._at = None

    def plan_standby(self) -> bool:
        """Start a worker beside one that may hang; return False if the last such is too recent."""
        now = time.monotonic()
        if now < self._standby_from:
            return False
        self._standby_from = now + STANDBY_GAP
        self._at, self._is_standby = now, True
        return True

    def take_standby(self) -> bool:
        """Return whether the worker that has been started is a standby; the next one is none."""
        is_standby, self._is_standby = self._is_standby, False
        return is_standby

    def count_failure(self, weight: float) -> float:
        """Take account of a failure; return the seconds to wait before the next start."""
        delay = BACKOFF[min(int(self._failures), len(BACKOFF) - 1)]
        self._failures += weight
        return delay

    def forgive(self, seconds: float) -> None:
        """Forget earlier failures if a worker has served for long enough."""
        if seconds > STABLE_AFTER:
            self._failures = 0.0
