"""The supervisor's loop, which starts and replaces workers and keeps the sockets."""

from __future__ import annotations

import os
import selectors
import signal
import socket
import time
from functools import partial
from typing import TYPE_CHECKING

from corepy.net.descriptors import raise_descriptor_limit
from corepy.net.inherited import ALIVE
from corepy.supervise.adoption import command_of, runs
from corepy.supervise.journal import PATIENCE, Journal
from corepy.supervise.monitor import STOP_TIMEOUT, WorkerMonitor
from corepy.supervise.orphans import Orphans
from corepy.supervise.probe import Probe
from corepy.supervise.relay import Relay
from corepy.supervise.restarts import SHORT_LIFE, Restarts
from corepy.supervise.signals import install_handlers
from corepy.supervise.spawn import spawn
from corepy.supervise.store import Store
from corepy.supervise.worker import Worker, Workers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_TURN = 0.1
"""Seconds that a turn of the loop waits for events."""

_ALIVE = ALIVE.partition("=")[0]


class Supervisor:
    """Keeps a worker running and replaces it; `run` returns the exit code of the command."""

    def __init__(
        self,
        flags: Sequence[str],
        fallback: tuple[str, int] | None,
        *,
        identity: str,
        json: bool = False,
    ) -> None:
        """Run workers with the command line `flags`; relay to `fallback` when none starts.

        `identity` distinguishes supervisors of different servers: a supervisor adopts the workers
        of a killed one with the same identity. With `json` log lines are JSON objects.
        """
        self._journal = Journal(json=json)
        self._log = self._journal.log
        self._flags = list(flags)
        self._selector = selectors.DefaultSelector()
        self._store = Store(self._forget, identity)
        self._probe = Probe(self._selector)
        self._relay = Relay(self._selector, fallback) if fallback else None
        self._orphans = Orphans(self._selector, self._store, self._log, self._on_orphans_end)
        self._workers = Workers(lambda: self._orphans.left)
        self._monitor = WorkerMonitor(
            self._workers, self._probe, self._store, self._log, self._prepare_standby
        )
        self._restarts = Restarts()
        self._reload_later = self._upgrade_later = False
        self._was_ready = False
        self._exit_code: int | None = None

    def run(self) -> int:
        """Keep workers running until a signal stops the supervisor."""
        self._journal.take_over_streams()
        raise_descriptor_limit()  # it holds the sockets of all its workers
        self._listen_to_signals()
        self._selector.register(
            self._store.inbox, selectors.EVENT_READ, lambda *_: self._read_notifications()
        )
        self._contained(self._find_orphans)
        steps = (
            self._start_worker_if_due,
            self._serve_events,
            self._reap,
            self._look_after_if_due,
        )
        while self._exit_code is None:
            outcomes = [self._contained(step) for step in steps]
            if not all(outcomes):
                time.sleep(_TURN)  # the step may fail again at once
            self._journal.flush()
        self._store.close()
        self._journal.flush(PATIENCE)
        return self._exit_code

    def _contained(self, step: Callable[[], object]) -> bool:
        """Run a step and log its exceptions, which must not end the supervisor.

        Returns whether it succeeded.
        """
        try:
            step()
        except Exception as error:
            self._log("ERROR", f"{type(error).__name__}: {error}")
            return False
        return True

    def _serve_events(self) -> None:
        for key, events in self._selector.select(_TURN):
            if self._selector.get_map().get(key.fd) is not key:
                continue  # an earlier event of this turn has closed it
            self._contained(partial(key.data, key.fileobj, events))

    def _listen_to_signals(self) -> None:
        actions: dict[int, Callable[[], None]] = {
            signal.SIGTERM: self._stop,
            signal.SIGINT: self._stop,
            signal.SIGUSR1: self._reload,
            signal.SIGUSR2: self._upgrade,
            signal.SIGHUP: self._upgrade,
        }
        self._wakeup = install_handlers(self._selector, actions)

    # Workers of a killed supervisor

    def _find_orphans(self) -> None:
        self._orphans.find()
        if self._orphans.left:
            self._restarts.cancel()
            self._ask_orphan()

    def _ask_orphan(self) -> None:
        """Request the sockets of the newest orphan, which then becomes an ordinary worker."""
        worker = self._workers.next = self._orphans.left.pop()
        worker.started = time.monotonic()
        self._log("INFO", f"worker {worker.pid} has no supervisor: adopting it")
        worker.signal(signal.SIGURG)

    def _settle_adoption(self, worker: Worker) -> None:
        """Stop all other orphans; replace an adopted worker with another command line."""
        for orphan in self._orphans.left:
            self._workers.retire(orphan)
        self._orphans.left = []
        if worker.is_adopted and not runs(worker.pid, command_of(self._flags)):
            self._upgrade()

    # Starting and stopping

    def _start_worker_if_due(self) -> None:
        current = self._workers.current
        if current is not None and current.is_reloading:
            return  # the new worker would miss sockets that the reload opens or closes
        if self._restarts.is_due:
            self._restarts.cancel()
            names = list(self._store.sockets)
            try:
                store = self._store
                pid = spawn(self._flags, store.descriptors, store.path, outlives=store.is_lasting)
            except OSError as error:  # process limit or memory exhausted
                self._start_later(f"cannot start a worker: {error.strerror}", 1.0)
                return
            self._upgrade_later = False
            self._workers.next = Worker(pid, names)
            self._workers.next.is_standby = self._restarts.take_standby()

    def _start_later(self, problem: str, weight: float) -> None:
        """Plan another start after a failure of the given `weight`.

        If failures continue, the fallback answers meanwhile.
        """
        delay = self._restarts.count_failure(weight)
        if self._restarts.keep_failing:
            self._store.forget_state()  # it may be the cause
        if self._workers.next is None:
            self._log("ERROR", f"{problem}; starting another in {delay:g} s")
            self._restarts.plan(delay)
        else:
            self._log("ERROR", f"{problem}; worker {self._workers.next.pid} is starting")
        self._relay_if_needed()

    def _prepare_standby(self, worker: Worker) -> None:
        """Start a worker beside one that may hang, so that a replacement takes less time."""
        if self._is_starting() or worker.is_reloading or self._workers.stop_deadline:
            return
        if self._restarts.plan_standby():
            self._log("WARNING", f"worker {worker.pid} does not respond: starting another")

    def _is_starting(self) -> bool:
        """Return whether a worker is starting or planned."""
        return self._workers.next is not None or self._restarts.is_planned

    def _upgrade(self) -> None:
        """Start a worker from the code on disk; it takes over once it answers.

        If another worker is starting or being adopted, the upgrade follows afterwards: that worker
        may have read the previous code or Corefile.
        """
        following = self._workers.next
        if self._workers.stop_deadline:
            return
        self._upgrade_later = following is not None
        if following is None:
            self._log("INFO", "starting a new worker to take over")
            self._restarts.take_standby()
            self._restarts.plan()
        else:
            self._log("INFO", f"upgrading once worker {following.pid} has started")

    def _stop(self) -> None:
        again = bool(self._workers.stop_deadline)
        if not again:
            self._workers.stop_deadline = time.monotonic() + STOP_TIMEOUT
            self._restarts.cancel()
            if self._relay:
                self._relay.stop()
            self._probe.stop()
        for worker in self._workers.every():
            # SIGINT: a final stop, which empties the sockets' queues. A leaving worker is stopping
            # already, and a second signal would make it exit at once.
            if again or not worker.stopping:
                serves = worker.ready or worker.is_adopted
                worker.signal(signal.SIGINT if serves else signal.SIGTERM)
        if not self._workers.every():
            self._exit_code = 0

    def _reload(self) -> None:
        """Forward a reload to the current worker, or later to the one that is starting.

        If the old worker released a socket now, the socket would receive nothing in the new one
        either.
        """
        self._reload_later = self._is_starting()
        if self._workers.current is not None and not self._reload_later:
            self._workers.current.expect_reload()
            self._workers.current.signal(signal.SIGUSR1)

    def _begin_anew(self, worker: Worker) -> None:
        """Stop the new worker, because the current one reloads, and restart the upgrade afterwards.

        A standby is not restarted: a worker that reloads does not hang.
        """
        if worker.is_standby:
            self._log("INFO", f"the Corefile changed: worker {worker.pid} is not needed")
        else:
            self._log("INFO", f"the Corefile changed: replacing worker {worker.pid}")
            self._restarts.plan()
        self._dismiss(worker)

    def _catch_up(self) -> None:
        """Carry out the requests that arrived while a worker was starting."""
        if self._reload_later:
            self._reload()
        if self._upgrade_later:
            self._upgrade()

    # Notifications of workers

    def _read_notifications(self) -> None:
        for pid, fields in self._store.receive(self._workers.accepts_from):
            current, following = self._workers.current, self._workers.next
            if current is not None and pid == current.pid:
                current.note(fields)
                if "FDSTOREREMOVE" in fields:  # only the current worker removes sockets
                    self._store.remove(fields.get("FDNAME", ""))
                if _ALIVE in fields or "STOPPING" in fields:
                    self._probe.record_alive(last="STOPPING" in fields)
                is_stopping = bool(self._workers.stop_deadline)
                if following is not None and current.is_reloading and not is_stopping:
                    self._begin_anew(following)
            elif following is not None and pid == following.pid:
                following.note(fields)
                if fields.get("READY") == "1":
                    self._on_ready(following)

    def _on_ready(self, worker: Worker) -> None:
        """Make `worker`, which answers now, take over.

        A standby is dismissed instead if the current worker has recovered.
        """
        current = self._workers.current
        if worker.is_adopted and not worker.ready:
            # It may have been starting when it was asked, and have reported the changes by itself.
            worker.ready = True
            worker.signal(signal.SIGURG)
            return
        if worker.is_standby and current is not None:
            if not self._monitor.hangs(current):
                self._log(
                    "INFO", f"worker {current.pid} responds again, {worker.pid} is not needed"
                )
                self._dismiss(worker)
                return
            current.was_hung = True
        self._take_over(worker)

    def _dismiss(self, worker: Worker) -> None:
        """Stop a worker that was started beside the current one."""
        self._workers.next = None
        self._workers.retire(worker)
        self._keep_only_sockets_in_use()
        self._catch_up()

    def _keep_only_sockets_in_use(self) -> None:
        """Close the sockets that were opened by another worker than the current one.

        The current worker does not read them, and the kernel would still distribute queries to
        them.
        """
        if self._workers.current is not None:
            self._store.keep_only(self._workers.current.sockets)

    def _take_over(self, worker: Worker) -> None:
        """Make `worker`, which answers now, the current one, and let the old one finish."""
        worker.ready = self._was_ready = True
        worker.started = time.monotonic()
        if self._relay and self._relay.is_on:
            self._relay.stop()
            self._log("INFO", "a worker answers again: the fallback is stopped")
        old, self._workers.current, self._workers.next = self._workers.current, worker, None
        if old is None:
            self._log("INFO", f"worker {worker.pid} serves")
        else:
            self._log("INFO", f"worker {worker.pid} serves, stopping {old.pid}")
            self._workers.retire(old)
        self._keep_only_sockets_in_use()
        self._probe.reset(self._store.plain, worker.pid)
        self._settle_adoption(worker)
        self._catch_up()

    def _on_orphans_end(self, worker: Worker) -> None:
        self._read_notifications()  # its last notifications
        self._on_exit(worker.pid, None)

    def _forget(self, sock: socket.socket) -> None:
        if self._relay:
            self._relay.forget(sock)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
            except ChildProcessError:
                return
            if not pid:
                return
            if os.WIFSTOPPED(status):
                if self._workers.current is not None and pid == self._workers.current.pid:
                    self._prepare_standby(self._workers.current)
                continue
            self._read_notifications()  # its last notifications
            self._on_exit(pid, os.waitstatus_to_exitcode(status))

    def _on_exit(self, pid: int, code: int | None) -> None:
        """Handle the exit of a worker; the `code` of an adopted one is unknown."""
        how = "by itself" if code is None else f"with exit code {code}"
        if code is not None and code < 0:
            how = f"by signal {-code}"
        if self._workers.leaving.pop(pid, None) is None:
            self._on_loss(pid, code, how)
        if self._workers.stop_deadline and not self._workers.every():
            self._exit_code = 0

    def _on_loss(self, pid: int, code: int | None, how: str) -> None:
        """Replace a worker that exited without being stopped."""
        current, following = self._workers.current, self._workers.next
        if current is not None and pid == current.pid:
            self._workers.current = None
            self._probe.stop()
            lost = current
        elif following is not None and pid == following.pid:
            self._workers.next = None
            lost = following
        else:
            return
        if self._workers.stop_deadline:
            return
        if self._orphans.left and self._workers.next is None:
            self._ask_orphan()
            return
        if code is not None and code > 0 and not self._was_ready:
            # The configuration or the host is at fault: pass the exit code on to the caller.
            self._exit_code = code
            return
        if lost.ready:
            self._restarts.forgive(time.monotonic() - lost.started)
        if lost is following and self._workers.current is not None:
            self._log("ERROR", f"the new worker ended {how}; the old one stays in use")
            self._keep_only_sockets_in_use()
            self._catch_up()
            return
        self._start_later(f"worker {pid} ended {how}", SHORT_LIFE if lost.ready else 1.0)

    def _relay_if_needed(self) -> None:
        relay = self._relay
        is_needed = self._restarts.keep_failing and self._workers.current is None
        if relay and not relay.is_on and is_needed:
            self._log("ERROR", "no worker can be started: the fallback answers")
            relay.start(self._store.plain.values())

    def _look_after_if_due(self) -> None:
        if self._monitor.is_due:
            self._monitor.look_after()
            if self._relay:
                self._relay.expire()
