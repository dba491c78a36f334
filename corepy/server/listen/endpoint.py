"""One listen address: its UDP and TCP socket, and the listeners that answer there.

Endpoints outlive generations. A reload replaces the router of the endpoints that stay, between two
turns of the event loop, so no query meets a closed socket or half of a configuration.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from corepy.net.inherited import Key
from corepy.net.sockets import Address, open_pair, open_tcp, open_udp, prepare_udp
from corepy.plugin import Timeouts
from corepy.server.listen.tcp import TCPListener
from corepy.server.listen.udp import UDPListener

if TYPE_CHECKING:
    import socket

    from corepy.net.datagrams import Datagrams
    from corepy.net.inherited import Sockets
    from corepy.plugin import BlockConfig
    from corepy.server.listen.chain_runner import ChainTask
    from corepy.server.listen.packet_cache import MemoryPool
    from corepy.server.listen.router import Router


class Listen(NamedTuple):
    """An address that a generation listens on."""

    transport: str
    host: str
    port: int

    def label(self, port: int | None = None) -> str:
        """Return CoreDNS's name for the server, "dns://127.0.0.1:53"; `port` replaces port 0."""
        return f"{self.transport}://{Address(self.host, self.port if port is None else port)}"


class Endpoint:
    """The open sockets of one `Listen`.

    With *multisocket*, the sockets of one shard in their group.
    """

    def __init__(
        self,
        listen: Listen,
        batch: Datagrams,
        memory_pool: MemoryPool,
        inherited: Sockets | None = None,
        *,
        port: int | None = None,
        shard: int = 0,
    ) -> None:
        """Take the sockets from `inherited`, or open them.

        `port` is the port that the kernel chose for port 0; `shard` is counted from 0. Raises
        `corepy.net.sockets.BindError`.
        """
        wanted = inherited or {}
        address = Address(listen.host, listen.port if port is None else port)
        keys = Key("udp", address, shard), Key("tcp", address, shard)
        self.kept = set(keys) <= wanted.keys()
        """Whether the manager keeps the sockets open for the next process."""
        udp, tcp, self._lent = _sockets(*keys, wanted)
        self.listen = listen
        self.shard = shard
        self.sockets = (udp, tcp)
        self.port: int = udp.getsockname()[1]
        self.label = listen.label(self.port)
        self.udp = UDPListener(udp, batch, memory_pool, self.label, wildcard=not listen.host)
        self.tcp = TCPListener(tcp, memory_pool, self.label)
        self._started = self._stopped = False

    def swap(self, router: Router, config: BlockConfig) -> None:
        """Use `router` and `config` from the next query on."""
        self.udp.pipeline.swap(router)
        self.tcp.pipeline.swap(router)
        self.tcp.timeouts = config.get(Timeouts)

    def forget(self) -> None:
        """Empty the packet caches."""
        self.udp.pipeline.packets.clear()
        self.tcp.pipeline.packets.clear()

    def start(self) -> None:
        """Start answering; does nothing if it has started or was stopped."""
        if not self._started and not self._stopped:
            self._started = True
            self.udp.start()
            self.tcp.start()

    def pause(self) -> None:
        """Leave new queries to the process that answers at the same sockets from now on."""
        if self._started:
            self._started = False
            self.udp.pause()
            self.tcp.pause()
            self.forget()

    def waiting(self) -> set[ChainTask]:
        """Return the queries that have no answer yet."""
        return self.udp.runner.waiting | self.tcp.waiting()

    def stop(self) -> None:
        """Accept no new queries; those already accepted are still answered.

        Queries in the queue of a kept or lent socket stay there for the next process that uses it.
        """
        self._stopped = True
        leave_queue = self.kept or self._lent
        self.udp.stop(leave_queue=leave_queue)
        self.tcp.stop(leave_queue=leave_queue)

    def close(self) -> None:
        """Close the sockets."""
        self.udp.runner.cancel()
        self.udp.close()
        self.tcp.close()


def _sockets(
    for_udp: Key, for_tcp: Key, inherited: Sockets
) -> tuple[socket.socket, socket.socket, bool]:
    """Return the UDP and the TCP socket, and whether the manager lent one of them.

    Sockets taken from `inherited` are removed from it.
    """
    address = for_udp.address
    udp, tcp = inherited.pop(for_udp, None), inherited.pop(for_tcp, None)
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


async def drained(queries: set[ChainTask], leaving: list[Endpoint], timeout: float) -> int:
    """Wait until all `queries` are answered and all connections of `leaving` are closed.

    Waits at most `timeout` seconds; returns the number of queries still pending then.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    while loop.time() < deadline:
        queries = {query for query in queries if not query.is_done}
        if not queries and all(endpoint.tcp.is_drained for endpoint in leaving):
            return 0
        await asyncio.sleep(0.005)
    return len(queries)
