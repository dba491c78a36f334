"""Reads databases of the MaxMind DB format.

A database is used from a copy in memory. A file that is mapped into memory instead would end the
process (SIGBUS) as soon as another program shortens it, as `cp` does when it replaces the content.
The copy is in an anonymous file, because the fast reader of the library takes only file names.
"""

from __future__ import annotations

import os
import stat
import struct
from typing import TYPE_CHECKING, Any, Final

import maxminddb

from corepy.plugin import plugin_logger
from corepy_geoip.labels import ASN, CITY, asn_labels, city_labels

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LARGEST: Final = 1024 * 1024 * 1024
"""Bytes of the largest database that is loaded."""

_PROBE: Final = "127.0.0.1"
_BROKEN: Final = (
    *(maxminddb.InvalidDatabaseError, ValueError, TypeError, LookupError, AttributeError),
    *(struct.error, RecursionError),
)
"""The exceptions of the library for damaged content."""

LOG: Final = plugin_logger("geoip")


class Database:
    """An open database; a look-up returns labels."""

    def __init__(self, content: bytes) -> None:
        """Copy and open `content`; raises `ValueError` if it is no database with known labels."""
        try:
            self._reader: Any = _open(content)
            self._make = _labels_of(self._reader)
        except _BROKEN as error:
            raise ValueError(f"not a usable database: {_problem(error)}") from None
        self._is_damaged = False

    def labels(self, address: str) -> dict[str, str]:
        """Return the labels of an IP address, none at all if it cannot be looked up.

        A database for IPv4 cannot look up IPv6 addresses. Damaged data is logged once.
        """
        try:
            return self._make(self._reader.get(address))
        except _BROKEN as error:
            if type(error) is ValueError:  # not a UnicodeDecodeError, which damaged text causes
                LOG.debug("%s", error)
            elif not self._is_damaged:
                self._is_damaged = True
                LOG.error("the database is damaged; not all clients have labels: %s", error)
        return {}


def _open(content: bytes) -> Any:
    descriptor = os.memfd_create("corepy-geoip", os.MFD_CLOEXEC)
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(content)
        return maxminddb.open_database(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _labels_of(reader: Any) -> Callable[[object], dict[str, str]]:
    """Return the function that makes the labels of a record.

    One address is looked up, as CoreDNS does. Raises `ValueError` for a database of another type,
    and the exceptions in `_BROKEN`.
    """
    kind = str(reader.metadata().database_type)
    make = city_labels if kind in CITY else asn_labels if kind in ASN else None
    if make is None:
        raise ValueError(f"a database of type {kind!r} has neither locations nor networks")
    make(reader.get(_PROBE))
    return make


def examine(path: Path) -> None:
    """Raise `OSError` or `ValueError` if a file is no database with known labels.

    Little of it is read: the metadata, and one record.
    """
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("not a regular file")
    if not status.st_size:
        raise ValueError("the file is empty")
    try:
        with maxminddb.open_database(path, maxminddb.MODE_FILE) as reader:
            _labels_of(reader)
    except _BROKEN as error:
        raise ValueError(_problem(error)) from None


def _problem(error: Exception) -> str:
    """Return the text of an exception in `_BROKEN`, but not one with the name of the copy."""
    text = str(error)
    is_vague = isinstance(error, TypeError) or text.startswith("Error opening database file")
    return "not a file in the MaxMind DB format" if is_vague else text
