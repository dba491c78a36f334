"""Keep the host in the desired state for the lifetime of the process.

Each process has one reconciler, which holds the desired states of all owners. An owner is one
server block of one generation. The host must match their union, so a reload, whose new generation
joins before the old one leaves, does not touch anything that both want. Every change of a desired
state causes one pass over the host. A background task starts further passes after a change
notification from the kernel, at each polling interval, and after a failure.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any, Final

from corepy.plugin import plugin_logger
from corepy_nodecache import metrics
from corepy_nodecache.detect import tables_of
from corepy_nodecache.host import Host, Report
from corepy_nodecache.host_thread import HostThread
from corepy_nodecache.model import DesiredState
from corepy_nodecache.settings import union
from corepy_nodecache.watch import LegacyFingerprint, Watch

if TYPE_CHECKING:
    from corepy_nodecache.tables import RuleTables

_SETTLE: Final = 0.05  # seconds; combines a program's flush and refill into one event
_MIN_GAP: Final = 0.5  # seconds between passes that kernel notifications trigger
_FRESH: Final = 0.5  # seconds after a pass in which an equal desired state needs no other pass
_LEGACY_TICK: Final = 0.5  # seconds between reads of the sizes of legacy tables
_FIRST_RETRY: Final = 0.5
_LAST_RETRY: Final = 10.0
_LOCK_RETRY: Final = 1.0  # the release of the lock causes no notification
_LAST_TRIES: Final = 8.0  # seconds that a stopping process waits for the lock

log = plugin_logger("nodecache")


class Reconciler:
    """Owns the desired states and the background task; bound to the event loop that created it."""

    def __init__(self) -> None:
        self.host_thread = HostThread()
        self._host = Host()
        self._desired: dict[object, DesiredState] = {}
        self._kept: list[DesiredState] = []
        self._intervals: dict[object, float] = {}
        self._fingerprint: LegacyFingerprint | None = None
        self._sizes: tuple[bytes, ...] = ()
        self._changed = asyncio.Event()
        self._watch = Watch(asyncio.get_running_loop(), self._changed.set)
        self._asked = DesiredState()
        self._whole = DesiredState()
        """The desired state of the last pass without an error; used by the worker's thread."""
        self._is_sweep_due = False
        """Whether the last sweep had an error; retries sweep until the next desired state."""
        self._is_locked_out = False
        self._is_quiet = False
        self._running = 0
        self._problem = ""
        self._retry_delay = _FIRST_RETRY
        self._last_pass = time.monotonic()
        self._due = float("inf")
        self._task = asyncio.create_task(self._maintain())

    @property
    def tables(self) -> RuleTables | None:
        """The iptables back end; None as long as no owner has rules."""
        return self._host.tables

    def use(self, tables: RuleTables) -> None:
        """Write rules to `tables` and watch them for changes by others; call at most once."""
        self._host.tables = tables
        self._host.other_tables = tables_of("nft" if tables.name == "legacy" else "legacy")
        if tables.name == "legacy":
            self._fingerprint = LegacyFingerprint()
        else:
            self._watch.add_nftables()

    @property
    def owners(self) -> int:
        """The number of owners with a desired state."""
        return len(self._desired)

    def is_first(self, owner: object) -> bool:
        """Return whether `owner` is the first one with a desired state."""
        return next(iter(self._desired), None) is owner

    def status(self) -> dict[str, Any]:
        """Return the state of the host; see `corepy.plugin.HookSpecs.status`."""
        return {
            "state": "degraded" if metrics.degraded.value else "in place",
            "problems": [self._problem] if self._problem else [],
            "iptables": self.tables.name if self.tables else "off",
            "addresses": int(metrics.addresses.value),
            "rules": int(metrics.rules.value),
            "repairs": int(metrics.repairs.value),
            "last_check": time.monotonic() - self._last_pass,
        }

    async def set_desired(
        self,
        owner: object,
        want: DesiredState,
        interval: float,
        sweep: bool = False,
        quiet: bool = False,
    ) -> Report:
        """Set the desired state of `owner` and bring the host into the union of all of them.

        `interval` is the owner's polling interval in seconds, 0 for none. For `sweep` see
        `Host.sync`. If `quiet`, the caller logs failures, until the next call.
        """
        self._is_quiet = quiet
        self._is_sweep_due = False
        self._desired[owner] = want
        self._intervals[owner] = interval
        if self._is_fresh(sweep):
            return Report.nothing(self._want())
        return await self._sync(sweep)

    async def leave(self, owner: object, keep: bool = False) -> Report | None:
        """Remove `owner` and everything that only it wants; `keep` leaves all on the host."""
        self._is_quiet = False
        desired = self._desired.pop(owner, None)
        self._intervals.pop(owner, None)
        if not self._desired:
            self._problem = ""  # a failed start ends here: the host never matched
        if desired and keep:
            self._kept.append(desired)
        return await self._sync() if desired and not keep and not self._is_fresh() else None

    async def remove_everything(self) -> Report:
        """Remove everything that any owner wants, and ignore the owners from now on."""
        self._desired.clear()
        self._kept.clear()
        return await self._sync()

    async def close(self) -> None:
        """Stop watching; the host does not change."""
        self._task.cancel()
        await asyncio.wait([self._task])
        self._watch.close()
        await self._remove_at_exit()
        if self._problem:
            log.error(
                "could not remove everything; the next start or `corepy nodecache teardown` will"
            )
        await self.host_thread.run(self._close_host)
        self.host_thread.close()

    async def _remove_at_exit(self) -> None:
        """Wait longer than usual for the lock: leftover rules capture traffic without a server."""
        deadline = time.monotonic() + _LAST_TRIES
        while self._is_locked_out and time.monotonic() < deadline:
            await asyncio.sleep(_FIRST_RETRY)
            await self._sync()

    def _close_host(self) -> None:
        self._host.close()
        if self._fingerprint:
            self._fingerprint.close()

    def _want(self) -> DesiredState:
        return union([*self._desired.values(), *self._kept])

    def _is_fresh(self, sweep: bool = False) -> bool:
        """Whether the last pass is recent, complete, and had the current desired state.

        On a reload with ten server blocks, most passes would find nothing to change.
        """
        is_recent = time.monotonic() - self._last_pass < _FRESH
        is_settled = not (sweep or self._running or self._problem)
        return is_recent and is_settled and self._asked == self._want()

    async def _sync(self, sweep: bool = False) -> Report:
        want = self._want()
        self._running += 1
        try:
            report = await self.host_thread.run(lambda: self._pass(want, sweep))
        finally:
            self._running -= 1
        if sweep:
            self._is_sweep_due = bool(report.errors)
        self._asked = want  # set last: if a pass raises, an equal desired state needs another pass
        self._publish(report)
        return report

    def _pass(self, want: DesiredState, sweep: bool) -> Report:
        was_whole = self._whole == want  # otherwise this is the first attempt, or a retry of it
        sizes = self._fingerprint.read() if self._fingerprint else ()
        report = self._host.sync(want, sweep)
        if not report.errors:
            self._whole = want
        # Sizes read after the change might include changes by others. After a change of ours the
        # next tick compares again.
        self._sizes = () if report.done else sizes
        return report._replace(repaired=was_whole and report.added)

    def _publish(self, report: Report) -> None:
        """Count and log the outcome, and schedule the next pass."""
        for error in report.errors:
            metrics.setup_errors.labels(error.kind).inc()
        metrics.rules.set(report.rules)
        metrics.addresses.set(report.addresses)
        metrics.degraded.set(1 if report.errors else 0)
        if report.repaired:
            metrics.repairs.inc()
            log.warning("repaired changes made by others: %s", ", ".join(report.done))
        if not self._is_quiet:
            self._log_state("; ".join(str(error) for error in report.errors))
        self._is_locked_out = any(error.kind == "iptables_lock" for error in report.errors)
        self._last_pass = time.monotonic()
        self._due = self._last_pass + self._next_delay()

    def _log_state(self, problem: str) -> None:
        """Log the first failure, each different failure, and the recovery."""
        if problem and problem != self._problem:
            log.error("%s (retrying)", problem)
        elif self._problem and not problem:
            log.info("the host matches the configuration again")
        self._problem = problem

    def _next_delay(self) -> float:
        if self._problem or self._is_sweep_due:
            delay, self._retry_delay = self._retry_delay, min(self._retry_delay * 2, _LAST_RETRY)
            return min(delay, _LOCK_RETRY) if self._is_locked_out else delay
        self._retry_delay = _FIRST_RETRY
        return min((it for it in self._intervals.values() if it > 0), default=float("inf"))

    async def _maintain(self) -> None:
        while True:
            await self._wait()
            try:
                if await self._must_look():
                    await self._sync(self._is_sweep_due)
            except Exception:  # a bug here must not stop the background task
                log.exception("checking the host failed")
                self._due = time.monotonic() + _LAST_RETRY
                await asyncio.sleep(_MIN_GAP)

    async def _wait(self) -> None:
        """Sleep until the kernel announces a change or the next check is due."""
        delay = self._due - time.monotonic()
        if self._fingerprint:
            delay = min(delay, _LEGACY_TICK)
        timeout = None if delay == float("inf") else max(delay, 0)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._changed.wait()

    async def _must_look(self) -> bool:
        now = time.monotonic()
        if self._changed.is_set():
            await asyncio.sleep(max(_SETTLE, self._last_pass + _MIN_GAP - now))
            self._changed.clear()
            return True
        if now >= self._due:
            return True
        if self._fingerprint is None:
            return False
        return await self.host_thread.run(self._fingerprint.read) != self._sizes
