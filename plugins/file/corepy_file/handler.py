"""The handler that answers from zone files (CoreDNS: plugin/file/file.go, reload.go)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from corepy.plugin import Fallthrough, LifecycleContext, StartupError, hookimpl, plugin_logger
from corepy.plugin.failures import reported
from corepy.zone import ServedZone, ZoneFile, ZoneHandler, changed_files
from corepy.zone.zone_file import INTERVAL, SHORTEST

if TYPE_CHECKING:
    from collections.abc import Sequence

LOG = plugin_logger("file")


@dataclass(slots=True)
class Settings:
    """One directive: a file, the origins that it is read for, and the options."""

    path: Path = Path()
    origins: list[bytes] = field(default_factory=list)
    reload: float = 60.0
    """Seconds between two checks of the file; 0 disables them."""
    by_mtime: bool = False
    fallthrough: Fallthrough = field(default_factory=Fallthrough)

    @property
    def interval(self) -> float:
        """Seconds between two checks, 0 for none; a check costs a stat(2)."""
        return self.reload and min(max(self.reload, SHORTEST), INTERVAL)


class File(ZoneHandler):
    """Answers queries for names in the zones of all *file* directives of a server block."""

    name: ClassVar[str] = "file"

    def __init__(self, directives: Sequence[Settings]) -> None:
        """Read the files of `directives` at the start; no two have the same origin."""
        super().__init__()
        self._settings: dict[bytes, Settings] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self.files: list[ZoneFile] = []
        for settings in directives:
            for origin in settings.origins:
                served = ServedZone(origin)
                self.zones.add(served)
                self._settings[origin] = settings
                file = ZoneFile(settings.path, served, LOG, any_serial=settings.by_mtime)
                self.files.append(file)

    @property
    def inputs(self) -> bytes | None:
        """A digest of the files; None without one, or while the caches have older replies."""
        digests = [it.settled_digest for it in self.files]
        return b"".join(digests) if all(digests) else None

    def passes(self, served: ServedZone, name: bytes) -> bool:
        """See `ZoneHandler.passes`; each directive has its own option."""
        return self._settings[served.origin].fallthrough.passes(name)

    @hookimpl
    async def before_listen(self, context: LifecycleContext) -> None:
        """Read all files; raises `StartupError` for one that is not a zone.

        A file that does not exist yet is read later, unless its directive disables that.
        """
        for file in self.files:
            await file.load()
            is_missing = file.is_missing and self._settings[file.served.origin].reload
            if file.served.current is None and not is_missing:
                raise StartupError(file.problem)

    @hookimpl
    async def rehearse(self, context: LifecycleContext) -> None:
        """Read all files, to answer a single query."""
        await self.before_listen(context)

    @hookimpl
    def serving(self, context: LifecycleContext) -> None:
        """Start to check for changes, one task for all files with the same interval."""
        by_interval: dict[float, list[ZoneFile]] = {}
        for file in self.files:
            interval = self._settings[file.served.origin].interval
            by_interval.setdefault(interval, []).append(file)
        for interval, files in by_interval.items():
            if interval:
                watch = self._watch(files, interval, context)
                self._tasks.append(asyncio.create_task(watch, name="watch zone files"))

    @hookimpl
    def shutdown(self, context: LifecycleContext) -> None:
        """Stop checking."""
        for task in self._tasks:
            task.cancel()

    async def _watch(
        self, files: list[ZoneFile], interval: float, context: LifecycleContext
    ) -> None:
        while True:
            await asyncio.sleep(interval)
            with reported(self.name, "the zone files cannot be checked"):
                for file in await changed_files(files):
                    with reported(self.name, f"{file.path} cannot be loaded"):
                        await file.refresh(context)
