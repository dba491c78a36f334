"""Counts messages that match no query in flight, and may be guesses (RFC 5452 section 9.3).

They are counted by port, and by question if a query with the question of the message is in flight
at that port. After a hundred messages the question is sent over TCP, where guesses have no effect:
a hundred guesses of an ID succeed with a probability of 1 in 655.
"""

from __future__ import annotations

from typing import Final

MOST: Final = 100
"""Messages to one port, or for one question, after which questions are sent over TCP."""

REMEMBERED: Final = 600.0
"""Seconds for which a question is sent over TCP, and after which its count starts again."""

_MOST_QUESTIONS: Final = 1024


class Guesses:
    """The counts of one upstream, by question section; times are monotonic, in seconds."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[bytes, tuple[int, float]] = {}

    def __bool__(self) -> bool:
        return bool(self._counts)

    def count(self, question: bytes, now: float) -> bool:
        """Count a message; return True if the count has just reached `MOST`."""
        number, since = self._counts.pop(question, (0, now))
        if now - since >= REMEMBERED:
            number, since = 0, now
        number += 1
        if number == MOST:
            since = now
        elif len(self._counts) >= _MOST_QUESTIONS:
            del self._counts[next(iter(self._counts))]
        self._counts[question] = number, since
        return number == MOST

    def are_many(self, question: bytes, now: float) -> bool:
        """Whether the question is to be sent over TCP."""
        number, since = self._counts.get(question, (0, now))
        return number >= MOST and now - since < REMEMBERED

    def tidy(self, now: float) -> None:
        """Remove expired counts."""
        old = [key for key, (_, since) in self._counts.items() if now - since >= REMEMBERED]
        for question in old:
            del self._counts[question]
