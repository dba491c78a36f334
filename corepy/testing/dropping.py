"""Detects that a server drops a query, without waiting for a timeout."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from corepy.net.frames import frame
from corepy.server.listen.status_query import status_query
from corepy.testing.client import read_frame

if TYPE_CHECKING:
    from collections.abc import Callable

    from corepy.testing.client import Address


def is_dropped(
    address: Address,
    wire: bytes,
    has_pending: Callable[[], bool],
    *,
    tcp: bool = False,
    timeout: float = 30.0,
) -> bool:
    """Send a query and return whether the server finishes it without a reply.

    Queries of opcode STATUS follow on the same socket. The server answers them itself, in the order
    of arrival, so the reply to the first one has the query before it processed or pending.
    `has_pending` returns whether the server has pending queries. Raises TimeoutError if the server
    sends nothing for `timeout` seconds.
    """
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    kind = socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM
    ident = wire[:2]
    status = bytes((ident[0], ident[1] ^ 1)) + status_query()[2:]
    with socket.socket(family, kind) as sock:
        sock.settimeout(timeout)
        sock.connect(address)
        sock.sendall(frame(wire) if tcp else wire)
        was_idle = False
        while True:
            sock.sendall(frame(status) if tcp else status)
            reply = read_frame(sock) if tcp else sock.recv(65535)
            if reply[:2] == ident:
                return False
            if was_idle:
                return True
            was_idle = not has_pending()
