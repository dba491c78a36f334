"""Reads a file named by an operator without blocking.

`open` waits for the other end of a FIFO, and reading a terminal or a device may take forever; both
would block the event loop. Only regular files are read, up to a maximum size.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

MOST_BYTES = 16 * 1024 * 1024

_SETTLED_NS = 2_000_000_000
"""Age in nanoseconds from which a modification time is reliable.

Time stamps have the resolution of the kernel's tick or, on some file systems, of seconds: a second
change within that time may not change them.
"""

_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class FileVersion(NamedTuple):
    """A fingerprint of one state of a file; it also differs if the path leads to another file."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int


def file_version(path: Path) -> FileVersion | None:
    """Return the version of the file at `path`, following links; None if it does not exist."""
    try:
        return _version(os.stat(path))
    except (OSError, ValueError):
        return None


def read_file(path: Path, most: int = MOST_BYTES) -> tuple[bytes, FileVersion | None]:
    """Return the content of a regular file and its version, to compare with `file_version` later.

    The version is None if the file was changed so recently that another change might not change the
    version: then the file must be read again to be sure.

    Raises `OSError`, with a `strerror` suitable for a message, for anything but a readable regular
    file of at most `most` bytes.
    """
    with _opened(path) as file:
        status = os.fstat(file.fileno())
        if status.st_size > most:
            raise OSError(errno.EFBIG, f"larger than {most >> 10} KiB", str(path))
        content = file.read(most + 1)
    if len(content) > most:  # it has grown meanwhile
        raise OSError(errno.EFBIG, f"larger than {most >> 10} KiB", str(path))
    # time of day: the age of a file; one from the future is read once more
    settled = time.time_ns() - status.st_mtime_ns > _SETTLED_NS
    return content, _version(status) if settled else None


def read_head(path: Path, most: int) -> bytes:
    """Return the first bytes of a regular file, at most `most`; raises `OSError` as `read_file`."""
    with _opened(path) as file:
        return file.read(most)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file without blocking."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except ValueError:
        raise OSError(errno.EINVAL, "a path cannot contain a NUL byte", str(path)) from None
    try:
        _refuse_others(os.fstat(descriptor).st_mode, path)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            yield file
    finally:
        os.close(descriptor)


def _refuse_others(mode: int, path: Path) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "Is a directory", str(path))
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "something else")
        raise OSError(errno.EINVAL, f"not a regular file but {kind}", str(path))


def _version(status: os.stat_result) -> FileVersion:
    return FileVersion(
        status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    )
