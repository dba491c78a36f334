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
            self.kind = str(self._reader.metadata().database_type)
            self._make = _labels_of(self.kind)
            self.labels(_PROBE)
        except _BROKEN as error:
            raise ValueError(f"not a usable database: {error}") from None

    def labels(self, address: str) -> dict[str, str]:
        """Return the labels of an IP address, none at all if it cannot be looked up.

        A database for IPv4 cannot look up IPv6 addresses. Raises maxminddb.InvalidDatabaseError for
        damaged data.
        """
        try:
            record = self._reader.get(address)
        except ValueError as error:
            LOG.debug("%s", error)
            return {}
        return self._make(record)


def _open(content: bytes) -> Any:
    descriptor = os.memfd_create("corepy-geoip", os.MFD_CLOEXEC)
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(content)
        return maxminddb.open_database(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _labels_of(kind: str) -> Callable[[object], dict[str, str]]:
    if kind in CITY:
        return city_labels
    if kind in ASN:
        return asn_labels
    raise ValueError(f"a database of type {kind!r} has neither locations nor networks")


def examine(path: Path) -> None:
    """Raise `OSError` or `ValueError` if a file is no database with known labels.

    Only its metadata are read.
    """
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("not a regular file")
    if not status.st_size:
        raise ValueError("the file is empty")
    try:
        with maxminddb.open_database(path, maxminddb.MODE_FILE) as reader:
            _labels_of(str(reader.metadata().database_type))
    except _BROKEN as error:
        raise ValueError(str(error)) from None
