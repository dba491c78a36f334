"""The queries that wait for an answer from below, and when their silence is suspicious.

A query in a loop waits for itself. Long before it fails there is a sign: it has waited for longer
than a query should, and no other one was answered meanwhile. A slow upstream does not look like
that, since its other answers keep coming; one that is down does, and a probe tells them apart.

Once a loop is proven, those that wait are *recalled*: each stops waiting, and can be asked again
with a mark.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

SLOW: Final = 1.0
"""Seconds after which a query has waited for longer than it should."""

LOOK: Final = 0.5
"""Seconds between two looks at those that wait."""


class Waiting:
    """See the module. There is one timer for all, and none while nothing waits."""

    def __init__(self, suspicious: Callable[[], None]) -> None:
        """`suspicious` is called at each look that finds a silence."""
        self.is_silent = False
        """Whether nothing was answered since the last look; the handler makes it false."""

        self._suspicious = suspicious
        self._since: dict[asyncio.Task[Any], float] = {}
        self._recalled: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def enter(self, received: float) -> asyncio.Task[Any]:
        """Note that the running task waits with a query that was `received` then."""
        task = asyncio.current_task()
        assert task is not None
        self._since[task] = received
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LOOK, self._look)
        return task

    def leave(self, task: asyncio.Task[Any]) -> None:
        """Note that `task` waits no more."""
        self._since.pop(task, None)
        if task in self._recalled:  # what it waited for was faster, or does not let itself be ended
            self._recalled.discard(task)
            task.uncancel()

    def recall(self) -> None:
        """Interrupt all that wait with CancelledError; `is_recalled` tells it from others."""
        for task in self._since:
            self._recalled.add(task)
            task.cancel()
        self._since.clear()

    def is_recalled(self, task: asyncio.Task[Any]) -> bool:
        """Whether a CancelledError in `task` is ours alone; then it is taken back."""
        if task not in self._recalled:
            return False
        self._recalled.discard(task)
        return task.uncancel() == 0

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        longest = next(iter(self._since.values()), None)
        if longest is None:
            return
        self._timer = asyncio.get_running_loop().call_later(LOOK, self._look)
        if self.is_silent and time.monotonic() - longest >= SLOW:
            self._suspicious()
        self.is_silent = True
