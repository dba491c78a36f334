"""The queries that wait for a reply from below, and the detection of suspicious silence.

In a loop a query waits for itself. The first sign of it appears long before the query fails: it has
waited too long, and no other query was answered in the meantime. A slow upstream looks different,
because its other replies continue to arrive. An unreachable upstream looks the same; a probe
distinguishes the two.

Once a loop is proven, the waiting queries are *recalled*: each stops waiting and can be sent again
with a mark.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

SLOW: Final = 1.0
"""Seconds after which a query has waited too long."""

LOOK: Final = 0.5
"""Seconds between two checks of the waiting queries."""


class Waiting:
    """The tasks that wait for a reply, with one timer for all and no timer while none wait."""

    def __init__(self, suspicious: Callable[[], None]) -> None:
        """`suspicious` is called by each check that finds silence."""
        self.is_stalled = False
        """Whether no query was answered since the last check; the handler resets it to False."""

        self._suspicious = suspicious
        self._since: dict[asyncio.Task[Any], float] = {}
        self._recalled: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def enter(self, received: float) -> asyncio.Task[Any]:
        """Record that the running task waits with a query that arrived at `received`."""
        task = asyncio.current_task()
        assert task is not None
        self._since[task] = received
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LOOK, self._check)
        return task

    def leave(self, task: asyncio.Task[Any]) -> None:
        """Record that `task` no longer waits."""
        self._since.pop(task, None)
        if task in self._recalled:  # its reply was faster, or its handler ignored the cancellation
            self._recalled.discard(task)
            task.uncancel()

    def recall(self) -> None:
        """Cancel all waiting tasks; `is_recalled` distinguishes this from other cancellations."""
        for task in self._since:
            self._recalled.add(task)
            task.cancel()
        self._since.clear()

    def is_recalled(self, task: asyncio.Task[Any]) -> bool:
        """Whether a CancelledError in `task` comes only from `recall`; if so, undoes it."""
        if task not in self._recalled:
            return False
        self._recalled.discard(task)
        return task.uncancel() == 0

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self) -> None:
        self._timer = None
        longest = next(iter(self._since.values()), None)
        if longest is None:
            return
        self._timer = asyncio.get_running_loop().call_later(LOOK, self._check)
        if self.is_stalled and time.monotonic() - longest >= SLOW:
            self._suspicious()
        self.is_stalled = True
