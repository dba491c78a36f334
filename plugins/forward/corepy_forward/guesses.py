"""Messages to our ports that answer nothing: somebody may be guessing (RFC 5452 section 9.3).

They are counted by port, and by question if the port waits for a reply to the one that they claim
to answer. After a hundred the question goes over TCP, where guessing is of no use: a hundred
guesses of an ID hit with a chance of one in 655.
"""

from __future__ import annotations

from typing import Final

MOST: Final = 100
"""Messages to one port, or for one question."""

REMEMBERED: Final = 600.0
"""Seconds for which a question goes over TCP, and in which the messages for it add up."""

_MOST_QUESTIONS: Final = 1024


class Guesses:
    """The counts of one upstream, by question section; times are in monotonic seconds."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[bytes, tuple[int, float]] = {}

    def __bool__(self) -> bool:
        return bool(self._counts)

    def count(self, question: bytes, now: float) -> bool:
        """Count a message; True if it was one too many."""
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
        """Whether the question goes over TCP."""
        number, since = self._counts.get(question, (0, now))
        return number >= MOST and now - since < REMEMBERED

    def tidy(self, now: float) -> None:
        """Forget what is old."""
        old = [key for key, (_, since) in self._counts.items() if now - since >= REMEMBERED]
        for question in old:
            del self._counts[question]
