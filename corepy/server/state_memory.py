"""Snapshots in memory, as files that another process can map (memfd_create(2)).

They are sealed, so that no process can change or shorten one while another reads it: reading beyond
the end of a mapped file would end the process.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from typing import TYPE_CHECKING, Final

from corepy.server.snapshot import InvalidSnapshot, Snapshot, parse

if TYPE_CHECKING:
    from collections.abc import Iterable

_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


def write(parts: Iterable[bytes]) -> int:
    """Return the descriptor of a new file with these parts, which the caller closes.

    Raises OSError. May run in a thread.
    """
    descriptor = os.memfd_create("corepy-state", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.writelines(parts)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read(descriptor: int, most: int) -> Snapshot:
    """Return the snapshot in a file of at most `most` bytes; raises `InvalidSnapshot`.

    The snapshot stays valid when the descriptor is closed.
    """
    try:
        if fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & _SEALS != _SEALS:
            raise InvalidSnapshot("it is not sealed")
        size = os.fstat(descriptor).st_size
        if not 0 < size <= most:
            raise InvalidSnapshot(f"it has {size} bytes, not 1 to {most}")
        content = mmap.mmap(descriptor, size, prot=mmap.PROT_READ)
    except OSError as error:
        raise InvalidSnapshot(str(error.strerror)) from None
    return parse(memoryview(content))
