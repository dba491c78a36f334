"""Snapshots in memory, as files that another process can map (memfd_create(2)).

They are sealed, so that no process can change or shorten one while another reads it: reading beyond
the end of a mapped file would end the process. Seals leave the mode of a
file alone, so a change of the mode revokes a file for all processes that have it.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import stat
from typing import TYPE_CHECKING, Final

from corepy.server.snapshot import InvalidSnapshot, Snapshot, parse

if TYPE_CHECKING:
    from collections.abc import Iterable

_NAME: Final = "corepy-state"
_MFD_NOEXEC_SEAL: Final = 8
_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


def write(parts: Iterable[bytes]) -> int:
    """Return the descriptor of a new file with these parts, which the caller closes.

    Raises OSError. May run in a thread.
    """
    descriptor = _new_file()
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.writelines(parts)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _new_file() -> int:
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        # A host may forbid all others (vm.memfd_noexec).
        return os.memfd_create(_NAME, flags | _MFD_NOEXEC_SEAL)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return os.memfd_create(_NAME, flags)  # before Linux 6.3


def revoke(descriptor: int) -> None:
    """Make `read` refuse a file, for all processes that have it, also one that starts."""
    os.fchmod(descriptor, 0)


def is_revoked(descriptor: int) -> bool:
    """Return whether a process has called `revoke` for this file."""
    return not os.fstat(descriptor).st_mode & stat.S_IRUSR


def read(descriptor: int, most: int) -> Snapshot:
    """Return the snapshot in a file of at most `most` bytes; raises `InvalidSnapshot`.

    The snapshot stays valid when the descriptor is closed.
    """
    try:
        if fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & _SEALS != _SEALS:
            raise InvalidSnapshot("it is not sealed")
        if is_revoked(descriptor):
            raise InvalidSnapshot("it was discarded")
        size = os.fstat(descriptor).st_size
        if not 0 < size <= most:
            raise InvalidSnapshot(f"it has {size} bytes, not 1 to {most}")
        content = mmap.mmap(descriptor, size, prot=mmap.PROT_READ)
    except OSError as error:
        raise InvalidSnapshot(str(error.strerror)) from None
    return parse(memoryview(content))
