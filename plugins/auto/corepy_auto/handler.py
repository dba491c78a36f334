"""The handler that answers from the zone files of a folder (CoreDNS: plugin/auto/auto.go)."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, ClassVar, Final

from corepy.dns.names import to_text
from corepy.plugin import LifecycleContext, hookimpl, in_thread, plugin_logger
from corepy.plugin.failures import reported
from corepy.zone import ServedZone, ZoneFile, ZoneHandler, changed_files, forget
from corepy.zone.zone_file import INTERVAL, SHORTEST

if TYPE_CHECKING:
    from corepy.plugin import ZoneMatcher
    from corepy_auto.folder import Folder, FoundFiles

LOG = plugin_logger("auto")

SHARE: Final = 20
"""A walk through the folder may take this part of the time."""


class Auto(ZoneHandler):
    """Answers queries for names in the zones of a folder."""

    name: ClassVar[str] = "auto"

    def __init__(self, folder: Folder, zones: ZoneMatcher, reload: float) -> None:
        """Answer queries in `zones`; check the folder at most every `reload` seconds, 0: never."""
        super().__init__()
        self.folder = folder
        self.reload = reload
        self._only = zones
        self._files: dict[bytes, ZoneFile] = {}
        self._problems: set[str] = set()
        self._task: asyncio.Task[None] | None = None
        self._walked = 0.0

    @property
    def inputs(self) -> bytes | None:
        """A digest of the files; None while the caches may have replies from older ones."""
        parts: list[bytes] = []
        for origin, file in sorted(self._files.items()):
            if file.served.current is not None:
                if not file.settled_digest:
                    return None
                parts += (origin, file.settled_digest)
        return b"".join(parts)

    def zone_of(self, name: bytes) -> ServedZone | None:
        """Return the zone that answers for a name, if the directive is for the name."""
        return None if self._only.find(name) is None else self.zones.find(name)

    def metrics_zone(self, name: bytes) -> str | None:
        """Return the label of a query in metrics (`corepy.plugin.protocols.MetricsZones`)."""
        served = self.zone_of(name)
        return None if served is None else to_text(served.origin)

    @hookimpl
    async def before_listen(self, context: LifecycleContext) -> None:
        """Load all zones; one that is broken is a warning."""
        await self._look(context)

    @hookimpl
    async def rehearse(self, context: LifecycleContext) -> None:
        """Load all zones, to answer a single query."""
        await self._look(context)

    @hookimpl
    def serving(self, context: LifecycleContext) -> None:
        """Start to check for changes."""
        if self.reload:
            self._task = asyncio.create_task(self._watch(context), name="watch zone files")

    @hookimpl
    def shutdown(self, context: LifecycleContext) -> None:
        """Stop checking."""
        if self._task is not None:
            self._task.cancel()

    async def _watch(self, context: LifecycleContext) -> None:
        while True:
            often = max(INTERVAL, self._walked * SHARE)
            await asyncio.sleep(min(max(self.reload, SHORTEST), often))
            with reported(self.name, "the zone files cannot be checked"):
                await self._look(context)

    async def _look(self, context: LifecycleContext) -> None:
        """Load new and changed files, and remove the zones whose files have gone."""
        started = time.monotonic()
        try:
            found: FoundFiles = await in_thread(self.folder.walk)
        except OSError as error:
            self._report({f"cannot read the folder {self.folder.path}: {error.strerror}"})
            return
        self._walked = time.monotonic() - started
        self._report(set(found.problems))
        for origin in [it for it in self._files if it not in found.paths]:
            await self._remove(context, origin)
        for origin, path in found.paths.items():
            if origin not in self._files:
                self._files[origin] = ZoneFile(path, ServedZone(origin), LOG)
            self._files[origin].path = path
        failure: Exception | None = None
        for file in await changed_files(self._files.values()):
            try:
                await self._refresh(context, file)
            except Exception as error:  # the files after it are loaded all the same
                failure = error
        if failure is not None:
            raise failure

    async def _refresh(self, context: LifecycleContext, file: ZoneFile) -> None:
        await file.refresh(context)
        served = file.served
        if served.current is not None and self.zones.get(served.origin) is None:
            self.zones.add(served)
            await forget(context, served.origin)

    async def _remove(self, context: LifecycleContext, origin: bytes) -> None:
        del self._files[origin]
        if self.zones.get(origin) is not None:
            self.zones.remove(origin)
            LOG.info("zone %s is not served any more: its file has gone", to_text(origin))
            await forget(context, origin)

    def _report(self, problems: set[str]) -> None:
        """Log the problems that are new."""
        for problem in sorted(problems - self._problems):
            LOG.warning("%s", problem)
        self._problems = problems
