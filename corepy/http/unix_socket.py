"""Listening sockets of the Unix domain for HTTP, in place of an address."""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from corepy.net.sockets import BindError

MAX_PATH: Final = 90
"""Bytes of a path: `sun_path` has 108 (unix(7)), of which the temporary name needs some."""

BACKLOG: Final = 128
_ONLY_OWNER: Final = 0o177


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """The path of a listening socket."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


def check_unix_path(path: str) -> None:
    """Raise `ValueError` with the reason if no socket can have this path."""
    if not path.startswith("/"):
        raise ValueError(f"the path of a socket must be absolute, not {path!r}")
    if len(os.fsencode(path)) > MAX_PATH:
        raise ValueError(f"the path of a socket has at most {MAX_PATH} bytes: {path}")
    if "\0" in path or path.endswith("/"):
        raise ValueError(f"{path!r} cannot be the path of a socket")


def open_unix(address: UnixAddress) -> tuple[socket.socket, tuple[int, int]]:
    """Return a listening socket that only this user may connect to, and the identity of its file.

    It replaces the socket of another process at this path, such as one that has crashed, or the
    worker before an upgrade, which keeps its connections. Raises `BindError`.
    """
    temporary = f"{address.path}.{os.getpid()}"
    sock = socket.socket(socket.AF_UNIX)
    sock.setblocking(False)
    before = os.umask(_ONLY_OWNER)
    try:
        _refuse_other_files(address.path)
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        sock.bind(temporary)
        sock.listen(BACKLOG)
        os.rename(temporary, address.path)
        return sock, identity(address.path)
    except OSError as error:
        sock.close()
        with suppress(OSError):
            os.unlink(temporary)
        reason = error.strerror or str(error)
        raise BindError(error.errno, f"cannot listen on {address}: {reason}") from error
    finally:
        os.umask(before)


def _refuse_other_files(path: str) -> None:
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise OSError(errno.EEXIST, "a file that is not a socket has this path")


def identity(path: str) -> tuple[int, int]:
    """Return the device and the inode of a file; raises OSError."""
    found = os.lstat(path)
    return found.st_dev, found.st_ino


def remove(address: UnixAddress, own: tuple[int, int]) -> None:
    """Remove the socket's file, unless another process has replaced it."""
    with suppress(OSError):
        if identity(address.path) == own:
            os.unlink(address.path)
