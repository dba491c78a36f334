"""inotify(7) on the event loop: detects that a folder has changed, not which file.

Where it does not work, the watcher's interval applies: with another kernel, without free inotify
instances, or on a network file system that another machine changes.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from corepy_reload.folders import Folder

# Files that were closed after writing, moved, created (links are never closed) or deleted; deletion
# or move of the folder itself. Only folders.
_MASK: Final = 0x008 | 0x040 | 0x080 | 0x100 | 0x200 | 0x400 | 0x800 | 0x01000000
_READ_SIZE: Final = 65536

_libc = ctypes.CDLL(None, use_errno=True)


class Inotify:
    """Calls `changed` from the event loop after any change in the folders."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._descriptor = -1
        self._folders: frozenset[Folder] = frozenset()

    def watch(self, folders: frozenset[Folder]) -> bool:
        """Watch exactly these folders; raises OSError if the kernel refuses.

        Returns whether the folders differ from before, in which case a change may have been missed.
        """
        if folders == self._folders:
            return False
        self.close()
        self._descriptor = _check(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        self._loop.add_reader(self._descriptor, self._drain)
        self._add(folder.path for folder in folders)
        self._folders = folders
        return True

    def _add(self, paths: Iterable[str]) -> None:
        for path in paths:
            try:
                _check(_libc.inotify_add_watch(self._descriptor, os.fsencode(path), _MASK))
            except (FileNotFoundError, NotADirectoryError):  # removed in the meantime
                continue

    def close(self) -> None:
        """Stop watching."""
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
        self._descriptor = -1
        self._folders = frozenset()

    def _drain(self) -> None:
        try:
            while os.read(self._descriptor, _READ_SIZE):
                pass
        except BlockingIOError:
            pass
        self._changed()


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
