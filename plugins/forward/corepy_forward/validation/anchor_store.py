"""Reads and writes the file with the states of keys (RFC 5011); both functions block.

The file is JSON. It is replaced at once, so that a reader finds the old one or the new one.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import threading
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from corepy.dns.constants import TYPE_DNSKEY, TYPE_DS
from corepy.dns.names import from_text, to_text
from corepy.dns.presentation import rdata_from_text, rdata_to_text
from corepy.plugin.reading import FileVersion, file_version
from corepy_forward.validation.anchor import key_tag, without_revocation
from corepy_forward.validation.anchor_states import MOST_KEYS, State, TrackedKey

if TYPE_CHECKING:
    from pathlib import Path

    from corepy_forward.validation.anchor_states import Keys

FORMAT: Final = "corepy trust anchors 1"
MOST_BYTES: Final = 1 << 20
_END_OF_TIME: Final = 1 << 37  # in the year 6325; later ones cannot be shown
_WRITABLE_BY_OTHERS: Final = 0o022
_READ_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_WRITE_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_writing: Final = threading.Lock()


class StateError(ValueError):
    """The file cannot be used; the message contains the reason."""

    def __init__(self, message: str, is_foreign: bool = False) -> None:
        """Store whether the file is that of another program, and must not be replaced."""
        super().__init__(message)
        self.is_foreign = is_foreign


class ZoneState(NamedTuple):
    """What the file has of one zone."""

    origins: frozenset[bytes]
    """The anchors that were configured when the file was written, as DS records."""

    keys: Keys


Zones = dict[bytes, ZoneState]
"""States by the zone's name in wire form and lower case."""


class Stored(NamedTuple):
    """The content of the file."""

    zones: Zones
    version: FileVersion | None


def read_states(path: Path) -> Stored:
    """Return the states in a file; none if there is no file. Raises `StateError`."""
    try:
        content, version = _content(path)
    except FileNotFoundError:
        return Stored({}, None)
    except OSError as error:
        is_link = error.errno == errno.ELOOP
        reason = "it is a symbolic link" if is_link else str(error.strerror)
        raise StateError(reason, is_foreign=True) from None
    if not content:
        return Stored({}, version)
    try:
        return Stored(_zones(json.loads(content)), version)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        is_foreign = FORMAT.encode() not in content[:100]
        reason = "it is another program's file" if is_foreign else "it is damaged"
        raise StateError(reason, is_foreign) from None


def _content(path: Path) -> tuple[bytes, FileVersion | None]:
    version = file_version(path)
    descriptor = os.open(path, _READ_FLAGS)
    try:
        _check(os.fstat(descriptor))
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(MOST_BYTES), version
    finally:
        os.close(descriptor)


def _check(status: os.stat_result) -> None:
    """Raise `StateError` for a file whose content cannot be trusted."""
    if not stat.S_ISREG(status.st_mode):
        raise StateError("it is not a regular file", is_foreign=True)
    if status.st_uid not in (os.geteuid(), 0):
        raise StateError("it belongs to another user", is_foreign=True)
    if status.st_mode & _WRITABLE_BY_OTHERS:
        raise StateError("other users may write it", is_foreign=True)
    if status.st_size > MOST_BYTES:
        raise StateError(f"it has {status.st_size} bytes, more than {MOST_BYTES}", is_foreign=True)


def _zones(data: dict[str, Any]) -> Zones:
    """Return the states in decoded JSON; raises one of several exceptions if it is not valid."""
    if data["format"] != FORMAT:
        raise ValueError(data["format"])
    return {from_text(name).lower(): _zone(zone) for name, zone in data["zones"].items()}


def _zone(data: dict[str, Any]) -> ZoneState:
    keys = dict(_key(key) for key in data["keys"][:MOST_KEYS])
    return ZoneState(frozenset(rdata_from_text(TYPE_DS, it) for it in data["anchors"]), keys)


def _key(data: dict[str, Any]) -> tuple[bytes, TrackedKey]:
    key = rdata_from_text(TYPE_DNSKEY, data["dnskey"])
    if key != without_revocation(key):
        raise ValueError("a key is stored without the flag REVOKE")
    return key, TrackedKey(State(data["state"]), _time(data["since"]), _time(data["until"]))


def _time(value: object) -> int:
    if type(value) is not int or not 0 <= value < _END_OF_TIME:
        raise ValueError("not a time")
    return value


def _as_data(zones: Zones) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "zones": {
            to_text(name): {
                "anchors": [rdata_to_text(TYPE_DS, it) for it in sorted(zone.origins)],
                "keys": [
                    {
                        "dnskey": rdata_to_text(TYPE_DNSKEY, key),
                        "tag": key_tag(key),
                        "state": it.state.value,
                        "since": it.since,
                        "until": it.until,
                    }
                    for key, it in zone.keys.items()
                ],
            }
            for name, zone in sorted(zones.items())
        },
    }


def write_states(path: Path, zones: Zones) -> FileVersion | None:
    """Replace the file, and return its version; raises OSError, and leaves the old file then."""
    text = json.dumps(_as_data(zones), indent=1) + "\n"
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with _writing:
        with contextlib.suppress(FileNotFoundError):  # of a process with the same ID, which crashed
            unfinished.unlink()
        try:
            descriptor = os.open(unfinished, _WRITE_FLAGS, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        finally:
            with contextlib.suppress(OSError):  # it was renamed
                unfinished.unlink()
        return file_version(path)
