"""The client side of TLS for checks of this server's own encrypted listeners.

The client does not verify the certificate: it checks that the listener answers, not that other
clients would trust it.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from functools import lru_cache
from typing import Final

from corepy.net.own_connections import own_connection

_MOST: Final = 16 * 1024
_LINGER_NOT: Final = struct.pack("ii", 1, 0)  # no TIME_WAIT for each check


async def answers(
    address: tuple[str | int, ...], protocols: tuple[str, ...], request: bytes, start: bytes
) -> bool:
    """Send `request` over TLS to `address`; return whether `start` is in the first bytes received.

    An alert of the server counts as an answer: it may demand a certificate, which this client does
    not have. May raise OSError.
    """
    with own_connection(address, socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        try:
            client = _Client(sock, protocols)
            await client.shake_hands()
            return start in await client.exchange(request)
        except ssl.SSLError as error:
            return "_ALERT_" in (error.reason or "")


class _Client:
    def __init__(self, sock: socket.socket, protocols: tuple[str, ...]) -> None:
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = _context(protocols).wrap_bio(self._incoming, self._outgoing)

    async def shake_hands(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._continue()
            else:
                return

    async def exchange(self, request: bytes) -> bytes:
        self._tls.write(request)
        while True:
            try:
                return self._tls.read(_MOST)
            except ssl.SSLWantReadError:
                await self._continue()

    async def _continue(self) -> None:
        """Send all that there is to send, and receive more."""
        await self._loop.sock_sendall(self._sock, self._outgoing.read())
        received = await self._loop.sock_recv(self._sock, _MOST)
        if not received:
            raise ConnectionResetError("the connection was closed")
        self._incoming.write(received)


@lru_cache(maxsize=8)
def _context(protocols: tuple[str, ...]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(list(protocols))
    return context
