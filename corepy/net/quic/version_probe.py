"""A packet that every QUIC server answers, for the server's checks of itself.

A packet of an unknown version gets the list of the server's versions (RFC 9000 section 6.1). It
passes through the kernel, the socket and the event loop, and costs no handshake.
"""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Final

from corepy.net.own_connections import own_connection

_UNKNOWN_VERSION: Final = b"\x1a\x2a\x3a\x4a"
"""Of the form that is reserved to force a negotiation (RFC 9000 section 15)."""

_SIZE: Final = 1200
_ID_SIZE: Final = 8


def probe() -> tuple[bytes, bytes]:
    """Return the packet, and the beginning of each answer to it."""
    to, source = os.urandom(_ID_SIZE), os.urandom(_ID_SIZE)
    length = bytes((_ID_SIZE,))
    packet = b"\xc0" + _UNKNOWN_VERSION + length + to + length + source
    return packet.ljust(_SIZE, b"\0"), bytes(4) + length + source + length + to


async def is_answered(address: tuple[str | int, ...]) -> bool:
    """Send the packet to `address`; return whether the reply is an answer to it."""
    loop = asyncio.get_running_loop()
    packet, expected = probe()
    with own_connection(address, socket.SOCK_DGRAM) as sock:
        await loop.sock_sendall(sock, packet)
        answer = await loop.sock_recv(sock, _SIZE)
    return answer[1:].startswith(expected)
