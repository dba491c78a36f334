"""The table in use, and its files: found, watched, and compiled into the next table."""

from __future__ import annotations

import asyncio
import glob
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple
from weakref import WeakValueDictionary

from corepy.plugin import LifecycleContext, StartupError, hookimpl, in_thread, plugin_logger
from corepy.plugin.errors import describe
from corepy.plugin.reading import FileVersion, file_version
from corepy_blocklist import metrics
from corepy_blocklist.compiler import job, write_table
from corepy_blocklist.reporting import Reporter
from corepy_blocklist.rule import SourceFile, SourceKind
from corepy_blocklist.table import Table
from corepy_blocklist.transferring import TransferredZone, ZoneContent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corepy_blocklist.rule import Rule

SETTLE: Final = 0.2
"""Seconds for which changed files must be unchanged before they are loaded."""

MOST_SETTLING: Final = 10
"""Maximum number of waits for files that change all the time."""

MOST_FILES: Final = 1000
"""Files of a directive; later ones in the order of their names are not used."""

SMALL: Final = 128 * 1024
"""Bytes of all files up to which a thread compiles them: the start of a process takes longer."""

NICE: Final = 10
"""Value by which the priority of the process is lower while the server answers queries."""

_log = plugin_logger("blocklist")


class Pattern(NamedTuple):
    """A file, or several by a shell pattern."""

    kind: SourceKind
    path: str
    zone: str = ""

    def files(self) -> list[SourceFile]:
        """Return the files, in the order of their names; a single one need not exist."""
        paths = [self.path]
        if glob.has_magic(self.path):
            paths = sorted(path for path in glob.glob(self.path) if os.path.isfile(path))
        return [SourceFile(self.kind, path, self.zone) for path in paths]


class Found(NamedTuple):
    """The files at a moment, with their versions."""

    files: tuple[SourceFile, ...]
    versions: tuple[FileVersion | None, ...]

    @property
    def descriptors(self) -> list[int]:
        """The descriptors of files in memory."""
        contents = (file.content for file in self.files)
        return [content.descriptor for content in contents if isinstance(content, ZoneContent)]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(version.size for version in self.versions if version is not None)


_Identity = tuple[tuple[tuple[SourceKind, str, str], ...], int]
_shared: WeakValueDictionary[tuple[Found, int], Table] = WeakValueDictionary()
"""Tables of this process by their files, which several blocks and generations share."""

_latest: WeakValueDictionary[_Identity, Table] = WeakValueDictionary()
"""The last table for some files, for those that become unusable before a reload."""


class Lists:
    """The rules of one directive."""

    def __init__(
        self, patterns: Sequence[Pattern | TransferredZone], plain_scope: int, interval: float
    ) -> None:
        """`plain_scope` is the scope of plain names; check the files every `interval` seconds.

        An interval of 0 disables the checks.
        """
        self.table: Table | None = None
        self.loaded = 0.0
        """The time of the last load, in seconds since the epoch."""

        self._patterns = tuple(patterns)
        self._zones = [it for it in self._patterns if isinstance(it, TransferredZone)]
        self._lock = asyncio.Lock()
        self._plain_scope = plain_scope
        self._interval = interval
        self._found: Found | None = None
        self._reporter = Reporter(_log)
        self._task: asyncio.Task[None] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._is_stopped = False
        self._failure = ""

    def path_of(self, table: Table, rule: Rule) -> str:
        """Return the path of the file that a rule comes from."""
        path: str = table.files[rule.source % len(table.files)]["path"]
        return path

    @hookimpl
    async def before_listen(self, context: LifecycleContext) -> None:
        """Load the files; one that cannot be used is left out. Raises `StartupError`."""
        if not context.offline:
            await asyncio.gather(*(zone.start() for zone in self._zones))
        try:
            self._take(*await in_thread(self._load))
            metrics.show(self)
        except Exception as error:
            raise StartupError(f"the lists cannot be loaded: {describe(error)}") from None

    @hookimpl
    async def rehearse(self, context: LifecycleContext) -> None:
        """Load the files, to answer a single query."""
        await self.before_listen(context)

    @hookimpl
    def serving(self, context: LifecycleContext) -> None:
        """Start to watch the files, and to refresh the zones."""
        for zone in self._zones:
            zone.refresh_with(partial(self._renew, context))
        if self._interval:
            self._task = asyncio.create_task(self._watch(context), name="watch block lists")

    @hookimpl
    def shutdown(self, context: LifecycleContext) -> None:
        """Stop watching and refreshing, and end a process that compiles."""
        for zone in self._zones:
            zone.stop()
        self._is_stopped = True
        if self._task is not None:
            self._task.cancel()
        if self._process is not None:
            self._process.kill()
        metrics.hide(self)

    async def look(self) -> bool:
        """Load the files if they have changed; return whether there is a new table."""
        try:
            loaded = await in_thread(self._load_changed)
        except Exception as error:
            problem = describe(error)
            if problem != self._failure and not self._is_stopped:
                _log.error("the lists cannot be loaded; the rules stay in use: %s", problem)
            self._failure = problem
            return False
        self._failure = ""
        if loaded is None:
            return False
        self._take(*loaded)
        return True

    async def _watch(self, context: LifecycleContext) -> None:
        while True:
            await asyncio.sleep(self._interval)
            await self._renew(context)

    async def _renew(self, context: LifecycleContext) -> None:
        """Load the files if they have changed; then cached replies are no longer correct."""
        async with self._lock:
            if await self.look():
                context.forget()

    def _take(self, found: Found, table: Table) -> None:
        self._found, self.table = found, table
        self.loaded = time.time()  # time of day: it is shown to operators
        self._reporter.report(table)

    def _find(self) -> Found:
        files = dict.fromkeys(file for pattern in self._patterns for file in pattern.files())
        kept = tuple(files)[:MOST_FILES]
        return Found(kept, tuple(file_version(Path(file.path)) for file in kept))

    def _load_changed(self) -> tuple[Found, Table] | None:
        """Load the files if they have changed, once they change no more; in a thread."""
        found = self._find()
        if found == self._found:
            return None
        for _ in range(MOST_SETTLING):
            time.sleep(SETTLE)
            before, found = found, self._find()
            if found == before:
                break
        return self._load(found)

    def _load(self, found: Found | None = None) -> tuple[Found, Table]:
        """Return the files and their table; in a thread."""
        found = found or self._find()
        key = found, self._plain_scope
        table = _shared.get(key)
        if table is None:
            names = tuple((file.kind, file.label, file.zone) for file in found.files)
            identity = names, self._plain_scope
            previous = self.table or _latest.get(identity)
            table = self._compile(found, previous)
            if not any(file["problem"] for file in table.files):
                _shared[key] = table
            _latest[identity] = table
        return found, table

    def _compile(self, found: Found, previous: Table | None) -> Table:
        output = os.memfd_create("corepy-blocklist", os.MFD_CLOEXEC)
        try:
            text = job(found.files, self._plain_scope)
            before = None if previous is None else previous.descriptor
            if found.size <= SMALL:
                write_table(text, output, before)
            else:
                self._compile_apart(found, text, output, before)
            return Table(output)
        finally:
            os.close(output)

    def _compile_apart(self, found: Found, text: bytes, output: int, previous: int | None) -> None:
        """Compile in a process of its own; raises RuntimeError if it fails."""
        descriptors = [output] if previous is None else [output, previous]
        nice = 0 if self.table is None else NICE
        program = [sys.executable, "-P", "-m", "corepy_blocklist.compiler"]
        command = [*program, *map(str, (nice, *descriptors))]
        with subprocess.Popen(  # noqa: S603  # our own module
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=[*descriptors, *found.descriptors],
        ) as process:
            self._process = process
            try:
                if self._is_stopped:
                    process.kill()
                _, errors = process.communicate(text)
            finally:
                self._process = None
        if process.returncode:
            reason = errors.decode("utf-8", "replace").strip()[-500:]
            raise RuntimeError(reason or f"the process ended with {process.returncode}")
