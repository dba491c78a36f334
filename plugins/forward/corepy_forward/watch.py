"""Upstreams that come from files: read again when a file changes, without a reload.

A file that is missing, unreadable or without name servers leaves the last good ones in use: it is
likely to be in the middle of being written.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from corepy.plugin import plugin_logger
from corepy_forward.ownaddress import own_among
from corepy_forward.targets import read_resolv_conf, without_repeats

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence
    from pathlib import Path

    from corepy_forward.ownaddress import Place
    from corepy_forward.pool import Pool
    from corepy_forward.settings import Settings
    from corepy_forward.targets import Entry

INTERVAL = 1.0
"""Seconds between two looks. A look is one stat(2); it notices mounts and links that are swapped,
which a watch on the file would not.
"""

log = plugin_logger("forward")


class Watch:
    """The files of one `forward` line."""

    def __init__(self, settings: Settings, pool: Pool, listening: Sequence[Place]) -> None:
        """Begin; `listening` are the block's own addresses, which are no upstreams."""
        self._settings = settings
        self._pool = pool
        self._listening = listening
        self._seen = {entry.file: _stamp(entry.file) for entry in settings.entries if entry.file}
        self._timer: asyncio.TimerHandle = pool.loop.call_later(INTERVAL, self._look)

    def _look(self) -> None:
        self._timer = self._pool.loop.call_later(INTERVAL, self._look)
        changed = False
        for entry in self._settings.entries:
            if entry.file is None:
                continue
            stamp = _stamp(entry.file)
            if stamp is None or stamp == self._seen[entry.file]:
                continue
            self._seen[entry.file] = stamp
            changed |= self._read(entry)
        if changed:
            self._use()

    def _read(self, entry: Entry) -> bool:
        assert entry.file is not None
        try:
            targets = read_resolv_conf(entry.file)
        except ValueError as error:
            log.warning("%s; its last name servers stay in use", error)
            return False
        if not targets:
            log.warning("%s names no name servers; its last ones stay in use", entry.file)
            return False
        own = own_among(targets, self._listening)
        if own is not None:
            log.warning(
                "%s: %s is this server; its last name servers stay in use", entry.file, own.address
            )
            return False
        entry.targets = targets
        return True

    def _use(self) -> None:
        targets = without_repeats(t for entry in self._settings.entries for t in entry.targets)
        self._pool.retarget(targets)
        log.info("upstreams are now %s", " ".join(target.address for target in targets))

    def stop(self) -> None:
        """Look no more."""
        self._timer.cancel()


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """Return what changes when a file does; None without it."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
