"""One address that is listened on: its UDP and TCP sockets, and who answers.

Endpoints outlive generations. A reload puts another router into those that stay, between two turns
of the event loop, so no query meets a closed socket or half of a configuration.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from corepy.net.sockets import Address, open_pair, open_tcp, open_udp, prepare_udp
from corepy.server.tcp import TCPListener
from corepy.server.udp import UDPListener

if TYPE_CHECKING:
    import socket

    from corepy.net.datagrams import Datagrams
    from corepy.net.inherited import Sockets
    from corepy.plugin import BlockConfig
    from corepy.server.packet_cache import Room
    from corepy.server.query import Query
    from corepy.server.router import Router


class Listen(NamedTuple):
    """What a generation wants to listen on."""

    transport: str
    host: str
    port: int

    def label(self, port: int | None = None) -> str:
        """Return CoreDNS's name for the server, "dns://127.0.0.1:53"; `port` replaces port 0."""
        return f"{self.transport}://{Address(self.host, self.port if port is None else port)}"


class Endpoint:
    """The open sockets of one `Listen`."""

    def __init__(
        self, listen: Listen, batch: Datagrams, room: Room, inherited: Sockets | None = None
    ) -> None:
        """Take the sockets from `inherited`, or open them; raises
        `corepy.net.sockets.BindError`.
        """
        wanted = inherited or {}
        address = Address(listen.host, listen.port)
        self.kept = {("udp", address), ("tcp", address)} <= wanted.keys()
        """Whether somebody else keeps the sockets open, for a process that follows this one."""
        udp, tcp, self._lent = _sockets(address, wanted)
        self.listen = listen
        self.sockets = (udp, tcp)
        self.port: int = udp.getsockname()[1]
        self.label = listen.label(self.port)
        self.udp = UDPListener(udp, batch, room, self.label, wildcard=not listen.host)
        self.tcp = TCPListener(tcp, room, self.label)
        self._started = False

    def swap(self, router: Router, settings: BlockConfig) -> None:
        """Answer by `router` from the next query on."""
        self.udp.answers.swap(router)
        self.tcp.answers.swap(router)
        self.tcp.settings = settings

    def forget(self) -> None:
        """Empty the packet caches."""
        self.udp.answers.packets.clear()
        self.tcp.answers.packets.clear()

    def start(self) -> None:
        """Begin to answer; nothing happens if it has begun already."""
        if not self._started:
            self._started = True
            self.udp.start()
            self.tcp.start()

    def waiting(self) -> set[Query]:
        """Return the queries that have no answer yet."""
        return self.udp.runner.waiting | self.tcp.waiting()

    def stop(self) -> None:
        """Take no new work; what was accepted goes on.

        Sockets that are kept, or were only lent to us, stay as they are: somebody goes on with
        them, or may want to.
        """
        leave_queue = self.kept or self._lent
        self.udp.stop(leave_queue=leave_queue)
        self.tcp.stop(leave_queue=leave_queue)

    def close(self) -> None:
        """Close the sockets."""
        self.udp.runner.cancel()
        self.udp.close()
        self.tcp.close()


def _sockets(address: Address, inherited: Sockets) -> tuple[socket.socket, socket.socket, bool]:
    """Return the UDP and the TCP socket, and whether one of them was lent to us.

    What is taken from `inherited` is removed there.
    """
    udp = inherited.pop(("udp", address), None)
    tcp = inherited.pop(("tcp", address), None)
    if udp is None and tcp is None:
        return *open_pair(address), False
    if udp is not None:
        prepare_udp(udp.sock, wildcard=not address.host)
    lent = any(one is not None and one.lent for one in (udp, tcp))
    return (
        udp.sock if udp else open_udp(address, free=True),
        tcp.sock if tcp else open_tcp(address, free=True),
        lent,
    )


async def drained(queries: set[Query], leaving: list[Endpoint], timeout: float) -> int:
    """Wait until none of `queries` waits, nor any connection of `leaving` is open.

    At most `timeout` seconds; returns how many queries still wait then.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    while loop.time() < deadline:
        queries = {query for query in queries if not query.is_done}
        if not queries and all(endpoint.tcp.is_drained for endpoint in leaving):
            return 0
        await asyncio.sleep(0.005)
    return len(queries)
