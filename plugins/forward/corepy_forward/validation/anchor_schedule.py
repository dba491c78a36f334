"""`Schedule`: when the keys of a zone are to be queried again (RFC 5011 section 2.3)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, NamedTuple

from corepy_forward.validation.anchor_states import DAY

if TYPE_CHECKING:
    from corepy_forward.validation.anchor import SeenKeys

HOUR: Final = 3600
LONGEST: Final = 15 * DAY
"""Seconds between two queries at most."""

_JITTER: Final = 0.1
"""Part of an interval that is random, so that servers do not query at the same time."""


class _Due(NamedTuple):
    """Times of the next query, in seconds since 1970, and of the next after a failure."""

    time: float
    retry: float


def query_interval(seen: SeenKeys, now: float) -> float:
    """Return the seconds until the next query after a success."""
    return max(HOUR, min(LONGEST, seen.ttl / 2, (seen.expires - now) / 2))


def retry_interval(seen: SeenKeys, now: float) -> float:
    """Return the seconds until the next query after a failure."""
    return max(HOUR, min(DAY, seen.ttl / 10, (seen.expires - now) / 10))


class Schedule:
    """The next query for each zone; a zone that was never seen is due at once."""

    def __init__(self) -> None:
        self._due: dict[bytes, _Due] = {}

    def is_due(self, zone: bytes, now: float) -> bool:
        """Return whether the keys of a zone are to be queried.

        A time further away than any interval was set before the clock was set back.
        """
        due = self._due.get(zone)
        return due is None or now >= due.time or due.time - now > LONGEST

    def succeeded(self, zone: bytes, seen: SeenKeys, now: float) -> None:
        """Enter that a validated set was received."""
        wait = query_interval(seen, now) * (1 - _JITTER * os.urandom(1)[0] / 256)
        self._due[zone] = _Due(now + wait, retry_interval(seen, now))

    def failed(self, zone: bytes, now: float) -> float:
        """Enter that a query failed; return the seconds until the next one."""
        wait = self._due[zone].retry if zone in self._due else HOUR
        self._due[zone] = _Due(now + wait, wait)
        return wait
