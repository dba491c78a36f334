"""The copy of one namespace of Nomad: the names of its services, and the instances of those in use.

All times are those of the monotonic clock.
"""

from __future__ import annotations

import time
from enum import Enum
from heapq import nsmallest
from typing import TYPE_CHECKING, Final, NamedTuple

from corepy_nomad.responses import spellings_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence, Set

    from corepy_nomad.answers import Answers
    from corepy_nomad.client import Names

MOST_COPIES: Final = 10_000
"""Services of a namespace whose instances are kept; the least recently used ones are dropped."""

LONGEST_STALE: Final = 24 * 3600.0
"""Seconds for which names are answered that cannot be compared with Nomad any more."""


class Denial(Enum):
    """A name without records."""

    NO_NAME = "no such name"
    NO_DATA = "no records at this name"


class Failure(NamedTuple):
    """Why a name cannot be answered."""

    reason: str


if TYPE_CHECKING:
    Outcome = Answers | Denial | Failure

_TOO_OLD: Final = Failure("Nomad has not been reached for too long")


class Copy:
    """The instances of one service in use."""

    __slots__ = ("answers", "failure", "outdated_since", "retry_at", "used")

    def __init__(self, now: float) -> None:
        self.used = now
        self.answers: Answers | None = None
        """None until they were read for the first time."""
        self.outdated_since: float | None = now
        """When Nomad has reported a change that may concern the service, None if it has not."""
        self.failure: Failure | None = None
        self.retry_at = 0.0
        """When to ask again after a failure."""

    def outcome(self, now: float) -> Outcome | None:
        """Return the answer to a query, None if Nomad has to be asked first."""
        if self.answers is not None:
            if self.outdated_since is not None and now - self.outdated_since > LONGEST_STALE:
                return _TOO_OLD
            return self.answers or Denial.NO_NAME
        if self.failure is not None and now < self.retry_at:
            return self.failure
        return None


class Namespace:
    """The copy of one namespace."""

    def __init__(self, label: str, now: float) -> None:
        """`label` is its name, in lower case."""
        self.label = label
        self.names: Set[str] = frozenset()
        self._spellings: Mapping[str, Sequence[str]] = {}
        self.copies: dict[str, Copy] = {}
        self.index = 0
        """The index of Nomad's state, 0 if the names have to be read again."""
        self.version = 0
        """Increases with each change."""
        self.confirmed = now
        """When the names were last known to be those of Nomad."""
        self.used = now

    def find(self, service: str | None, now: float) -> Outcome | None:
        """Return the answer for a service, None if Nomad has to be asked first.

        Without a service, it is that for the name of the namespace itself.
        """
        self.used = now
        if now - self.confirmed > LONGEST_STALE:
            return _TOO_OLD
        if service is None:
            return Denial.NO_DATA if self.names else Denial.NO_NAME
        if service not in self.names:
            return Denial.NO_NAME
        copy = self.copies.get(service)
        if copy is None:
            return None
        copy.used = now
        return copy.outcome(now)

    def spellings(self, service: str) -> Sequence[str]:
        """Return the names in Nomad of a service: several if they differ only in capitals."""
        return spellings_of(service, self._spellings)

    def copy_of(self, service: str, now: float) -> Copy:
        """Return the copy of a service, a new one if there is none."""
        copy = self.copies.get(service)
        if copy is None:
            copy = self.copies[service] = Copy(now)
            if len(self.copies) > MOST_COPIES:
                self._drop_some()
        return copy

    def _drop_some(self) -> None:
        """Drop a tenth of the copies, the least recently used ones."""
        oldest = nsmallest(MOST_COPIES // 10, self.copies, key=lambda it: self.copies[it].used)
        for service in oldest:
            del self.copies[service]

    # -- changes

    def update(self, names: Names) -> set[str]:
        """Take the names that Nomad has answered; return those that have come or gone.

        If anything has changed, all copies are outdated: Nomad does not name the changed services.
        """
        self.index, self.confirmed = names.reached, names.answered
        found = names.found
        if found is None:
            return set()
        self.version += 1
        changed = set(self.names ^ found.names)
        self.names, self._spellings = found.names, found.spellings
        for service in changed:
            self.copies.pop(service, None)
        for copy in self.copies.values():
            if copy.outdated_since is None:
                copy.outdated_since = names.answered
        return changed

    def drop_unused(self, seconds: float) -> None:
        """Drop the copies that were not used for some seconds."""
        since = time.monotonic() - seconds
        self.copies = {name: it for name, it in self.copies.items() if it.used >= since}

    def outdated(self) -> list[str]:
        """Return the services whose instances have to be read again."""
        return [name for name, it in self.copies.items() if it.outdated_since is not None]
