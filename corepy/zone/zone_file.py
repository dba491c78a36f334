"""`ZoneFile`: keeps a served zone equal to the content of a file.

A file goes live only when it is complete: it is read when it has been unchanged for `SETTLE`
seconds and no process has it open for writing, and only if it is a valid zone. Otherwise the last
version stays in use, and the reason is logged once.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import time
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from corepy.dns.names import is_subdomain, to_text
from corepy.plugin import in_thread
from corepy.plugin.reading import file_version
from corepy.zone.master_file import ReadFile, read_with_digest, read_zone
from corepy.zone.serial import is_newer
from corepy.zone.zone_errors import ZoneError

if TYPE_CHECKING:
    import logging
    from collections.abc import Iterable
    from pathlib import Path

    from corepy.plugin import LifecycleContext
    from corepy.zone.master_file import LoadedZone
    from corepy.zone.served import ServedZone

SETTLE: Final = 0.2
"""Seconds for which a changed file must be unchanged before it is read."""

MOST_WAITS: Final = 25
"""Number of waits for a file to be unchanged, after which it is left for the next check."""

INTERVAL: Final = 1.0
"""Maximum seconds between two checks of a file, each of which costs a stat(2) in a thread."""


SHORTEST: Final = 0.05
"""Minimum seconds between two checks: more of them would take the CPU from the queries."""


class Fetched(NamedTuple):
    """The result of reading a changed file in a thread."""

    files: list[ReadFile]
    loaded: LoadedZone | None
    problem: str
    """The reason if `loaded` is None, "" if the file is still being written."""


class ZoneFile:
    """The file of one zone, and what was read from it.

    `path` may be changed; the next check then reads the other file.
    """

    def __init__(
        self, path: Path, served: ServedZone, log: logging.Logger, *, any_serial: bool = False
    ) -> None:
        """Read `path` into `served`; with `any_serial`, also if the serial has not changed."""
        self.path = path
        self.served = served
        self.problem = ""
        """Why the last version of the file is not in use, "" if it is."""
        self._any_serial = any_serial
        self._log = log
        self._files: list[ReadFile] = []
        self._in_use = b""
        self._is_forgetting = False

    @property
    def settled_digest(self) -> bytes:
        """The digests of the files that the zone in use was read from.

        b"" without a zone, and while caches may have replies from the version before.
        """
        return b"" if self._is_forgetting else self._in_use

    @property
    def is_missing(self) -> bool:
        """Whether the file could not be read at the last attempt."""
        return len(self._files) == 1 and not self._files[0].digest

    async def load(self) -> bool:
        """Read the file if it has changed; return whether the zone has a new version.

        A failure is logged, unless it is the same as before.
        """
        fetched: Fetched | None = await in_thread(self._fetch)
        return fetched is not None and self._take(fetched)

    async def refresh(self, context: LifecycleContext) -> None:
        """Do as `load`, and remove replies with names of a changed zone from all caches."""
        if await self.load():
            self._is_forgetting = True
            await forget(context, self.served.origin)
            self._is_forgetting = False

    def has_changed(self) -> bool:
        """Return whether the file, or one that it includes, has changed; in a thread."""
        if all(it.path != self.path for it in self._files):
            return True
        states = [_state_now(it) for it in self._files]
        if any(new.digest != old.digest for new, old in zip(states, self._files, strict=True)):
            return True
        self._files = states
        return False

    def _fetch(self) -> Fetched | None:
        """Read the file in a thread, without changing this object; None if it is unchanged."""
        if not self.has_changed() or not self._is_complete():
            return None
        files: list[ReadFile] = []
        try:
            loaded = read_zone(self.path, self.served.origin, files)
        except OSError as error:
            return Fetched(files, None, f"cannot read {self.path}: {error.strerror or error}")
        except ZoneError as error:
            return Fetched(files, None, str(error))
        return Fetched(files, loaded, "")

    def _is_complete(self) -> bool:
        """Wait until the file does not change, and return whether it does not.

        A file that was never read is not waited for, because the server cannot answer without it.
        """
        before = file_version(self.path)
        for _ in range(MOST_WAITS if self._files else 0):
            time.sleep(SETTLE)
            version = file_version(self.path)
            if version == before and not is_open_for_writing(self.path):
                return True
            before = version
        return not self._files

    def _take(self, fetched: Fetched) -> bool:
        """Use the result of `_fetch`; return whether the zone has a new version."""
        self._files = fetched.files
        if fetched.loaded is None:
            self._report(fetched.problem)
            return False
        zone, current = fetched.loaded.zone, self.served.current
        digest = b"".join(it.digest for it in fetched.files)
        name = to_text(self.served.origin)
        if current is not None and zone.serial == current.serial and not self._any_serial:
            if digest != self._in_use:
                problem = f"{self.path} has changed, but its serial is still {zone.serial}"
                self._report(f"{problem}: increase the serial to load it")
            return False
        warnings = fetched.loaded.warnings
        if warnings:
            more = f" (and {len(warnings) - 1} more warnings)" if len(warnings) > 1 else ""
            self._log.warning("%s%s", warnings[0], more)
        if current is not None and is_newer(current.serial, zone.serial):
            problem = "the serial of zone %s goes back from %d to %d: secondary servers ignore it"
            self._log.warning(problem, name, current.serial, zone.serial)
        self.problem, self._in_use = "", digest
        self.served.replace(zone)
        message = "loaded zone %s from %s: serial %d, %d records"
        self._log.info(message, name, self.path, zone.serial, zone.records)
        return True

    def _report(self, problem: str) -> None:
        if problem != self.problem:
            zone = self.served.current
            fate = (
                "there is no zone to serve" if zone is None else f"serial {zone.serial} is served"
            )
            self._log.warning("zone %s: %s; %s", to_text(self.served.origin), problem, fate)
        self.problem = problem


async def forget(context: LifecycleContext, origin: bytes) -> None:
    """Remove replies with names in a zone from all caches."""
    await context.forget_names(lambda name: is_subdomain(name, origin))


async def changed_files(files: Iterable[ZoneFile]) -> list[ZoneFile]:
    """Return the files that may have changed; all are checked in one thread."""
    candidates = list(files)
    found: list[ZoneFile] = await in_thread(partial(_changed, candidates))
    return found


def _changed(files: list[ZoneFile]) -> list[ZoneFile]:
    return [it for it in files if it.has_changed()]


def _state_now(known: ReadFile) -> ReadFile:
    """Return the state of a file that was read before; a file of the same version is not read."""
    version = file_version(known.path)
    if version is None:
        return ReadFile(known.path)
    if version == known.version:
        return known
    try:
        return read_with_digest(known.path)[1]
    except OSError:
        return ReadFile(known.path)


def is_open_for_writing(path: Path) -> bool:
    """Return whether a process has a file open for writing (fcntl(2), F_SETLEASE).

    Only the owner of the file and privileged processes can find out; for others the result is
    False, and so it is on file systems without leases.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        # A writer that comes meanwhile breaks the lease: the signal for that must be ignored.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        with contextlib.suppress(OSError):
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False
