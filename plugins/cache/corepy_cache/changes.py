"""Recent changes of the data below a cache, which outdate replies that are still on their way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from corepy.dns import Request

LONGEST_QUERY: Final = 30.0
"""Seconds for which a change is remembered: three times the server's time limit of a query.

The reply to a query that took longer, where the operator allows that, is cached for its TTL.
"""


class Change(NamedTuple):
    """A change of the data of some names, in a handler below."""

    at: float
    """Monotonic seconds."""
    affects: Callable[[bytes], bool]
    """Selects the names, in wire form and lower case."""


class RecentChanges:
    """The changes since the oldest query that may still be unanswered."""

    __slots__ = ("recent",)

    def __init__(self) -> None:
        self.recent: list[Change] = []
        """Usually empty, which callers test before they call a method."""

    def add(self, now: float, affects: Callable[[bytes], bool]) -> None:
        """Record a change at `now`, in monotonic seconds."""
        recent = [change for change in self.recent if now - change.at < LONGEST_QUERY]
        self.recent = [*recent, Change(now, affects)]

    def outdate(self, request: Request) -> bool:
        """Return whether the data of a name has changed since the query for it arrived."""
        received = request.received
        if self.recent and received > self.recent[-1].at + LONGEST_QUERY:
            self.recent = []
        for change in reversed(self.recent):  # the newest first: few are newer than the query
            if received > change.at:
                return False
            if change.affects(request.name_wire):
                return True
        return False
