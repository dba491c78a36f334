"""A response policy zone from a primary server, which is refreshed by the timers of its SOA record.

A transfer that fails leaves the zone as it is, also after its expiry: old rules protect more than
none.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import weakref
from functools import partial
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

from corepy.plugin import in_thread, plugin_logger
from corepy.plugin.errors import describe
from corepy.plugin.failures import reported
from corepy.plugin.reading import FileVersion
from corepy_blocklist.names import zone_name
from corepy_blocklist.rule import SourceFile, SourceKind
from corepy_blocklist.transfer_client import Timers, TransferError, fetch_zone

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from corepy.plugin.server_options import ServerAddress

START_TIMEOUT: Final = 10.0
"""Seconds that a start waits for a transfer; then the server begins without the zone."""

FIRST_RETRY: Final = 30.0
"""Seconds between two attempts before the first transfer has succeeded."""

SHORTEST_WAIT: Final = 10.0
LONGEST_WAIT: Final = 86400.0
"""Limits of the timers of an SOA record, in seconds."""

_JITTER: Final = 1000
"""Number of the different times between two refreshes."""

_log = plugin_logger("blocklist")


class ZoneContent:
    """The records of a version of a zone, in a file in memory, which a process can inherit."""

    def __init__(self, timers: Timers, records: bytes) -> None:
        self.timers = timers
        self.descriptor = os.memfd_create("corepy-blocklist-zone", os.MFD_CLOEXEC)
        weakref.finalize(self, os.close, self.descriptor)
        with open(self.descriptor, "wb", closefd=False) as file:
            file.write(records)
        status = os.fstat(self.descriptor)
        times = status.st_mtime_ns, status.st_ctime_ns
        self.version = FileVersion(status.st_dev, status.st_ino, status.st_size, *times)


_contents: WeakValueDictionary[tuple[str, tuple[ServerAddress, ...]], ZoneContent] = (
    WeakValueDictionary()
)
"""The zones of this process, with which the next generation continues."""


class TransferredZone:
    """A zone that is transferred from the first of some primary servers that has it."""

    def __init__(self, zone: str, primaries: Sequence[ServerAddress]) -> None:
        """`zone` is in presentation form."""
        self.zone = zone
        self._primaries = tuple(primaries)
        self._content = _contents.get((zone, self._primaries))
        self._problem = ""
        self._task: asyncio.Task[None] | None = None

    @property
    def path(self) -> str:
        """The name of the zone in messages and metrics."""
        return f"{self.zone} from {self._primaries[0].host}"

    @property
    def identity(self) -> tuple[object, ...]:
        """The values that determine the zone."""
        return self.zone, self._primaries

    def files(self) -> list[SourceFile]:
        """Return the file in memory; none before the first transfer."""
        content = self._content
        if content is None:
            return []
        kind, descriptor = SourceKind.TRANSFERRED_RPZ, str(content.descriptor)
        return [SourceFile(kind, descriptor, self.zone, self.path, content)]

    async def start(self) -> None:
        """Transfer the zone if this process does not have it; a failure is logged."""
        self._content = self._content or _contents.get((self.zone, self._primaries))
        if self._content is None:
            try:
                async with asyncio.timeout(START_TIMEOUT):
                    await self.refresh()
            except TimeoutError:
                self._report(f"no transfer within {START_TIMEOUT:g} s")

    def refresh_with(self, renew: Callable[[], Awaitable[None]]) -> None:
        """Refresh the zone from now on, and call `renew` after each new version."""
        self._task = asyncio.create_task(self._refresh_forever(renew), name=f"refresh {self.zone}")

    def stop(self) -> None:
        """Refresh the zone no more; the result of a transfer in progress is dropped."""
        if self._task is not None:
            self._task.cancel()

    async def refresh(self) -> bool:
        """Transfer the zone if a primary server has a newer one; return whether that was so."""
        serial = None if self._content is None else self._content.timers.serial
        problems = []
        for primary in self._primaries:
            fetch = partial(fetch_zone, zone_name(self.zone), primary, serial)
            try:
                timers, records = await in_thread(fetch)
            except (TransferError, OSError) as error:
                text = "timed out" if isinstance(error, TimeoutError) else describe_failure(error)
                problems.append(f"{primary.host}: {text}")
                continue
            self._problem = ""
            if records is None:
                return False
            self._content = ZoneContent(timers, records)
            _contents[self.zone, self._primaries] = self._content
            _log.info("transferred %s with serial %d", self.path, timers.serial)
            return True
        self._report("; ".join(problems))
        return False

    def wait(self) -> float:
        """Return the seconds until the next attempt, at random up to a tenth less."""
        if self._content is None:
            seconds = FIRST_RETRY
        else:
            timers = self._content.timers
            seconds = timers.retry if self._problem else timers.refresh
        seconds = min(max(seconds, SHORTEST_WAIT), LONGEST_WAIT)
        return seconds * (1 - secrets.randbelow(_JITTER) / _JITTER / 10)

    def _report(self, problem: str) -> None:
        """Log a problem once; the previous version stays in use."""
        if problem != self._problem:
            rest = "there are no rules" if self._content is None else "the rules stay in use"
            _log.warning("%s cannot be transferred; %s: %s", self.zone, rest, problem)
        self._problem = problem

    async def _refresh_forever(self, renew: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(self.wait())
            with reported("blocklist", f"{self.zone} cannot be refreshed"):
                if await self.refresh():
                    await renew()


def describe_failure(error: Exception) -> str:
    """Return the reason of a failed transfer."""
    if isinstance(error, socket.gaierror | TransferError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return describe(error)
