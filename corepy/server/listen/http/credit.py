"""`Credit`: limits the frames of a connection that cause work without carrying a request."""

from __future__ import annotations

from typing import Final, final

MOST: Final = 1000
"""Credit of a new connection, and the most that it can have."""

PER_REQUEST: Final = 8
"""Frames that a client may send for each request that is answered, such as WINDOW_UPDATE."""

PER_SECOND: Final = 10.0
"""Frames that it may send without any request, such as PING."""


@final
class Credit:
    """The frames that a client may still send."""

    __slots__ = ("_at", "_left")

    def __init__(self, now: float) -> None:
        """`now` is a monotonic time in seconds, like those of the methods."""
        self._left: float = MOST
        self._at = now

    def earn(self) -> None:
        """Count an answered request."""
        if self._left < MOST:
            self._left += PER_REQUEST

    def spend(self, now: float) -> bool:
        """Count a frame at `now`; return False if there was no credit left."""
        self._left -= 1
        if self._left < 0:
            self._left = min(self._left + (now - self._at) * PER_SECOND, MOST)
            self._at = now
        return self._left >= 0
