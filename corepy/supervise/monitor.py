"""Enforces the deadlines of the workers: to answer, to become ready, and to stop.

A worker that misses its deadline is killed. If a worker may hang, a standby is started first, so
that the interruption is shorter if the worker has to be killed.
"""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

from corepy.net.cpu_starvation import is_stopped
from corepy.supervise.probe import INTERVAL, SILENT_AFTER

if TYPE_CHECKING:
    from collections.abc import Callable

    from corepy.supervise.probe import Probe
    from corepy.supervise.store import Store
    from corepy.supervise.worker import Worker, Workers

READY_TIMEOUT = 30.0
"""Seconds from the start of a worker until it serves."""

ADOPTION_TIMEOUT = 5.0
"""Seconds within which an orphaned worker must hand over its sockets."""

STOP_TIMEOUT = 15.0
"""Seconds that a worker gets to stop."""

HUNG_TIMEOUT = 1.0
"""The same for a worker that showed no sign of life: its TCP clients still wait for it."""


class WorkerMonitor:
    """Probes the current worker, and kills workers that miss their deadlines."""

    def __init__(
        self,
        workers: Workers,
        probe: Probe,
        store: Store,
        log: Callable[[str, str], None],
        prepare_standby: Callable[[Worker], None],
    ) -> None:
        """`prepare_standby` is called with the current worker when it may hang."""
        self._workers = workers
        self._probe = probe
        self._store = store
        self._log = log
        self._prepare_standby = prepare_standby
        self._asked_at = 0.0

    @property
    def is_due(self) -> bool:
        """Whether `INTERVAL` has passed since the last round."""
        return time.monotonic() - self._asked_at >= INTERVAL

    def hangs(self, worker: Worker) -> bool:
        """Return whether the current worker shows no sign of life, or is stopped by a signal."""
        return self._probe.is_suspect() or is_stopped(worker.pid)

    def look_after(self) -> None:
        """Do one round: probe the current worker, and kill workers past their deadline."""
        now = self._asked_at = time.monotonic()
        workers = self._workers
        if workers.stop_deadline and now > workers.stop_deadline:
            for worker in workers.every():
                worker.signal(signal.SIGKILL)
        following = workers.next
        limit = ADOPTION_TIMEOUT if following and following.is_adopted else READY_TIMEOUT
        if following is not None and _is_overdue(following, limit):
            self._log("ERROR", f"worker {following.pid} is not ready in time: killing it")
            following.started = now
            following.signal(signal.SIGKILL)
        for worker in workers.leaving.values():
            if _is_overdue(worker, HUNG_TIMEOUT if worker.was_hung else STOP_TIMEOUT):
                worker.signal(signal.SIGKILL)
        if workers.current is not None and not workers.stop_deadline:
            self._ask(workers.current)

    def _ask(self, worker: Worker) -> None:
        problem = self._probe.find_problem()
        if problem is None:
            if self.hangs(worker):
                self._prepare_standby(worker)
            self._probe.ask(self._store.plain)
            return
        self._log("ERROR", f"worker {worker.pid}: {problem}; killing it")
        self._probe.stop()
        worker.signal(signal.SIGKILL)


def _is_overdue(worker: Worker, limit: float) -> bool:
    """Return whether a starting or stopping worker takes too long, or is stopped by a signal."""
    worker.halted = worker.halted + 1 if is_stopped(worker.pid) else 0
    late = time.monotonic() - worker.started > limit
    return late or worker.halted >= SILENT_AFTER
