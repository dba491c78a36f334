"""Kinds of clients: header flags, EDNS and transport of their queries.

`await CLIENTS["DO"].ask(server.address, name("www.example.org."))` returns its replies.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from corepy.testing.wire_message import COOKIE, DO, FLAGS, SUBNET, Message, Opt

if TYPE_CHECKING:
    from corepy.testing.client import Address


@dataclass(frozen=True)
class Client:
    """One kind of client; it sends `copies` of each query at once from one connection or port."""

    opt: Opt | None = None
    flags: str = "rd"
    tcp: bool = False
    copies: int = 1
    mixed_case: bool = False

    @property
    def limit(self) -> int:
        """Bytes of the largest reply that the client accepts."""
        if self.tcp:
            return 65535
        return 512 if self.opt is None else max(512, self.opt.size)

    def asks(self, name: bytes) -> bytes:
        """Return the name in the letter case that this client uses."""
        return bytes(
            byte - 32 if self.mixed_case and i % 2 and 97 <= byte <= 122 else byte
            for i, byte in enumerate(name)
        )

    def query(self, name: bytes, kind: int = 1) -> Message:
        """Return the client's query for `name` and the type `kind`, with a random ID."""
        flags = sum(FLAGS[flag] for flag in self.flags.split())
        question = (self.asks(name), kind, 1)
        return Message(secrets.randbelow(65536), flags, question=question, opt=self.opt)

    async def ask(self, address: Address, name: bytes, kind: int = 1) -> list[bytes]:
        """Return the replies to all copies, in the order of the copies; raises TimeoutError."""
        first = self.query(name, kind)
        queries = [replace(first, ident=first.ident ^ copy).pack() for copy in range(self.copies)]
        replies = await (_over_tcp if self.tcp else _over_udp)(address, queries)
        return [replies[query[:2]] for query in queries]


async def _over_udp(address: Address, queries: list[bytes]) -> dict[bytes, bytes]:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect(address)
        for query in queries:
            await loop.sock_sendall(sock, query)
        replies = [await loop.sock_recv(sock, 65535) for _ in queries]
    return {reply[:2]: reply for reply in replies}


async def _over_tcp(address: Address, queries: list[bytes]) -> dict[bytes, bytes]:
    reader, writer = await asyncio.open_connection(*address)
    try:
        writer.write(b"".join(len(query).to_bytes(2, "big") + query for query in queries))
        replies = []
        for _ in queries:
            length = int.from_bytes(await reader.readexactly(2), "big")
            replies.append(await reader.readexactly(length))
    finally:
        writer.close()
        await writer.wait_closed()
    return {reply[:2]: reply for reply in replies}


CLIENTS: Final = {
    "no EDNS": Client(),
    "EDNS": Client(Opt()),
    "DO": Client(Opt(flags=DO)),
    "CD": Client(flags="rd cd"),
    "AD": Client(flags="rd ad"),
    "client subnet": Client(Opt(options=((SUBNET, bytes.fromhex("00011800c63364")),))),
    "cookie": Client(Opt(options=((COOKIE, b"client-7"),))),
    "unknown option": Client(Opt(options=((65001, b"mine"),))),
    "512 bytes": Client(Opt(size=512)),
    "TCP": Client(tcp=True),
    "pipelined": Client(Opt(), tcp=True, copies=3),
    "mixed case": Client(mixed_case=True),
}
"""One client of each kind, by name."""
