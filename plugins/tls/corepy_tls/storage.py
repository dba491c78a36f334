"""Files of the ACME form: small JSON objects, which only their owner can read.

They are replaced at once, so that no process sees half of one, and certificate and key, which are
in one file, always fit.
"""

from __future__ import annotations

import fcntl
import json
import os
from typing import TYPE_CHECKING, Any, Final

from corepy.plugin.reading import read_file
from corepy.plugin.writing import replace_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

LARGEST: Final = 1 << 20
"""Bytes of a file."""


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a file; {} if it is missing or unusable."""
    try:
        content, _ = read_file(path, LARGEST)
        found = json.loads(content)
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Replace a file, and create its folder; raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    replace_file(path, [json.dumps(content).encode()])


class Lock:
    """A lock on a storage folder until `release`; also if the result of a thread is dropped."""

    def __init__(self, descriptor: int) -> None:
        """Take a locked descriptor: closing it ends the lock, as does the end of the process."""
        self.descriptor = descriptor

    def release(self) -> None:
        """End the lock."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        self.release()


def lock(storage: Path) -> Lock | None:
    """Lock a storage folder for this process; None if it is locked. Raises OSError."""
    storage.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = Lock(os.open(storage / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    try:
        fcntl.flock(found.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    return found
