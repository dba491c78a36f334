"""The state of workers as seen by the supervisor."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGKILL)

RELOAD_TIMEOUT = 60.0
"""Seconds that an upgrade waits for the end of a reload, if it is never reported."""


class Worker:
    """A worker process: a child of this supervisor, or an adopted one."""

    def __init__(self, pid: int, sockets: Iterable[str] = (), *, is_adopted: bool = False) -> None:
        self.pid = pid
        self.is_adopted = is_adopted
        """Whether a supervisor that was killed had started it."""
        self.sockets = set(sockets)
        """Names of the sockets that it inherited or handed over to be kept."""
        self.started = time.monotonic()
        """When its current phase began: starting, serving or stopping."""
        self.ready = False
        self.stopping = False
        self.is_standby = False
        """Whether it was started because the current worker may hang, but may also recover."""
        self.was_hung = False
        """Whether it was replaced because it showed no sign of life."""
        self.halted = 0
        """Rounds of `WorkerMonitor` in which it was found stopped by a signal, while starting or
        leaving.
        """

        self._reloads = 0
        self._expected = False
        self._reloading_since = 0.0

    def signal(self, number: int) -> None:
        """Send a signal to the process; a signal that ends it sets `stopping`."""
        self.stopping = self.stopping or number in _ENDING
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    @property
    def is_reloading(self) -> bool:
        """Whether a reload, which may change its sockets, is running or expected."""
        recent = time.monotonic() - self._reloading_since < RELOAD_TIMEOUT
        return recent and (self._reloads > 0 or self._expected)

    def expect_reload(self) -> None:
        """Record that a reload was requested."""
        self._expected, self._reloading_since = True, time.monotonic()

    def note(self, told: Mapping[str, str]) -> None:
        """Record a notification: sockets kept or released, and the start and end of reloads.

        Several reloads may be queued.
        """
        if "FDNAME" in told:
            (self.sockets.add if "FDSTORE" in told else self.sockets.discard)(told["FDNAME"])
        if told.get("RELOADING") == "1":
            self._reloads += 1
            self._expected, self._reloading_since = False, time.monotonic()
        elif told.get("READY") == "1":
            self._reloads = max(self._reloads - 1, 0)


class Workers:
    """The workers of one supervisor by role."""

    def __init__(self, orphans: Callable[[], Sequence[Worker]]) -> None:
        """`orphans` returns the workers left by a killed supervisor that are not adopted yet."""
        self.current: Worker | None = None
        """The worker that serves."""
        self.next: Worker | None = None
        """The worker that is starting or being adopted."""
        self.leaving: dict[int, Worker] = {}
        """The workers that were told to stop, by process ID."""
        self.stop_deadline = 0.0
        """Monotonic time by which all must have exited; 0 unless the supervisor stops."""
        self._orphans = orphans

    def every(self) -> list[Worker]:
        """Return all workers."""
        workers = self.current, self.next, *self._orphans(), *self.leaving.values()
        return [worker for worker in workers if worker is not None]

    def accepts_from(self, pid: int) -> bool:
        """Return whether notifications of this process are accepted.

        A departing worker may not change the kept sockets.
        """
        return any(it is not None and it.pid == pid for it in (self.current, self.next))

    def retire(self, worker: Worker) -> None:
        """Stop a worker; queries in the sockets' queues are left to another one."""
        self.leaving[worker.pid] = worker
        worker.started = time.monotonic()
        worker.signal(signal.SIGTERM)
