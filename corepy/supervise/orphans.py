"""Finds the workers left by a killed supervisor, and watches them until they exit."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
from typing import TYPE_CHECKING

from corepy.supervise.adoption import workers_of
from corepy.supervise.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from corepy.supervise.store import Store


class Orphans:
    """Workers that are not children of this process, so that SIGCHLD does not report their exit."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        store: Store,
        log: Callable[[str, str], None],
        on_end: Callable[[Worker], None],
    ) -> None:
        """`on_end` is called when a worker has exited, whether adopted or still in `left`."""
        self.left: list[Worker] = []
        """The workers not adopted yet, oldest first."""
        self._selector = selector
        self._store = store
        self._log = log
        self._on_end = on_end

    def find(self) -> None:
        """Find the workers, and watch them by pidfd."""
        pids = workers_of(self._store.path) if self._store.is_lasting else []
        for pid in pids:
            try:
                self._watch(Worker(pid, is_adopted=True), os.pidfd_open(pid))
            except OSError as error:  # it has exited, or the kernel is older than Linux 5.3
                self._log("WARNING", f"cannot adopt worker {pid}, stopping it: {error.strerror}")
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGINT)

    def _watch(self, worker: Worker, pidfd: int) -> None:
        def on_end(*_: object) -> None:
            self._selector.unregister(pidfd)
            os.close(pidfd)
            self.left = [orphan for orphan in self.left if orphan is not worker]
            self._on_end(worker)

        self._selector.register(pidfd, selectors.EVENT_READ, on_end)
        self.left.append(worker)
