"""A query that the listener itself answers, for checks of plain DNS over UDP and TCP.

It is a message of opcode STATUS, which is answered with NOTIMP: no plugin handles it and no
upstream is needed, yet it passes through the kernel, the socket and the event loop.
"""

from __future__ import annotations

import asyncio
import os
import socket

from corepy.net.frames import frame
from corepy.net.own_connections import own_connection

_STATUS = b"\x10\0\0\0\0\0\0\0\0\0"


def status_query() -> bytes:
    """Return a query of opcode STATUS with a random ID."""
    return os.urandom(2) + _STATUS


def is_probe(message: bytes) -> bool:
    """Return whether a message is such a query. Its reply has the same size."""
    return message[2:] == _STATUS


async def is_answered(address: tuple[str | int, ...], kind: socket.SocketKind) -> bool:
    """Send a query of opcode STATUS to `address`; return whether the reply is an answer to it."""
    loop = asyncio.get_running_loop()
    question = status_query()
    with own_connection(address, kind) as sock:
        await loop.sock_sendall(sock, question if kind == socket.SOCK_DGRAM else frame(question))
        start = await loop.sock_recv(sock, 4)  # over TCP, the length precedes the ID
    return question[:2] in start
