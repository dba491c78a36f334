"""Queries to primary servers: the serial of a zone, and the transfer of the zone.

A transfer runs in a thread, because its records take longer to read than a query may wait.
"""

from __future__ import annotations

import secrets
import socket
import time
from dataclasses import dataclass
from struct import Struct
from typing import TYPE_CHECKING, Final

from corepy.dns.constants import (
    CLASS_IN,
    FLAG_AA,
    NOERROR,
    TYPE_AXFR,
    TYPE_IXFR,
    TYPE_SOA,
    rcode_name,
)
from corepy.dns.form_error import FormError
from corepy.dns.rdata import plain_records
from corepy.dns.tsig_exchange import SignedExchange
from corepy.dns.wire import ANSWER
from corepy.net.frames import frame
from corepy.net.server_exchange import answers, exchange_tcp, exchange_udp
from corepy.zone import ZoneError
from corepy_secondary.incoming import IncomingTransfer, TransferError

if TYPE_CHECKING:
    from corepy.dns.tsig import TSIGKey
    from corepy.plugin.server_options import ServerAddress
    from corepy.zone import Zone

UDP_TIMEOUTS: Final = (1.0, 2.0)
"""Seconds to wait for the reply to each query over UDP, before TCP is tried."""

TCP_TIMEOUT: Final = 5.0
"""Seconds to connect to a primary server, and to get the reply to a query over TCP."""

MESSAGE_TIMEOUT: Final = 60.0
"""Seconds for a primary server to send the next message of a transfer."""

LONGEST: Final = 3600.0
"""Seconds of the longest transfer."""

MOST_BYTES: Final = 128 * 1024 * 1024
"""Bytes of the largest transfer: about three million records."""

_TC: Final = 0x02
_pack_header = Struct("!HHHHHH").pack
_pack_question = Struct("!HH").pack


@dataclass(frozen=True, slots=True)
class Primary:
    """A server that has the zone, and the key to talk to it."""

    address: ServerAddress
    key: TSIGKey | None = None

    def __str__(self) -> str:
        return str(self.address)


def make_query(origin: bytes, qtype: int, soa: bytes = b"") -> bytes:
    """Return a query for a zone, with the SOA record of the client's version, if given."""
    header = _pack_header(secrets.randbits(16), 0, 1, 0, 1 if soa else 0, 0)
    return header + origin + _pack_question(qtype, CLASS_IN) + soa


async def fetch_serial(primary: Primary, origin: bytes) -> int:
    """Return the serial of a zone at a primary server, over UDP, else over TCP.

    Knot DNS answers queries for a catalog zone over TCP only, and REFUSED over UDP. Raises
    TransferError, FormError, TSIGError, OSError and TimeoutError.
    """
    for timeout in UDP_TIMEOUTS:
        try:
            return await _serial_of(primary, origin, timeout, over_udp=True)
        except TimeoutError:
            continue
        except (OSError, TransferError):
            break
    return await _serial_of(primary, origin, TCP_TIMEOUT, over_udp=False)


async def _serial_of(primary: Primary, origin: bytes, timeout: float, *, over_udp: bool) -> int:
    query = make_query(origin, TYPE_SOA)
    is_reply = answers(query, len(query))
    signer = None if primary.key is None else SignedExchange(primary.key)
    wire = query if signer is None else signer.sign(query)
    if over_udp:
        reply = await exchange_udp(wire, primary.address, is_reply, timeout)
    else:
        reply = await exchange_tcp(wire, primary.address, timeout)
    if signer is not None:
        reply = signer.verify(reply)
    if not is_reply(reply):
        raise TransferError("the reply to the query for the SOA record answers another query")
    if over_udp and reply[2] & _TC:
        raise TransferError("the reply over UDP is truncated")
    return _read_serial(reply, origin)


def _read_serial(reply: bytes, origin: bytes) -> int:
    """Return the serial in the reply to a SOA query."""
    rcode = reply[3] & 15
    if rcode != NOERROR:
        raise TransferError(f"the server answered {rcode_name(rcode)} to the query for the SOA")
    if not reply[2] << 8 & FLAG_AA:
        raise TransferError("the server is not authoritative for the zone")
    start = TYPE_SOA.to_bytes(2, "big") + CLASS_IN.to_bytes(2, "big")
    for record in plain_records(reply, ANSWER):
        name = record[: len(origin)].lower()
        if (
            name == origin
            and record[len(origin) :].startswith(start)
            and len(record) >= len(origin) + 32
        ):
            return int.from_bytes(record[-20:-16], "big")
    raise TransferError("the server has no SOA record of the zone")


class Transfer:
    """The transfer of one zone from one primary server; `run` it in a thread."""

    def __init__(self, primary: Primary, origin: bytes, base: Zone | None) -> None:
        """Transfer the changes since `base`, or the whole zone."""
        self._primary = primary
        self._origin = origin
        self._base = base
        self._socket: socket.socket | None = None
        self._is_cancelled = False
        self.is_incremental = False
        """Whether changes were transferred."""
        self.left_out = 0
        """The number of records that were not in the zone."""
        self.problem = ""
        """Why the changes that the server sent could not be used, "" if they could."""

    def cancel(self) -> None:
        """Close the connection, from another thread."""
        self._is_cancelled = True
        sock = self._socket
        if sock is not None:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                return  # it is not connected any more

    def run(self) -> Zone | None:
        """Return the new version, None if the server has the version `base`.

        If the server does not send usable changes, the whole zone is transferred (RFC 1995 section
        4). Raises TransferError, FormError, TSIGError, OSError and `corepy.zone.ZoneError`.
        """
        if self._base is not None:
            try:
                return self._attempt(TYPE_IXFR, self._base)
            except (TransferError, FormError, ZoneError) as error:
                if self._is_cancelled:
                    raise
                self.problem = str(error)
        return self._attempt(TYPE_AXFR, self._base)

    def _attempt(self, qtype: int, base: Zone | None) -> Zone | None:
        soa = base.soa_record if base is not None and qtype == TYPE_IXFR else b""
        query = make_query(self._origin, qtype, soa)
        incoming = IncomingTransfer(query, self._origin, base)
        key = self._primary.key
        signer = None if key is None else SignedExchange(key)
        wire = query if signer is None else signer.sign(query)
        end = time.monotonic() + LONGEST
        size = 0
        with socket.create_connection(self._primary.address, TCP_TIMEOUT) as sock:
            self._socket = sock
            if self._is_cancelled:
                raise TransferError("the transfer was cancelled")
            sock.sendall(frame(wire))
            while not incoming.is_complete:
                message = self._read(sock)
                size += len(message)
                if size > MOST_BYTES or time.monotonic() > end:
                    raise TransferError(f"the transfer is too long: {size} bytes were received")
                incoming.feed(message if signer is None else signer.verify(message))
        if signer is not None:
            signer.finish()
        self.left_out = incoming.left_out
        self.is_incremental = not incoming.is_whole
        return incoming.build()

    def _read(self, sock: socket.socket) -> bytes:
        """Return the next message."""
        deadline = time.monotonic() + MESSAGE_TIMEOUT
        length = int.from_bytes(self._read_bytes(sock, 2, deadline), "big")
        return self._read_bytes(sock, length, deadline)

    def _read_bytes(self, sock: socket.socket, number: int, deadline: float) -> bytes:
        """Return a number of bytes; a server that sends few at a time has no more time for it."""
        data = b""
        while len(data) < number:
            left = deadline - time.monotonic()
            try:
                sock.settimeout(max(left, 0.0))  # 0 does not wait
                part = sock.recv(number - len(data))
            except (TimeoutError, BlockingIOError):
                problem = f"a message was not sent within {MESSAGE_TIMEOUT:g} seconds"
                raise TransferError(problem) from None
            if self._is_cancelled:
                raise TransferError("the transfer was cancelled")
            if not part:
                raise TransferError("the connection was closed before the end of the zone")
            data += part
        return data
