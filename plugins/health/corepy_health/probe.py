"""Query this server's own addresses to check whether they still answer.

The query never enters a chain. It has an opcode that the server itself answers (STATUS, with
NOTIMP), so an unreachable upstream or a slow plugin does not make the server look dead. It passes
through socket and event loop like every query.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import struct
import time
from typing import TYPE_CHECKING, Final

from corepy.net.own_connections import connected

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

INTERVAL: Final = 1.0
"""Seconds between two queries."""

PATIENCE: Final = 0.9
"""Seconds that one query may take before it is repeated."""

PAUSE: Final = 0.1
"""Seconds after a failed query."""

DEAD_AFTER: Final = 2.0
"""Seconds without an answer after which an address is considered dead."""

LAST_CHANCE: Final = 0.5
"""Seconds for one more query before a failure is reported.

If the whole process was stalled, the queries of the self-check were stalled as well.
"""

_OPCODE_STATUS: Final = 2 << 11
_SETTINGS: Final = b"\0\0\0\4\0\0\0\0\0"
"""A SETTINGS frame of HTTP/2 without settings."""

_LINGER_NOT: Final = struct.pack("ii", 1, 0)  # no TIME_WAIT for each query over TCP


class Target:
    """One address with one protocol, and the time of its last answer."""

    def __init__(
        self, protocol: str, host: str, port: int, ask: Callable[[str, int], Awaitable[None]]
    ) -> None:
        self.label = f"{protocol} [{host}]:{port}" if ":" in host else f"{protocol} {host}:{port}"
        self._host = host
        self._port = port
        self._ask = ask
        self._answered = time.monotonic()
        self._reason = "no answer"

    @property
    def is_late(self) -> bool:
        """Whether it has not answered for too long."""
        return time.monotonic() - self._answered > DEAD_AFTER

    async def ask(self, patience: float) -> bool:
        """Send one query; returns whether it was answered within `patience` seconds."""
        try:
            async with asyncio.timeout(patience):
                await self._ask(self._host, self._port)
        except TimeoutError:
            self._reason = "no answer"
        except OSError as error:
            self._reason = os.strerror(error.errno) if error.errno else str(error)
        else:
            self._answered = time.monotonic()
            return True
        return False

    async def watch(self) -> None:
        """Query periodically."""
        while True:
            answered = await self.ask(PATIENCE)
            await asyncio.sleep(INTERVAL if answered else PAUSE)

    async def problem(self) -> str | None:
        """Return the problem with this address, None if it answers."""
        if not self.is_late or await self.ask(LAST_CHANCE):
            return None
        return self.status

    @property
    def status(self) -> str:
        """The reason of the last failure, and the time since the last answer."""
        seconds = time.monotonic() - self._answered
        return f"{self.label}: {self._reason} for {seconds:.1f} s"


def targets(addresses: list[str]) -> list[Target]:
    """Return the targets for addresses such as "dns://127.0.0.1:53"."""
    found = []
    for address in addresses:
        transport, _, rest = address.partition("://")
        host, _, port = rest.rpartition(":")
        host = host.strip("[]") or "127.0.0.1"
        for protocol, ask in _CLIENTS.get(transport, ()):
            found.append(Target(protocol, host, int(port), ask))
    return found


async def ask_udp(host: str, port: int) -> None:
    """Query over UDP and wait for the answer; raises OSError."""
    loop, query = asyncio.get_running_loop(), _query()
    with _open(host, socket.SOCK_DGRAM) as sock, connected(sock, _sockaddr(host, port)):
        await loop.sock_sendall(sock, query)
        while not _answers(await loop.sock_recv(sock, 512), query):
            pass


async def ask_tcp(host: str, port: int) -> None:
    """Query over a new TCP connection and wait for the answer; raises OSError."""
    loop, query = asyncio.get_running_loop(), _query()
    with _open(host, socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        with connected(sock, _sockaddr(host, port)):
            await loop.sock_sendall(sock, len(query).to_bytes(2, "big") + query)
            answer = b""
            while not _answers(answer[2:], query):
                piece = await loop.sock_recv(sock, 512)
                if not piece:
                    raise ConnectionResetError("connection closed without an answer")
                answer += piece


async def ask_tls(host: str, port: int) -> None:
    """Query over a new TLS connection and wait for the answer; raises OSError.

    A connection that the server closes counts as an answer: it may have no certificate yet.
    """
    from corepy.net.tls_probe import answers

    query = _query()
    framed = len(query).to_bytes(2, "big") + query
    with contextlib.suppress(ConnectionResetError):
        if not await answers(_sockaddr(host, port), ("dot",), framed, query[:2]):
            raise ConnectionAbortedError(errno.ECONNABORTED, "TLS failed")


async def ask_https(host: str, port: int) -> None:
    """Send a query of opcode STATUS over HTTP/1.1, which is refused; raises OSError."""
    query = _query()
    head = f"POST /dns-query HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(query)}\r\n\r\n"
    await _ask_http(host, port, "http/1.1", head.encode() + query, b"HTTP/1.1 400 ")


async def ask_grpc(host: str, port: int) -> None:
    """Begin a session of HTTP/2, and wait for the settings of the server; raises OSError."""
    request = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _SETTINGS
    await _ask_http(host, port, "h2", request, _SETTINGS[3:])


async def ask_quic(host: str, port: int) -> None:
    """Ask for the versions of QUIC and wait for the answer; raises OSError."""
    from corepy.net.quic.version_probe import is_answered

    if not await is_answered(_sockaddr(host, port)):
        raise ConnectionAbortedError(errno.ECONNABORTED, "QUIC failed")


async def _ask_http(host: str, port: int, protocol: str, request: bytes, start: bytes) -> None:
    """Send a request over TLS, and without it to a listener that has none; raises OSError.

    A connection that the server closes counts as an answer: it may have no certificate yet.
    """
    from corepy.net.http_probe import answers

    with contextlib.suppress(ConnectionResetError):
        for kind in (protocol, None):
            if await answers(_sockaddr(host, port), kind, request, start):
                return
        raise ConnectionAbortedError(errno.ECONNABORTED, "HTTP failed")


_CLIENTS: Final = {
    "dns": (("udp", ask_udp), ("tcp", ask_tcp)),
    "tls": (("tls", ask_tls),),
    "https": (("https", ask_https),),
    "grpc": (("grpc", ask_grpc),),
    "quic": (("quic", ask_quic),),
    "https3": (("https3", ask_quic),),
}
"""The protocols of each transport that is checked, with their clients."""


def _query() -> bytes:
    return os.urandom(2) + _OPCODE_STATUS.to_bytes(2, "big") + bytes(8)


def _answers(message: bytes, query: bytes) -> bool:
    return len(message) >= len(query) and message[:2] == query[:2] and message[2] & 0x80 != 0


def _open(host: str, kind: socket.SocketKind) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.socket(family, kind | socket.SOCK_NONBLOCK)


def _sockaddr(host: str, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
    """Return the address for connect(); a zone (fe80::1%eth0) becomes its number."""
    if ":" not in host:
        return host, port
    address, _, zone = host.partition("%")
    return address, port, 0, socket.if_nametoindex(zone) if zone else 0
