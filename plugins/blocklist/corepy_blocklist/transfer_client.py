"""Transfers a zone from its primary server (AXFR over TCP, RFC 5936), in a thread.

It reads and checks each message as it arrives, so a zone of any size takes the memory of its
records. There are no signatures: the primary server is trusted by its address.
"""

from __future__ import annotations

import secrets
import socket
import time
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

from corepy.dns import constants as c
from corepy.dns.form_error import FormError
from corepy.dns.message import query
from corepy.dns.names import to_text
from corepy.dns.presentation import Record
from corepy.dns.rdata import plain_records
from corepy.dns.wire import ANSWER, read_name
from corepy.plugin.filedata import LARGEST
from corepy.zone import is_newer
from corepy_blocklist.zone_text import ZoneError, ZoneRecord

if TYPE_CHECKING:
    from collections.abc import Iterator

    from corepy.plugin.server_options import ServerAddress

IO_TIMEOUT: Final = 10.0
"""Seconds without any bytes after which a transfer fails."""

MESSAGE_TIMEOUT: Final = 60.0
"""Seconds for a primary server to send one message, however few bytes it sends at a time."""

LONGEST: Final = 3600.0
"""Seconds of the longest transfer."""

_FIXED: Final = Struct("!HHIH")
_TIMES: Final = Struct("!IIIII")
_LENGTH: Final = Struct("!H")
_SOA: Final = c.TYPE_SOA
_TC: Final = 0x02
_QR: Final = 0x80


class TransferError(Exception):
    """A primary server has not sent a usable zone."""


class Timers(NamedTuple):
    """The numbers of an SOA record; times in seconds."""

    serial: int
    refresh: int
    retry: int


def fetch_zone(
    zone: bytes, primary: ServerAddress, serial: int | None
) -> tuple[Timers, bytes | None]:
    """Return the timers of a zone, and its records in wire form; None if it is not newer.

    `serial` is that of the present version, None without one. Raises TransferError and OSError.
    """
    with socket.create_connection(primary, timeout=IO_TIMEOUT) as connection:
        try:
            if serial is not None:
                timers = _timers(next(_ask(connection, zone, c.TYPE_SOA), b""))
                if not is_newer(timers.serial, serial):
                    return timers, None
            return _transfer(connection, zone)
        except FormError as error:
            raise TransferError(f"a message is malformed: {error}") from None


def _transfer(connection: socket.socket, zone: bytes) -> tuple[Timers, bytes]:
    content = bytearray()
    timers: Timers | None = None
    for record in _ask(connection, zone, c.TYPE_AXFR):
        if _is_soa_of(record, zone):
            if timers is not None:
                if _timers(record).serial != timers.serial:
                    raise TransferError("the zone has changed during the transfer")
                return timers, bytes(content)
            timers = _timers(record)
        elif timers is None:
            raise TransferError("the transfer does not begin with the SOA record of the zone")
        content += record
        if len(content) > LARGEST:
            raise TransferError(f"the zone is larger than {LARGEST >> 20} MiB")
    raise TransferError("the transfer has no end")


def _ask(connection: socket.socket, zone: bytes, qtype: int) -> Iterator[bytes]:
    """Yield the records in the answers to a query, until the caller has enough."""
    ident = secrets.randbits(16)
    message = query(zone, qtype, ident=ident, flags=0)
    connection.sendall(_LENGTH.pack(len(message)) + message)
    end = time.monotonic() + LONGEST
    while True:
        deadline = min(end, time.monotonic() + MESSAGE_TIMEOUT)
        size = _LENGTH.unpack(_read(connection, 2, deadline))[0]
        wire = _read(connection, size, deadline)
        if len(wire) < c.HEADER_SIZE or wire[:2] != message[:2] or not wire[2] & _QR:
            raise TransferError("a message is not a reply to the query")
        if wire[3] & 15 or wire[2] & _TC:
            rcode = c.rcode_name(wire[3] & 15)
            raise TransferError(f"the server answers {rcode} for {to_text(zone)}")
        records = list(plain_records(wire, ANSWER))
        if not records:
            raise TransferError(f"the server has no records of {to_text(zone)}")
        yield from records


def _read(connection: socket.socket, size: int, deadline: float) -> bytes:
    """Return exactly `size` bytes, before a monotonic time; raises TransferError and OSError."""
    content = bytearray()
    while len(content) < size:
        if time.monotonic() >= deadline:
            raise TransferError("the server sends too slowly")
        piece = connection.recv(size - len(content))
        if not piece:
            raise TransferError("the server closes the connection before the end")
        content += piece
    return bytes(content)


def _is_soa_of(record: bytes, zone: bytes) -> bool:
    owner, at = read_name(record, 0) if record else (b"", 0)
    return owner.lower() == zone and _FIXED.unpack_from(record, at)[0] == _SOA


def _timers(record: bytes) -> Timers:
    """Return the timers of an SOA record; raises TransferError for another record."""
    at = read_name(record, 0)[1] if record else 0
    if not record or _FIXED.unpack_from(record, at)[0] != _SOA or len(record) < _TIMES.size:
        raise TransferError("the server sends no SOA record")
    return Timers(*_TIMES.unpack(record[-_TIMES.size :])[:3])


def read_wire_records(content: bytes) -> Iterator[ZoneRecord]:
    """Yield the records of a transferred zone, each with its number as its line.

    Raises ZoneError.
    """
    at, end = 0, len(content)
    number = 0
    while at < end:
        number += 1
        try:
            owner, at = _uncompressed(content, at)
            rtype, rclass, ttl, length = _FIXED.unpack_from(content, at)
        except Exception:
            raise ZoneError(f"line {number}: the record is cut off") from None
        at += _FIXED.size + length
        yield ZoneRecord(number, Record(owner, ttl, rclass, rtype, content[at - length : at]))


def _uncompressed(content: bytes, at: int) -> tuple[bytes, int]:
    start = at
    while length := content[at]:
        at += length + 1
    return content[start : at + 1], at + 1
