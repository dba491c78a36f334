"""Detects late and expired attempts, with two queues and two timers for each upstream.

An attempt is `young` until its reply is late in comparison with this upstream's usual response
time, then `old` until the read timeout. Both queues are in the order of sending. A query that is
answered in time costs one insertion and one removal, but no timer of its own.
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
"""Attempts processed in one turn of the event loop, so that clients do not wait for the rest."""


class Watchlist:
    """Calls back for late and expired attempts; `patience`, in seconds until late, may change."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        patience: float,
        timeout: float,
        on_late: Callable[[list[Attempt]], None],
        on_expired: Callable[[Attempt], None],
    ) -> None:
        """Take the times in seconds from sending and the callbacks.

        An expired attempt is removed before `on_expired` is called.
        """
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
        """Add an attempt: a new one, or one that continues over TCP."""
        if attempt.is_late:
            self.old[attempt] = None
            if self._old_timer is None:
                self._old_timer = self._loop.call_later(_TICK, self._expire)
            return
        self.young[attempt] = None
        if self._young_timer is None:
            self._young_timer = self._loop.call_at(attempt.sent + self.patience, self._find_late)

    def remove(self, attempt: Attempt) -> None:
        """Remove an attempt."""
        (self.old if attempt.is_late else self.young).pop(attempt, None)

    def _find_late(self) -> None:
        limit = time.monotonic() - self.patience
        late = _before(self.young, limit)
        for attempt in late:
            del self.young[attempt]
            attempt.is_late = True
            self.add(attempt)
        # `_young_timer` is not None yet, so that new attempts of the owners do not set another.
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
    """Return the first attempts in `queue` that were sent by `limit`, at most `_AT_ONCE`."""
    found: list[Attempt] = []
    for attempt in queue:
        if attempt.sent > limit or len(found) == _AT_ONCE:
            break
        found.append(attempt)
    return found
