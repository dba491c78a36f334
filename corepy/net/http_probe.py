"""The client side of checks of HTTP listeners, with and without TLS."""

from __future__ import annotations

import asyncio
import socket

from corepy.net.own_connections import own_connection

_MOST = 4096


async def answers(
    address: tuple[str | int, ...], protocol: str | None, request: bytes, start: bytes
) -> bool:
    """Send `request` to `address`; return whether `start` is in the first bytes received.

    `protocol` is negotiated over TLS; None for a listener without TLS. May raise OSError.
    """
    if protocol is not None:
        from corepy.net import tls_probe

        return await tls_probe.answers(address, (protocol,), request, start)
    loop = asyncio.get_running_loop()
    with own_connection(address, socket.SOCK_STREAM) as sock:
        await loop.sock_sendall(sock, request)
        return start in await loop.sock_recv(sock, _MOST)
