"""`Leases`: how long the leases of keys still last, as etcd has stated it."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

SHORTEST_PAUSE: Final = 1.0
"""Seconds between two checks of one lease."""

_SPARE: Final = 64


class Leases:
    """The leases in use.

    A lease that its owner renews never changes a key, so it is checked again and again: after a
    third of its duration. Times are those of the monotonic clock, in seconds.
    """

    def __init__(self) -> None:
        self.ends: dict[int, float] = {}
        """When the leases that were checked end, unless they are renewed before."""
        self._users: dict[int, int] = {}
        self._due_at: dict[int, float] = {}
        self._due: list[tuple[float, int]] = []  # outdated entries are skipped

    def use(self, lease: int) -> None:
        """Count one more key of a lease; the first one makes it due for a check."""
        self._users[lease] = self._users.get(lease, 0) + 1
        if self._users[lease] == 1:
            self.schedule(lease, 0.0)

    def release(self, lease: int) -> None:
        """Count one key less, and forget a lease without keys."""
        self._users[lease] -= 1
        if not self._users[lease]:
            del self._users[lease], self._due_at[lease]
            self.ends.pop(lease, None)

    def learn(self, ends: Mapping[int, float]) -> None:
        """Take the ends of leases from another process, unless they are not in use any more."""
        self.ends.update((lease, end) for lease, end in ends.items() if lease in self._users)

    def seconds_left(self, lease: int, now: float) -> int | None:
        """Return the seconds that a lease lasts at least, None if that is not known."""
        end = self.ends.get(lease)
        return None if end is None else max(0, int(end - now))

    def next_due(self) -> tuple[float, int] | None:
        """Return the time of the next check and the lease, None without leases."""
        while self._due and self._due_at.get(self._due[0][1]) != self._due[0][0]:
            heapq.heappop(self._due)
        return self._due[0] if self._due else None

    def schedule(self, lease: int, when: float) -> None:
        """Check a lease at a time, if it is still in use then."""
        if lease in self._users:
            self._due_at[lease] = when
            heapq.heappush(self._due, (when, lease))
            if len(self._due) > 2 * len(self._users) + _SPARE:
                self._due = [(at, it) for it, at in self._due_at.items()]
                heapq.heapify(self._due)

    def checked(self, lease: int, now: float, left: int, granted: int) -> None:
        """Record the seconds that a lease has left, of those it was granted for.

        `left` is -1 for a lease that has ended; its keys will be removed.
        """
        if lease in self._users:
            self.ends[lease] = now + max(0, left)
        self.schedule(lease, now + max(SHORTEST_PAUSE, granted / 3))
