"""The xtables lock, which every user of legacy iptables takes before changing a table.

`iptables -w` holds an exclusive flock on /run/xtables.lock, or on the file in XTABLES_LOCKFILE
(iptables, xshared.c). libiptc reads, changes and writes back a whole table, so a writer without the
lock loses updates. Waiting is bounded and happens in the worker thread, never in the event loop.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from typing import TYPE_CHECKING, Final

from corepy_nodecache.model import HostError

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULT_PATH: Final = "/run/xtables.lock"
DEFAULT_WAIT: Final = 2.0
"""Seconds for one attempt; the reconciler retries, so a longer wait would only delay shutdown."""

_STEP: Final = 0.05


def lock_path() -> str:
    """Return the path of the lock file."""
    return os.environ.get("XTABLES_LOCKFILE") or DEFAULT_PATH


@contextlib.contextmanager
def xtables_lock(wait: float = DEFAULT_WAIT) -> Iterator[None]:
    """Hold the lock; raises `HostError` (iptables_lock) if it is not free within `wait` seconds."""
    path = lock_path()
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise HostError("iptables_lock", f"cannot open {path}: {error.strerror}") from error
    try:
        _acquire(descriptor, path, wait)
        yield
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, path: str, wait: float) -> None:
    deadline = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                message = f"another program holds {path}, so rules cannot be changed"
                raise HostError("iptables_lock", message) from None
            time.sleep(_STEP)
        else:
            return
