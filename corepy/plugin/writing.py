"""Replaces files at once, so that a reader finds the old content or the new one.

Two processes may replace the same file at a time, as during an upgrade; the later one wins.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

PRIVATE: Final = 0o600
PUBLIC: Final = 0o666
"""Modes of new files; the process's umask applies."""

_ABANDONED_AFTER: Final = 3600.0
"""Age in seconds from which a temporary file was left by a process that was killed."""

_LONGEST: Final = 50
"""Characters of the name that its temporary file has, too, whose name has 255 bytes at most."""

_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def replace_file(
    path: Path,
    parts: Iterable[bytes],
    *,
    mode: int = PRIVATE,
    is_durable: bool = True,
    is_valid: Callable[[], bool] = lambda: True,
    modified: float | None = None,
) -> None:
    """Replace a file, or create it, with the content `parts`; blocks, so call it in a thread.

    If it `is_durable`, a power failure leaves the old file or the new one; otherwise it may leave a
    damaged one. The new content is dropped if it is not valid any more when it is complete.
    `modified` is its modification time in seconds since 1970, by default the time of writing.

    Raises OSError, or an exception of `parts`, and leaves the old file then.
    """
    _remove_abandoned(path)
    temporary = path.with_name(f"{_prefix(path)}{secrets.token_hex(8)}")
    descriptor = os.open(temporary, _FLAGS, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(parts)
            file.flush()
            if is_durable:
                os.fsync(descriptor)
        if modified is not None:
            os.utime(temporary, (modified, modified))
        if is_valid():
            os.rename(temporary, path)
    finally:
        with contextlib.suppress(OSError):  # it was renamed
            os.unlink(temporary)


def _prefix(path: Path) -> str:
    return f".{path.name[:_LONGEST]}.new-"


def _remove_abandoned(path: Path) -> None:
    limit = time.time() - _ABANDONED_AFTER  # time of day: the age of files
    with contextlib.suppress(OSError), os.scandir(path.parent) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if entry.name.startswith(_prefix(path)) and entry.stat().st_mtime < limit:
                    os.unlink(entry.path)
