"""Reads and writes the files that keep the state of handlers; all functions may block.

A file is replaced at once, so that a reader finds the old one or the new one. It is not synced: a
power failure may leave a damaged one, which the next start ignores. A file that another user could
have written is not read, and one that is not a snapshot is not replaced.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING, Final

from corepy.plugin.writing import replace_file
from corepy.server.snapshot import MAGIC, InvalidSnapshot, Selection, Snapshot, parse_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

_WRITABLE_BY_OTHERS: Final = 0o022
_OWN: Final = (MAGIC, b"")
_LARGEST_REST: Final = 1 << 30
"""Limit of the sections that are not selected, in bytes: to read them takes a second."""

_READ_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def read(path: Path, selection: Selection) -> Snapshot | None:
    """Return the selected sections of the snapshot in a file, None if there is no file.

    A file may also have sections of blocks that do not keep their state any more, or another one.
    Raises `InvalidSnapshot`.
    """
    try:
        descriptor = os.open(path, _READ_FLAGS)
    except FileNotFoundError:
        return None
    except OSError as error:
        is_link = error.errno == errno.ELOOP
        raise InvalidSnapshot("it is a symbolic link" if is_link else str(error.strerror)) from None
    try:
        status = os.fstat(descriptor)
        _check(status, selection.most + _LARGEST_REST)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return parse_file(file, status.st_size, selection)
    except OSError as error:
        raise InvalidSnapshot(str(error.strerror)) from None
    finally:
        os.close(descriptor)


def _check(status: os.stat_result, most: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise InvalidSnapshot("it is not a regular file")
    if status.st_uid not in (os.geteuid(), 0):
        raise InvalidSnapshot("it belongs to another user")
    if status.st_mode & _WRITABLE_BY_OTHERS:
        raise InvalidSnapshot("other users may write it")
    if status.st_size > most:
        raise InvalidSnapshot(f"it has {status.st_size} bytes, more than {most}")


def write(path: Path, parts: Iterable[bytes], is_valid: Callable[[], bool] = lambda: True) -> None:
    """Replace a file by a snapshot of these parts and their SHA-256; raises OSError.

    A file that is not a snapshot stays as it is, since its name is probably a mistake. The new file
    is dropped if it is not valid any more when it is complete.
    """
    _require_own(path)
    replace_file(path, with_digest(parts), is_durable=False, is_valid=is_valid)


def with_digest(parts: Iterable[bytes]) -> Iterable[bytes]:
    """Yield the parts of a snapshot, and their SHA-256 at the end."""
    import hashlib  # loads OpenSSL, which a server without snapshots does not need

    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
        yield part
    yield digest.digest()


def remove(path: Path) -> None:
    """Remove a snapshot, if it is there; raises OSError."""
    _require_own(path)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _require_own(path: Path) -> None:
    """Raise OSError for a file that is neither a snapshot nor empty."""
    try:
        descriptor = os.open(path, _READ_FLAGS)
    except FileNotFoundError:
        return
    try:
        is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        if not is_file or os.read(descriptor, len(MAGIC)) not in _OWN:
            raise FileExistsError(errno.EEXIST, "it is not a snapshot of corepy", str(path))
    finally:
        os.close(descriptor)
