"""Compiles the files of a directive into a table, in a thread and a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

from corepy_blocklist.compiler import job, write_table
from corepy_blocklist.files import find_files
from corepy_blocklist.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corepy_blocklist.files import Found, Source
    from corepy_blocklist.rule import SourceKind

    Identity = tuple[tuple[tuple[SourceKind, str, str], ...], int]

SETTLE: Final = 0.2
"""Seconds for which changed files must be unchanged before they are loaded."""

MOST_SETTLING: Final = 10
"""Maximum number of waits for files that change all the time."""

RETRY: Final = 60.0
"""Seconds after which files that could not be compiled are tried again, if they are the same."""

SMALL: Final = 128 * 1024
"""Bytes of all files up to which a thread compiles them: the start of a process takes longer."""

NICE: Final = 10
"""Value by which the priority of the process is lower while the server answers queries."""

_shared: WeakValueDictionary[tuple[Found, int], Table] = WeakValueDictionary()
"""Tables of this process by their files, which several blocks and generations share."""

_latest: WeakValueDictionary[Identity, Table] = WeakValueDictionary()
"""The last table for some files, for those that become unusable before a reload."""

_lock = threading.Lock()
"""Held while files are compiled: server blocks with the same files do it once."""


class Loader:
    """Loads the files of one directive; its methods run in a thread, except for `stop`."""

    def __init__(self, sources: Sequence[Source], plain_scope: int) -> None:
        """`plain_scope` is the scope of plain names."""
        self.sources = tuple(sources)
        self.is_stopped = False
        self.is_serving = False
        """Whether the server answers queries, so that a process gets a lower priority."""

        self._plain_scope = plain_scope
        self._process: subprocess.Popen[bytes] | None = None
        self._failed: tuple[Found, float] | None = None

    def load(
        self, previous: Table | None = None, found: Found | None = None
    ) -> tuple[Found, Table]:
        """Return the files and their table.

        Files that cannot be used keep the rules that they have in `previous`. Raises RuntimeError,
        OSError and ValueError if there is no table at all.
        """
        found = found or find_files(self.sources)
        with _lock:
            try:
                return found, self._load(found, previous)
            except Exception:
                self._failed = found, time.monotonic()
                raise

    def load_changed(
        self, before: Found | None, previous: Table | None
    ) -> tuple[Found, Table] | None:
        """Load the files if they have changed since `before`, once they change no more."""
        found = find_files(self.sources)
        if found == before or self._has_failed(found):
            return None
        for _ in range(MOST_SETTLING):
            time.sleep(SETTLE)
            earlier, found = found, find_files(self.sources)
            if found == earlier:
                break
        return self.load(previous, found)

    def stop(self) -> None:
        """End a process that compiles."""
        self.is_stopped = True
        if self._process is not None:
            self._process.kill()

    def _has_failed(self, found: Found) -> bool:
        if self._failed is None or self._failed[0] != found:
            return False
        return time.monotonic() - self._failed[1] < RETRY

    def _load(self, found: Found, previous: Table | None) -> Table:
        key, identity = (found, self._plain_scope), (found.names, self._plain_scope)
        table = _shared.get(key)
        if table is None:
            table = self._compile(found, previous or _latest.get(identity))
            if not any(file["problem"] for file in table.files):
                _shared[key] = table
            _latest[identity] = table
        return table

    def _compile(self, found: Found, previous: Table | None) -> Table:
        output = os.memfd_create("corepy-blocklist", os.MFD_CLOEXEC)
        try:
            text = job(found.files, self._plain_scope)
            before = None if previous is None else previous.descriptor
            if found.size <= SMALL:
                write_table(text, output, before)
            else:
                nice = NICE if self.is_serving else 0
                self._compile_apart(text, nice, [output, *([before] if before else [])], found)
            return Table(output)
        finally:
            os.close(output)

    def _compile_apart(self, text: bytes, nice: int, descriptors: list[int], found: Found) -> None:
        """Compile in a process of its own; raises RuntimeError if it fails."""
        program = [sys.executable, "-P", "-m", "corepy_blocklist.compiler"]
        with subprocess.Popen(  # noqa: S603  # our own module
            [*program, *map(str, (nice, *descriptors))],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=[*descriptors, *found.descriptors],
        ) as process:
            self._process = process
            try:
                if self.is_stopped:
                    process.kill()
                _, errors = process.communicate(text)
            finally:
                self._process = None
        if process.returncode:
            reason = errors.decode("utf-8", "replace").strip()[-500:]
            raise RuntimeError(reason or f"the process ended with {process.returncode}")
