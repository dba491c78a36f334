"""The workers, as the supervisor knows them."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from corepy.supervise.orphans import Orphans

_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGKILL)

RELOAD_TIMEOUT = 60.0
"""Seconds that an upgrade waits for the end of a reload, should that never be told."""


class Worker:
    """A child process, or one that was adopted."""

    def __init__(self, pid: int, sockets: Iterable[str] = (), *, is_adopted: bool = False) -> None:
        self.pid = pid
        self.is_adopted = is_adopted
        """Whether it was started by another supervisor, which was killed."""
        self.sockets = set(sockets)
        """Names of those that it was started with, or has given to be kept."""
        self.started = time.monotonic()
        """When its present part began: it was started, began to serve, or was told to go."""
        self.ready = False
        self.stopping = False
        self.is_standby = False
        """Whether it was started because the current one seems to hang, which may recover."""
        self.was_hung = False
        """Whether it was replaced since it gave no sign of life."""
        self.halted = 0
        """Rounds of care in which it was found stopped by a signal, while it starts or leaves."""

        self._reloads = 0
        self._expected = False
        self._reloading_since = 0.0

    def signal(self, number: int) -> None:
        """Send a signal to the process; one that ends it is remembered in `stopping`."""
        self.stopping = self.stopping or number in _ENDING
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    @property
    def is_reloading(self) -> bool:
        """Whether it changes what it serves, and with it its sockets, or is about to."""
        recent = time.monotonic() - self._reloading_since < RELOAD_TIMEOUT
        return recent and (self._reloads > 0 or self._expected)

    def expect_reload(self) -> None:
        """Take note that it was asked to reload."""
        self._expected, self._reloading_since = True, time.monotonic()

    def note(self, told: Mapping[str, str]) -> None:
        """Take note of a notification: which sockets it has, and reloads, of which several may wait
        for each other.
        """
        if "FDNAME" in told:
            (self.sockets.add if "FDSTORE" in told else self.sockets.discard)(told["FDNAME"])
        if told.get("RELOADING") == "1":
            self._reloads += 1
            self._expected, self._reloading_since = False, time.monotonic()
        elif told.get("READY") == "1":
            self._reloads = max(self._reloads - 1, 0)


class Workers:
    """The workers of one supervisor, by their part."""

    def __init__(self, orphans: Orphans) -> None:
        """`orphans` are those that a killed supervisor has left."""
        self.current: Worker | None = None
        """The one that serves."""
        self.next: Worker | None = None
        """The one that starts, or is being adopted."""
        self.leaving: dict[int, Worker] = {}
        """Those that were told to go, by process ID."""
        self.stop_deadline = 0.0
        """Monotonic seconds by which all must have ended; 0 unless the supervisor stops."""
        self._orphans = orphans

    def every(self) -> list[Worker]:
        """Return all of them."""
        workers = self.current, self.next, *self._orphans.left, *self.leaving.values()
        return [worker for worker in workers if worker is not None]

    def are_heard(self, pid: int) -> bool:
        """Return whether a notification of this process counts: one that leaves no longer decides
        what is kept.
        """
        return any(it is not None and it.pid == pid for it in (self.current, self.next))

    def retire(self, worker: Worker) -> None:
        """Tell a worker to go; what lies in the sockets' queues stays there for another."""
        self.leaving[worker.pid] = worker
        worker.started = time.monotonic()
        worker.signal(signal.SIGTERM)
