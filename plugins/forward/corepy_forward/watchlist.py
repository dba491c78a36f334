"""When attempts are late, and when they are given up: two queues and two timers per upstream.

An attempt is `young` until its reply is late by its upstream's own measure, then `old` until the
read timeout. Both queues are in the order of sending, so a query that is answered in time costs one
insertion and one removal, and no timer of its own.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from corepy_forward.attempt import Attempt

_TICK = 0.001
_AT_ONCE = 16
"""Attempts that are dealt with before the event loop goes on: what waits there may be a client."""


class Watchlist:
    """See the module. `patience` in seconds is how long an attempt is young; it may be changed."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        patience: float,
        timeout: float,
        on_late: Callable[[list[Attempt]], None],
        on_expired: Callable[[Attempt], None],
    ) -> None:
        """`timeout` in seconds from sending; an attempt that expires has left the list."""
        self.patience = patience
        self.young: dict[Attempt, None] = {}
        self.old: dict[Attempt, None] = {}
        self._loop = loop
        self._timeout = timeout
        self._on_late = on_late
        self._on_expired = on_expired
        self._young_timer: asyncio.TimerHandle | None = None
        self._old_timer: asyncio.TimerHandle | None = None

    def add(self, attempt: Attempt) -> None:
        """Watch over an attempt: a new one, or one that goes on in another way."""
        if attempt.is_late:
            self.old[attempt] = None
            if self._old_timer is None:
                self._old_timer = self._loop.call_later(_TICK, self._expire)
            return
        self.young[attempt] = None
        if self._young_timer is None:
            self._young_timer = self._loop.call_at(attempt.sent + self.patience, self._find_late)

    def remove(self, attempt: Attempt) -> None:
        """Watch no more."""
        (self.old if attempt.is_late else self.young).pop(attempt, None)

    def _find_late(self) -> None:
        limit = time.monotonic() - self.patience
        late = _before(self.young, limit)
        for attempt in late:
            del self.young[attempt]
            attempt.is_late = True
            self.add(attempt)
        # The timer counts as set while owners ask again.
        if late:
            self._on_late(late)
        first = next(iter(self.young), None)
        self._young_timer = None
        if first is not None:
            when = max(first.sent - limit, _TICK)
            self._young_timer = self._loop.call_later(when, self._find_late)

    def _expire(self) -> None:
        limit = time.monotonic() - self._timeout
        for attempt in _before(self.old, limit):
            if attempt in self.old:
                del self.old[attempt]
                self._on_expired(attempt)
        first = next(iter(self.old), None)
        self._old_timer = None
        if first is not None:
            when = max(first.sent - limit, _TICK)
            self._old_timer = self._loop.call_later(when, self._expire)

    def close(self) -> None:
        """Stop both timers."""
        for timer in (self._young_timer, self._old_timer):
            if timer is not None:
                timer.cancel()


def _before(queue: dict[Attempt, None], limit: float) -> list[Attempt]:
    """Return the first few of those in `queue` that were sent at `limit` or before."""
    found: list[Attempt] = []
    for attempt in queue:
        if attempt.sent > limit or len(found) == _AT_ONCE:
            break
        found.append(attempt)
    return found
