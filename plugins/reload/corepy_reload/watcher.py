"""Detect configuration changes and request reloads: one watcher per server.

The watcher outlives generations: the task that requests a reload must not end with the generation
that it replaces. Rules:

* It compares the running configuration with the files, never two successive reads of the files.
* A failed reload changes nothing. The same content is retried at growing intervals, because the
  cause may disappear (a port in use), unless the mistake is in the content itself.
* A file that may be half written causes no message: it is read a second time first.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from corepy.plugin import plugin_logger
from corepy_reload import metrics
from corepy_reload.folders import folders_of
from corepy_reload.inotify import Inotify

if TYPE_CHECKING:
    from corepy.plugin import LifecycleContext
    from corepy_reload.configuration import Configuration, Snapshot

SETTLE = 0.2
"""Seconds from the first notification of a change until the files are read."""

PAUSE = 1.0
"""Minimum seconds between two reads of the files, including the second read of a broken file."""

FIRST_RETRY = 5.0
LAST_RETRY = 300.0
"""Seconds until a failed reload is retried: the first delay, doubled up to the last."""

REASON = "A configuration file changed"

log = plugin_logger("reload")


class Owner(Protocol):
    """A *reload* directive of one generation; see `reload.Reload`."""

    period: float
    """Seconds between two checks."""


@dataclass(slots=True)
class WatchedGeneration:
    """A generation whose configuration contains *reload*."""

    context: LifecycleContext
    configuration: Configuration
    started: Snapshot
    owners: set[Owner] = field(default_factory=set)
    serves: bool = False
    since: float = field(default_factory=time.time)  # time of day: for a gauge

    @property
    def period(self) -> float:
        """Seconds between checks: the shortest period of all blocks."""
        return min(owner.period for owner in self.owners)


class Watcher:
    """Watches the files of the running generation and requests reloads."""

    def __init__(self) -> None:
        self._entries: dict[object, WatchedGeneration] = {}  # by plugin manager, the newest last
        self._shown: WatchedGeneration | None = None
        self._task: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._inotify = Inotify(self._news.set)
        self._inotify_failed = False
        self._looked = 0.0
        self._broken_digest = ""  # digest of a broken configuration at the last read
        self._tried = ""  # digest of the last attempt, if it failed
        self._failures = 0
        self._retry_at = 0.0

    # -- generations come and go

    async def prepare(self, owner: Owner, context: LifecycleContext, conf: Configuration) -> None:
        """Add a generation that is about to start."""
        entry = self._entries.get(context.plugins)
        if entry is None:
            entry = WatchedGeneration(context, conf, await asyncio.to_thread(conf.started))
            self._entries[context.plugins] = entry
        entry.owners.add(owner)

    async def serve(self, owner: Owner, context: LifecycleContext) -> None:
        """Record that a prepared generation is running."""
        entry = self._entries[context.plugins]
        if not entry.serves:
            entry.serves = True
            await self._watch(entry.started)
            self._show()
        if self._task is None or self._task.done():
            self._news.set()  # check for changes since the start began
            self._task = asyncio.create_task(self._run(), name="corepy-reload")

    def leave(self, owner: Owner, context: LifecycleContext) -> None:
        """Remove a generation; the one before it continues unless it was replaced."""
        entry = self._entries.get(context.plugins)
        if entry is None:
            return
        entry.owners.discard(owner)
        if not entry.owners:
            del self._entries[context.plugins]
            self._show()
        if not self._entries:
            self.stop_checking()
            _watchers.pop(asyncio.get_running_loop(), None)

    def stop_checking(self) -> None:
        """Stop checking."""
        self._inotify.close()
        # If this task itself requested the reload, it ends afterwards on its own.
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()

    @property
    def _running(self) -> WatchedGeneration | None:
        serving = [entry for entry in self._entries.values() if entry.serves]
        return serving[-1] if serving else None

    def _show(self) -> None:
        """Publish the running configuration in log and metrics."""
        before, entry = self._shown, self._running
        if entry is before:
            return
        self._shown = entry
        if before is not None:
            metrics.VERSION.remove("sha512", before.started.digest)
        if entry is None:
            return
        digest = entry.started.digest
        metrics.VERSION.labels("sha512", digest).set(1)
        metrics.CONFIG_HASH.set(int(digest[:12], 16))
        metrics.SUCCESS_TIME.set(entry.since)
        metrics.SUCCESSFUL.set(digest != self._tried)
        log.info("Running configuration SHA512 = %s", digest)

    # -- checking

    async def _run(self) -> None:
        while self._entries:
            await self._wait()
            try:
                await self._check()
            except Exception:
                log.exception("checking for changes failed")

    async def _wait(self) -> None:
        """Wait for a notification, or until the next check is due."""
        entry = self._running
        delay = entry.period if entry else PAUSE
        if self._broken_digest:
            delay = PAUSE
        elif self._failures:
            delay = min(delay, max(PAUSE, self._retry_at - time.monotonic()))
        try:
            async with asyncio.timeout(delay):
                await self._news.wait()
        except TimeoutError:
            return
        await asyncio.sleep(max(SETTLE, self._looked + PAUSE - time.monotonic()))
        self._news.clear()

    async def _check(self) -> None:
        entry = self._running
        if entry is None:
            return
        self._looked = time.monotonic()
        found = await asyncio.to_thread(entry.configuration.now)
        if entry is not self._running:
            return
        if await self._watch(found):
            self._news.set()  # it may have changed before the watch began
            if found.problem:
                return
        await self._load_if_changed(entry, found)

    async def _watch(self, found: Snapshot) -> bool:
        """Watch the folders of a snapshot; returns whether the folders differ from before."""
        folders = await asyncio.to_thread(folders_of, found.files)
        try:
            changed = self._inotify.watch(folders)
        except OSError as error:
            if not self._inotify_failed:
                log.warning("inotify: %s; changes are detected at the interval", error.strerror)
            self._inotify_failed = True
            return False
        self._inotify_failed = False
        return changed

    async def _load_if_changed(self, entry: WatchedGeneration, found: Snapshot) -> None:
        """Load a snapshot if it differs from the running configuration."""
        broken_digest, self._broken_digest = self._broken_digest, ""
        if found.digest == entry.started.digest:
            if self._failures:
                log.info("The files match the running configuration again")
                self._succeeded()
        elif found.digest == self._tried:
            if not found.problem and time.monotonic() >= self._retry_at:
                await self._load(entry, found)
        elif found.problem and found.digest != broken_digest:
            self._broken_digest = found.digest
        else:
            self._failures = 0
            await self._load(entry, found)

    async def _load(self, entry: WatchedGeneration, found: Snapshot) -> None:
        # An empty file could be loaded, but the server would answer nothing.
        if found.is_empty:
            log.error("%s: %s", REASON, found.problem)
        elif await entry.context.reload(REASON):
            self._succeeded()
            return
        self._failed(found)

    def _succeeded(self) -> None:
        self._tried, self._failures = "", 0
        metrics.SUCCESSFUL.set(1)

    def _failed(self, found: Snapshot) -> None:
        metrics.FAILED.inc()
        metrics.SUCCESSFUL.set(0)
        self._tried = found.digest
        delay = min(FIRST_RETRY * 2 ** min(self._failures, 16), LAST_RETRY)
        self._retry_at = time.monotonic() + delay
        self._failures += 1
        when = "when a file changes" if found.problem else f"in {delay:g}s, or when a file changes"
        log.error("Corefile changed but reload failed; the next attempt is %s", when)


_watchers: dict[asyncio.AbstractEventLoop, Watcher] = {}


def watcher() -> Watcher:
    """Return the watcher of the running event loop, which runs one server."""
    loop = asyncio.get_running_loop()
    found = _watchers.get(loop)
    if found is None:
        found = _watchers[loop] = Watcher()
    return found
