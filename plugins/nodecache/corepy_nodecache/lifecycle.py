"""The lifecycle hooks of nodecache: which changes of the host happen at which stage.

Addresses are added before the sockets bind to them. Rules are added once queries are answered, so a
configuration that cannot serve never captures traffic (kubernetes/dns 377). On shutdown rules are
removed before the sockets drain, and addresses last.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from corepy.plugin import LifecycleContext, StartupError, hookimpl, plugin_logger
from corepy_nodecache import metrics, preflight
from corepy_nodecache.detect import choose
from corepy_nodecache.model import DesiredState, HostError
from corepy_nodecache.reconciler import Reconciler

if TYPE_CHECKING:
    from corepy_nodecache.host import Report
    from corepy_nodecache.settings import Settings

log = plugin_logger("nodecache")


class _Process:
    """The state that all server blocks and generations of this process share."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.reconciler: Reconciler | None = None
        self.warned: set[str] = set()
        self.starting: set[Nodecache] = set()
        """Owners that have joined but do not serve yet."""
        self.may_sweep = True
        """Whether to remove objects of earlier processes; false once an owner uses skipteardown."""

    async def join(self, owner: Nodecache, settings: Settings) -> Reconciler:
        """Check the host and return the reconciler, created if necessary; raises `HostError`."""
        async with self.lock:
            reconciler = self.reconciler = self.reconciler or Reconciler()
            try:
                warnings = await self._check(reconciler, settings)
            except HostError as error:
                if not settings.best_effort:
                    raise
                warnings = await self._go_on(reconciler, settings, error)
        for line in set(warnings) - self.warned:
            log.warning("%s", line)
        self.warned.update(warnings)
        self.starting.add(owner)
        self.may_sweep &= not settings.skip_teardown
        return reconciler

    async def _check(self, reconciler: Reconciler, settings: Settings) -> list[str]:
        """Check the host, selecting the tables for the first owner with rules; returns warnings."""
        mode, tables = settings.iptables, reconciler.tables
        if mode == "off":
            return await reconciler.host_thread.run(lambda: preflight.check(settings, tables))
        if tables is None:
            chosen, warnings = await reconciler.host_thread.run(
                lambda: preflight.choose_tables(settings)
            )
            reconciler.use(chosen)
            log.info("using %s iptables", chosen.name)
            return warnings
        if mode not in ("auto", tables.name):
            message = (
                f"iptables {mode} contradicts {tables.name}, which is in use:"
                " all server blocks need the same kind, and a change needs a restart"
            )
            raise HostError("iptables", message)
        return await reconciler.host_thread.run(lambda: preflight.check(settings, tables))

    @staticmethod
    async def _go_on(reconciler: Reconciler, settings: Settings, error: HostError) -> list[str]:
        """Count a failed check, and select the tables for the attempts that follow."""
        metrics.setup_errors.labels(error.kind).inc()
        if settings.iptables != "off" and reconciler.tables is None:
            mode = settings.iptables
            reconciler.use(await reconciler.host_thread.run(lambda: choose(mode)))
        return [f"{error}; serving without (best_effort)"]

    async def remove_everything(self) -> None:
        """Remove what all owners want from the host; the process is about to exit."""
        if self.reconciler is not None:
            _log_changes(await self.reconciler.remove_everything())

    async def leave(self, owner: Nodecache, keep: bool) -> None:
        """Remove `owner`; closes the reconciler after the last one."""
        self.starting.discard(owner)
        reconciler = self.reconciler
        if reconciler:
            _log_changes(await reconciler.leave(owner, keep))
            if not reconciler.owners:
                self.reconciler, self.may_sweep = None, True
                await reconciler.close()


def _log_changes(report: Report | None) -> None:
    for line in report.done if report and not report.repaired else ():
        log.info("%s", line)


class Nodecache:
    """One `nodecache` directive of one generation; owns a part of the desired state of the host."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._added = False
        self._served = False

    @hookimpl
    async def before_listen(self, context: LifecycleContext) -> None:
        """Check the host and add the addresses to the interface."""
        settings = self._settings
        try:
            reconciler = await _process.join(self, settings)
        except HostError as error:
            raise StartupError(str(error)) from error
        want, interval = DesiredState(settings.addresses()), settings.interval
        # A later plugin may fail to bind to a missing address: log the cause before that.
        quiet = not settings.best_effort
        report = await reconciler.set_desired(self, want, interval, quiet=quiet)
        self._added = report.added
        failures = [str(it) for it in report.errors if it.kind.startswith("interface")]
        if failures and not settings.best_effort:
            raise StartupError("; ".join(failures))
        _log_changes(report)

    @hookimpl
    async def serving(self, context: LifecycleContext) -> None:
        """Add the rules; after a failure the reconciler retries in the background."""
        self._served = True
        _process.starting.discard(self)
        sweep = _process.may_sweep and not _process.starting
        report = await self._set_desired(self._settings.want(), sweep)
        if sweep and report and not report.errors:
            _process.may_sweep = False

    @hookimpl
    def status(self) -> dict[str, Any] | None:
        """Return the state of the host, which is that of all server blocks, for an operator."""
        reconciler = _process.reconciler
        is_first = reconciler is not None and reconciler.is_first(self)
        return reconciler.status() if reconciler is not None and is_first else None

    @hookimpl
    async def stopping(self, context: LifecycleContext) -> None:
        """Remove the rules, unless a later generation or another process wants them."""
        if not self._keeps(context):
            settings = self._settings
            want = DesiredState(settings.addresses(), adopted=settings.adopted())
            await self._set_desired(want)

    @hookimpl
    async def shutdown(self, context: LifecycleContext) -> None:
        """Remove the addresses and the interface; the last owner closes the reconciler."""
        await _process.leave(self, keep=self._keeps(context))

    async def _set_desired(self, want: DesiredState, sweep: bool = False) -> Report | None:
        if _process.reconciler is None:
            return None
        interval = self._settings.interval
        report = await _process.reconciler.set_desired(self, want, interval, sweep)
        _log_changes(report)
        return report

    def _keeps(self, context: LifecycleContext) -> bool:
        # A failed start always removes its own additions.
        return context.final and self._settings.skip_teardown and (self._served or not self._added)


_process = _Process()


async def remove_everything() -> None:
    """Remove this process's rules, addresses and interface at once; nothing adds them again."""
    await _process.remove_everything()
