"""Notices what keeps the event loop from its work, and names it.

One loop serves the whole node: a plugin that computes, or waits in a blocking call, lets everybody
wait. A thread asks the loop for a sign of life four times a second; queries pay nothing for it.
When the sign is late, the stack of the loop's thread tells whose code is running.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

from corepy.plugin import metrics
from corepy.plugin.failures import SERVER, count, logger_of
from corepy.server.blame import of_thread
from corepy.server.switches import seconds_of

if TYPE_CHECKING:
    import asyncio

    from corepy.server.blame import Blame

LIMIT: Final = 0.25
"""Seconds that anything may keep the loop before it is named."""

SWITCH: Final = "COREPY_BLOCK_LIMIT"
"""Environment variable: another number of seconds, 0 to not look."""

QUIET: Final = 10.0
"""Seconds between two log lines about the same plugin; it is counted each time."""

BLOCKED = metrics.counter(
    "corepy_event_loop_blocked_seconds_total",
    "Time that the event loop was kept from its work, for longer than the limit at a time.",
    ("plugin",),
)


def limit() -> float:
    """Return the limit of this process in seconds; 0 is none."""
    return seconds_of(SWITCH, LIMIT)


class LoopWatch:
    """Watches the loop of the thread that made it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._limit = limit()
        self._ident = threading.get_ident()
        self._alive = threading.Event()
        self._end = threading.Event()
        self._logged: dict[str, float] = {}
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Watch from now on; nothing happens if that has begun already."""
        if self._thread is None and self._limit:
            self._end.clear()
            self._thread = threading.Thread(target=self._run, name="loop watch", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Watch no longer."""
        self._end.set()
        self._alive.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while not self._end.wait(self._limit):
            self._alive.clear()
            asked = time.monotonic()
            try:
                self._loop.call_soon_threadsafe(self._alive.set)
            except RuntimeError:  # the loop is closed
                return
            if self._alive.wait(self._limit) or self._was_late(asked):
                continue
            if not self._end.is_set():  # the loop's thread waits for this one
                self._name(asked)

    def _was_late(self, asked: float) -> bool:
        """Return whether this thread itself got no time: the machine is busy, or was asleep.

        The loop gets another chance then, since nothing can be said of it.
        """
        return time.monotonic() - asked > 2 * self._limit and self._alive.wait(self._limit)

    def _name(self, asked: float) -> None:
        """Say what runs, and when it is over how long it took."""
        found = of_thread(self._ident)
        count(found.plugin, "blocked")
        told = self._may_tell(found)
        if told:
            message = "the event loop is blocked for more than %g s at %s: all queries wait"
            logger_of(found.plugin).warning(message, self._limit, found.where)
        while not self._alive.wait(self._limit):
            if self._end.is_set() or self._loop.is_closed():
                return
        seconds = time.monotonic() - asked
        BLOCKED.labels(found.plugin or SERVER).inc(seconds)
        if told:
            message = "the event loop was blocked for at least %.2f s at %s"
            logger_of(found.plugin).warning(message, seconds, found.where)

    def _may_tell(self, found: Blame) -> bool:
        now = time.monotonic()
        key = found.plugin or found.where
        if now - self._logged.get(key, -QUIET) < QUIET or self._end.is_set():
            return False
        self._logged[key] = now
        return True
