"""Zones on disk: one master file each, written atomically.

The time of the last change of a file is the time at which a primary server last confirmed the zone,
as for BIND, so that a restart knows when it expires.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from corepy.dns.names import to_text
from corepy.plugin.writing import PUBLIC, replace_file
from corepy.zone import read_zone
from corepy.zone.writer import zone_to_text

if TYPE_CHECKING:
    from pathlib import Path

    from corepy.zone import Zone

_SUFFIX: Final = ".zone"
_LONGEST: Final = 200
"""Characters of the longest file name from the name of a zone."""

_SAFE: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_.")


_writing: Final = threading.Lock()
"""A write goes on after a reload, and must not meet one of the next generation."""


class Stored(NamedTuple):
    """A zone that was read from its file."""

    zone: Zone
    age: float
    """Seconds since a primary server confirmed it."""


@dataclass(frozen=True, slots=True)
class Store:
    """The folder with the zones. All methods block: call them in a thread."""

    folder: Path

    def path(self, origin: bytes) -> Path:
        """Return the file of a zone."""
        name = to_text(origin).removesuffix(".") or "."
        safe = "".join(it if it in _SAFE else f"%{ord(it):02x}" for it in name)
        if len(safe) > _LONGEST:
            safe = f"{safe[:_LONGEST]}%{hashlib.sha256(origin).hexdigest()[:16]}"
        return self.folder / f"{safe}{_SUFFIX}"

    def read(self, origin: bytes) -> Stored | None:
        """Return the zone, None if there is no file.

        Raises OSError, and `corepy.zone.ZoneError` for a file that is not a zone.
        """
        path = self.path(origin)
        try:
            changed = path.stat().st_mtime
        except FileNotFoundError:
            return None
        loaded = read_zone(path, origin)
        # time of day: a step of the clock moves the expiry of a zone that was stored before it
        return Stored(loaded.zone, max(0.0, time.time() - changed))

    def write(self, zone: Zone, age: float = 0.0) -> None:
        """Replace the file of a zone that a primary server confirmed `age` seconds ago.

        Raises OSError, and leaves the old file then.
        """
        path = self.path(zone.origin)
        self.folder.mkdir(parents=True, exist_ok=True)
        confirmed = time.time() - age  # time of day: as in `read`, which subtracts it
        text = (line.encode() for line in zone_to_text(zone))
        with _writing:
            replace_file(path, text, mode=PUBLIC, modified=confirmed)

    def confirm(self, origin: bytes) -> bool:
        """Record that a primary server has confirmed the zone now; False if there is no file."""
        try:
            os.utime(self.path(origin))
        except FileNotFoundError:
            return False
        return True

    def remove(self, origin: bytes) -> None:
        """Remove the file of a zone, if there is one."""
        with contextlib.suppress(FileNotFoundError):
            self.path(origin).unlink()
