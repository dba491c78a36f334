"""Detects code that blocks the event loop, and logs the plugin that it belongs to.

One event loop serves all queries: while a plugin computes, or waits in a blocking call, every query
waits. A thread schedules a callback in the loop four times a second, so queries have no overhead.
If the callback is late, the stack of the loop's thread shows which code is running.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

from corepy.net.cpu_starvation import ThreadCpu
from corepy.plugin import metrics
from corepy.plugin.failures import SERVER, count, logger_of
from corepy.server.contain.attribution import of_thread
from corepy.server.env_settings import seconds_of

if TYPE_CHECKING:
    import asyncio

    from corepy.server.contain.attribution import Attribution

LIMIT: Final = 0.25
"""Seconds that code may block the loop before it is logged."""

SWITCH: Final = "COREPY_BLOCK_LIMIT"
"""Environment variable: the limit in seconds, 0 to disable the detection."""

QUIET: Final = 10.0
"""Seconds between two log lines about the same plugin; each case is counted."""

BLOCKED = metrics.counter(
    "corepy_event_loop_blocked_seconds_total",
    "Seconds that the event loop was blocked, in blocks longer than the limit.",
    ("plugin",),
)


def limit() -> float:
    """Return the limit of this process in seconds; 0 means that the detection is off."""
    return seconds_of(SWITCH, LIMIT)


class LoopWatchdog:
    """Monitors the event loop of the thread that creates it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, cpu: ThreadCpu | None = None) -> None:
        """`cpu` is the CPU time of the loop's thread, by default the thread that runs now."""
        self._loop = loop
        self._cpu = cpu or ThreadCpu()
        self._limit = limit()
        self._ident = threading.get_ident()
        self._alive = threading.Event()
        self._end = threading.Event()
        self._logged: dict[str, float] = {}
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the monitoring thread; does nothing if it runs already."""
        if self._thread is None and self._limit:
            self._end.clear()
            self._thread = threading.Thread(target=self._run, name="loop watch", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stop the monitoring thread."""
        self._end.set()
        self._alive.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while not self._end.wait(self._limit):
            self._alive.clear()
            asked, ran = time.monotonic(), self._cpu.ran()
            try:
                self._loop.call_soon_threadsafe(self._alive.set)
            except RuntimeError:  # the loop is closed
                return
            if self._is_blocked(asked, ran):
                self._name(asked)

    def _is_blocked(self, asked: float, ran: float) -> bool:
        """Return whether the loop does not answer, although its thread has a CPU.

        A delay proves nothing while the loop's thread waits for a CPU, or if this thread itself got
        none: the machine is busy, or was suspended. Then the loop gets another interval.
        """
        if self._alive.wait(self._limit):
            return False
        was_late = time.monotonic() - asked > 2 * self._limit
        while was_late or self._cpu.is_starved(ran, time.monotonic() - asked):
            was_late = False
            if self._alive.wait(self._limit):
                return False
        return not self._end.is_set()  # `stop` in the loop's thread waits for this one

    def _name(self, asked: float) -> None:
        """Log the code that is running, and how long it took once it is over."""
        found = of_thread(self._ident)
        count(found.plugin, "blocked")
        may_log = self._may_log(found)
        if may_log:
            message = "the event loop is blocked for more than %g s at %s: all queries wait"
            logger_of(found.plugin).warning(message, self._limit, found.where)
        while not self._alive.wait(self._limit):
            if self._end.is_set() or self._loop.is_closed():
                return
        seconds = time.monotonic() - asked
        BLOCKED.labels(found.plugin or SERVER).inc(seconds)
        if may_log:
            message = "the event loop was blocked for at least %.2f s at %s"
            logger_of(found.plugin).warning(message, seconds, found.where)

    def _may_log(self, found: Attribution) -> bool:
        now = time.monotonic()
        key = found.plugin or found.where
        if now - self._logged.get(key, -QUIET) < QUIET or self._end.is_set():
            return False
        self._logged[key] = now
        return True
