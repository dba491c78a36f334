"""The file with the process ID (`-pidfile`).

The path is not trusted: it may be mistyped, or in a folder that other users can write to. Only a
regular file is read or written, symbolic links are not followed, and neither open nor read blocks.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_SAFELY: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_LONGEST: Final = 64
_KINDS: Final = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


@contextlib.contextmanager
def pidfile(path: str | None) -> Iterator[None]:
    """Keep the process ID in the file `path` within the `with` block; do nothing without a path.

    If the file cannot be written, an error is logged and the server runs without it. At the end the
    file is removed, unless a successor has written its own ID.
    """
    if path is None:
        yield
        return
    written = False
    try:
        _write(path, _own())
        written = True
    except (OSError, ValueError) as error:
        # Not above: the supervisor imports this module, and needs little memory.
        from corepy.plugin.log import server_logger

        log = server_logger()
        log.error("cannot write the pid file %s: %s; the server runs without it", path, _why(error))
    try:
        yield
    finally:
        if written:
            remove_own(path)


def remove_own(path: str | None) -> None:
    """Remove the file `path` if it has the ID of this process; do nothing without a path."""
    if path is None:
        return
    with contextlib.suppress(OSError, ValueError):
        if _read(path) == _own():
            os.unlink(path)


def discard_stale(path: str | None) -> None:
    """Remove the file `path` if the process that it names has ended; do nothing without a path.

    A killed process leaves its file, and in a pod the volume with the file outlives the container.
    Process IDs begin anew in the next container, so a probe could find another process by it.
    """
    if path is None:
        return
    with contextlib.suppress(OSError, ValueError):
        number = int(_read(path))
        if number == os.getpid() or not _runs(number):
            os.unlink(path)


def _own() -> bytes:
    return f"{os.getpid()}\n".encode()


def _runs(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's process; no process ID
        return True
    return True


def _write(path: str, text: bytes) -> None:
    """Write the file; raises `OSError`, or `ValueError` for an invalid path.

    If the disk is full, no file is left: a probe may only check whether there is one.
    """
    with _regular(path, os.O_WRONLY | os.O_CREAT) as descriptor:
        os.ftruncate(descriptor, 0)
        try:
            os.write(descriptor, text)
        except OSError:
            os.unlink(path)
            raise


def _read(path: str) -> bytes:
    with _regular(path, os.O_RDONLY) as descriptor:
        return os.read(descriptor, _LONGEST)


@contextlib.contextmanager
def _regular(path: str, flags: int) -> Iterator[int]:
    """Open a regular file within the `with` block; raises `OSError` for any other kind."""
    try:
        descriptor = os.open(path, flags | _SAFELY, 0o644)
    except OSError as error:
        kind = _special_at(path)
        raise _NotRegular(error.errno, kind) if kind else error from None
    try:
        kind = _special(os.fstat(descriptor).st_mode)
        if kind:
            raise _NotRegular(errno.EINVAL, kind)
        yield descriptor
    finally:
        os.close(descriptor)


def _special_at(path: str) -> str | None:
    try:
        return _special(os.lstat(path).st_mode)
    except OSError:
        return None


def _special(mode: int) -> str | None:
    """Return why a file of this mode is rejected; None for a regular file."""
    kinds = [kind for is_kind, kind in _KINDS if is_kind(mode)]
    return f"it is {kinds[0]}, not a regular file" if kinds else None


class _NotRegular(OSError):
    """The path names a directory, a device, or another kind of special file."""


def _why(error: OSError | ValueError) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)
