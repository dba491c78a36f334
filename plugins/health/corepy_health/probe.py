"""Asking this server's own addresses, to know whether they still answer.

The question never enters a chain: it has an opcode that the server itself answers (STATUS, with
NOTIMP), so an upstream that is down, or a plugin that is slow, is not taken for a dead server. It
takes the way of every query through socket and event loop.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import time
from typing import TYPE_CHECKING, Final

from corepy.net.selfasking import connected

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

INTERVAL: Final = 1.0
"""Seconds between two questions."""

PATIENCE: Final = 0.9
"""Seconds that one question may take before it is asked again."""

PAUSE: Final = 0.1
"""Seconds after a failed question."""

DEAD_AFTER: Final = 2.0
"""Seconds without an answer after which an address is taken for dead."""

LAST_CHANCE: Final = 0.5
"""Seconds that an address gets to prove otherwise before that is said aloud: if everything was held
up, the questions were too.
"""

_OPCODE_STATUS: Final = 2 << 11
_LINGER_NOT: Final = struct.pack("ii", 1, 0)  # no TIME_WAIT for each question over TCP


class Target:
    """One address with one protocol, and when it last answered."""

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
        """Ask once; return whether there was an answer within `patience` seconds."""
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
        """Ask again and again."""
        while True:
            answered = await self.ask(PATIENCE)
            await asyncio.sleep(INTERVAL if answered else PAUSE)

    async def problem(self) -> str | None:
        """Return what is wrong with it, None if it answers."""
        if not self.is_late or await self.ask(LAST_CHANCE):
            return None
        seconds = time.monotonic() - self._answered
        return f"{self.label}: {self._reason} for {seconds:.1f} s"


def targets(addresses: list[str]) -> list[Target]:
    """Return what to ask for addresses such as "dns://127.0.0.1:53"."""
    found = []
    for address in addresses:
        transport, _, rest = address.partition("://")
        if transport == "dns":
            host, _, port = rest.rpartition(":")
            host = host.strip("[]") or "127.0.0.1"
            for protocol, ask in (("udp", ask_udp), ("tcp", ask_tcp)):
                found.append(Target(protocol, host, int(port), ask))
    return found


async def ask_udp(host: str, port: int) -> None:
    """Ask over UDP and wait for the answer; raises OSError."""
    loop, query = asyncio.get_running_loop(), _query()
    with _open(host, socket.SOCK_DGRAM) as sock, connected(sock, _sockaddr(host, port)):
        await loop.sock_sendall(sock, query)
        while not _answers(await loop.sock_recv(sock, 512), query):
            pass


async def ask_tcp(host: str, port: int) -> None:
    """Ask over a new TCP connection and wait for the answer; raises OSError."""
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
