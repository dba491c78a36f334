"""`StateFile`: keeps the states of keys in memory and in their file the same (RFC 5011)."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final

from corepy.plugin import in_thread
from corepy.plugin.reading import file_version
from corepy_forward.validation.anchor_reports import log
from corepy_forward.validation.anchor_store import StateError, read_states, write_states

if TYPE_CHECKING:
    from pathlib import Path

    from corepy.plugin.reading import FileVersion
    from corepy_forward.validation.anchor_updates import AnchorKeeper

_LONGEST_WRITE: Final = 5.0
"""Seconds for which the shutdown waits until the file is written."""


class StateFile:
    """Keeps the state file and the states in memory the same."""

    def __init__(self, path: Path, keeper: AnchorKeeper) -> None:
        """Take the path and the states, without reading the file."""
        self.path = path
        self._keeper = keeper
        self._version: FileVersion | None = None
        self._is_foreign = False
        self._problems = {"read": "", "write": ""}
        self._task: asyncio.Task[None] | None = None

    @property
    def problems(self) -> list[str]:
        """The reasons why the file is not read or not written."""
        return [problem for problem in self._problems.values() if problem]

    def read(self) -> None:
        """Use the states in the file; a file that cannot be read counts as empty."""
        try:
            stored = read_states(self.path)
        except StateError as error:
            self._is_foreign = error.is_foreign
            self._version = file_version(self.path)
            end = "it is not used" if error.is_foreign else "it will be written anew"
            self._note("read", f"the state file {str(self.path)!r}: {error}; {end}")
            self._keeper.is_changed = self._keeper.tracks
            return
        self._is_foreign, self._version = False, stored.version
        self._note("read", "")
        if stored.zones or not self._keeper.zones:
            self._keeper.adopt(stored.zones)
        else:  # the file was removed or emptied, while the states in memory are complete
            self._keeper.is_changed = self._keeper.tracks

    def _note(self, action: str, problem: str) -> None:
        """Store a problem or its end, and log a new problem."""
        if problem and problem != self._problems[action]:
            log.warning("%s", problem)
        self._problems[action] = problem

    def synchronize(self) -> None:
        """Read the file again if another process has written it."""
        is_behind = self._keeper.is_changed and not self._is_foreign
        if self._task is None and not is_behind and file_version(self.path) != self._version:
            self.read()

    def save(self) -> None:
        """Write the states in a thread if they have changed."""
        if self._keeper.is_changed and self._task is None and not self._is_foreign:
            self._task = asyncio.create_task(self._write(), name=f"write {self.path}")

    async def _write(self) -> None:
        keeper = self._keeper
        try:
            while keeper.is_changed:
                keeper.is_changed = False
                write = partial(write_states, self.path, keeper.zones)
                self._version = await in_thread(write)
                self._problems = {"read": "", "write": ""}
        except OSError as error:
            keeper.is_changed = True
            reason = f"cannot write the state file {str(self.path)!r}: {error.strerror}"
            self._note("write", f"{reason}; changes of trust anchors are lost at a restart")
        finally:
            self._task = None

    async def close(self) -> None:
        """Wait until a write in progress has ended, but not for a disk that hangs."""
        if self._task is not None:
            await asyncio.wait([self._task], timeout=_LONGEST_WRITE)
