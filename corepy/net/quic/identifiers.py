"""The connection IDs that a server gives to its clients (RFC 9000 section 5.1).

An ID begins with the number of the listener that has the connection, so a process that receives a
datagram of another process's connection knows where to pass it (`corepy.net.quic.datagram_relay`).
An observer can thus see which connections belong to the same process, but not which IDs belong to
the same connection.
"""

from __future__ import annotations

import hashlib
import os
from typing import Final

OWNER_SIZE: Final = 4
ID_SIZE: Final = 12
"""Size of all our connection IDs in bytes: the owner, and eight random bytes."""

SMALLEST_FIRST: Final = 1200
"""Bytes of the datagram with a client's first packet (RFC 9000 section 14.1)."""

SMALLEST_CHOSEN: Final = 8
"""Bytes of the ID that a client chooses for the server (RFC 9000 section 7.2)."""

RESET_TOKEN_SIZE: Final = 16
LONG_HEADER: Final = 0x80
FIXED_BIT: Final = 0x40
_LONG_ID: Final = 6
"""Offset of the destination connection ID behind its length in a long header (RFC 8999)."""


class Identifiers:
    """Makes the connection IDs of one listener."""

    def __init__(self, owner: bytes, secret: bytes) -> None:
        """`owner` is the number of the listener; all processes of a server have the `secret`."""
        self.owner = owner
        self.use(secret)

    def use(self, secret: bytes) -> None:
        """Derive the tokens of later IDs from another secret."""
        self._secret = hashlib.blake2s(secret, person=b"cid").digest()

    def new(self) -> bytes:
        """Return a new connection ID."""
        return self.owner + os.urandom(ID_SIZE - OWNER_SIZE)

    def reset_token(self, connection_id: bytes) -> bytes:
        """Return the token with which any process of the server can end a connection.

        Tokens are not stored: they are derived from the ID (RFC 9000 section 10.3.2).
        """
        digest = hashlib.blake2s(connection_id, digest_size=RESET_TOKEN_SIZE, key=self._secret)
        return digest.digest()


def new_owner() -> bytes:
    """Return a number for a listener, which is probably not in use."""
    return os.urandom(OWNER_SIZE)


def token_in(datagram: bytes) -> bytes:
    """Return the token of a client's first packet; for other packets, any part of them.

    The layout is that of versions 1 and 2 (RFC 9000 section 17.2.2).
    """
    if len(datagram) < SMALLEST_FIRST or not datagram[0] & LONG_HEADER:
        return b""
    start = _LONG_ID + datagram[_LONG_ID - 1]
    start += 1 + datagram[start]
    size = 1 << (datagram[start] >> 6)
    length = int.from_bytes(datagram[start : start + size], "big") & ((1 << (8 * size - 2)) - 1)
    return datagram[start + size : start + size + length]


def destination(datagram: bytes) -> bytes:
    """Return the destination connection ID of a datagram; it may be cut off.

    The layout is the same in all versions of QUIC (RFC 8999 section 5).
    """
    if not datagram:
        return b""
    if datagram[0] & LONG_HEADER:
        size = datagram[_LONG_ID - 1] if len(datagram) >= _LONG_ID else 0
        return datagram[_LONG_ID : _LONG_ID + size]
    return datagram[1 : 1 + ID_SIZE]
