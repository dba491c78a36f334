"""The sockets of a server: which are open, which generation answers there, who keeps them.

An endpoint stays open as long as a generation listens at its address. With several processes, each
also has the sockets of the others, at which it answers while they do not run. A manager, if there
is one, keeps copies of all sockets for the next process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from corepy.corefile.zones import DEFAULT_SCHEME
from corepy.net.datagrams import open_batch
from corepy.net.inherited import Manager
from corepy.net.sockets import Address, bound, leave_group
from corepy.server.listen.endpoint import Endpoint
from corepy.server.listen.packet_cache import MemoryPool
from corepy.server.traffic.traffic import Traffic
from corepy.server.workers.group import Endpoints, ServerProcessGroup

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable, Iterator

    from corepy.net.inherited import Sockets
    from corepy.server.build.generation import Generation
    from corepy.server.listen.endpoint import Listen
    from corepy.server.listen.waiting_query import WaitingQuery


class ServerSockets(Endpoints):
    """The endpoints of a process; `Server` decides when a generation uses them."""

    def __init__(
        self,
        inherited: Sockets | None,
        manager: Manager | None,
        process_group: ServerProcessGroup | None,
    ) -> None:
        """Begin without endpoints; see `Server` for the arguments."""
        self._inherited = inherited if inherited is not None else {}
        self._manager = manager or Manager({})
        self._process_group = process_group or ServerProcessGroup()
        self._batch = open_batch()
        self._memory_pool = MemoryPool()
        self.traffic = Traffic()
        """The queries of this process in figures."""
        self.traffic.before_tick = self.report_hits
        self.generation: Generation | None = None
        """The generation that answers."""
        self.endpoints: dict[Listen, Endpoint] = {}
        self.shared: dict[tuple[Listen, int], Endpoint] = {}
        """The sockets of other processes, at which this one answers while they do not run."""

    def adopt(self, endpoint: Endpoint) -> None:
        """Use an endpoint opened by the leader for the generation that is being prepared."""
        self.endpoints[endpoint.listen] = endpoint

    def new_endpoint(
        self, listen: Listen, inherited: Sockets, port: int | None = None, shard: int = 0
    ) -> Endpoint:
        """Return a new endpoint with the resources of this server; see `Endpoint`."""
        return Endpoint(
            listen,
            self._batch,
            self._memory_pool,
            inherited,
            port=port,
            shard=shard,
            traffic=self.traffic,
        )

    @property
    def memory_pool(self) -> MemoryPool:
        """The memory of the packet caches."""
        return self._memory_pool

    def report_hits(self) -> None:
        """Report the hits of all packet caches to their counters."""
        for endpoint in self.every_endpoint():
            endpoint.report_hits()

    def take_over_shard(self, shard: int) -> None:
        """Answer at the sockets of a shard whose process is not running."""
        for (_, there), endpoint in self.shared.items():
            if there == shard:
                endpoint.resume()

    def hand_back_shard(self, shard: int) -> None:
        """Stop answering at the sockets of a shard whose process is running."""
        for (_, there), endpoint in self.shared.items():
            if there == shard:
                endpoint.pause()

    def forget(self) -> None:
        """Empty all packet caches."""
        for endpoint in self.every_endpoint():
            endpoint.forget()

    def _waiting(self) -> set[WaitingQuery]:
        return {query for endpoint in self.every_endpoint() for query in endpoint.waiting()}

    def every_endpoint(self) -> Iterator[Endpoint]:
        """Yield the endpoints of this process, and those of others at which it may answer."""
        yield from self.endpoints.values()
        yield from self.shared.values()

    def _open(self, generation: Generation) -> None:
        for listen in generation.routers:
            if listen not in self.endpoints:
                self.endpoints[listen] = self.new_endpoint(listen, self._inherited)
            if not self._process_group.shares_sockets:
                continue
            port = self.endpoints[listen].port
            # Surplus sockets of an earlier process may have queries in their queues.
            inherited = self._inherited_shards(listen, port)
            for shard in {*range(1, generation.sockets[listen]), *inherited}:
                if (listen, shard) not in self.shared:
                    self.shared[listen, shard] = self.new_endpoint(
                        listen, self._inherited, port, shard
                    )

    def _route(self, generation: Generation) -> None:
        """Make `generation` answer at its endpoints, first at those already in use.

        It answers at the sockets of another process only while that process does not run.
        """
        mine = self._of(generation)
        for endpoint in mine:
            listen = endpoint.listen
            endpoint.swap(generation.routers[listen], generation.settings[listen])
        for endpoint in mine:
            if self._answers_at(endpoint):
                endpoint.start()

    def _route_back(self, generation: Generation) -> None:
        """Make `generation` answer at its endpoints again, whatever their listeners raise."""
        for endpoint in self._of(generation):
            listen = endpoint.listen
            endpoint.swap_back(generation.routers[listen], generation.settings[listen])
            if self._answers_at(endpoint):
                endpoint.resume()

    def _of(self, generation: Generation) -> list[Endpoint]:
        return [
            endpoint for endpoint in self.every_endpoint() if endpoint.listen in generation.routers
        ]

    def _answers_at(self, endpoint: Endpoint) -> bool:
        mine = self.endpoints[endpoint.listen]
        return endpoint is mine or not self._process_group.has(endpoint.shard)

    def _unwanted(self) -> list[Endpoint]:
        return [endpoint for endpoint in self.every_endpoint() if not self._wants(endpoint)]

    def _wants(self, endpoint: Endpoint) -> bool:
        """Return whether the current generation uses `endpoint`."""
        generation, listen = self.generation, endpoint.listen
        if generation is None or listen not in generation.routers:
            return False
        own = endpoint is self.endpoints.get(listen)
        return own or endpoint.shard < generation.sockets[listen]

    def _inherited_shards(self, listen: Listen, port: int) -> set[int]:
        wanted = listen.transport, bound(Address(listen.host, port))
        return {
            key.shard
            for key in self._inherited
            if (key.scheme, key.address) == wanted and key.shard
        }

    def _hand_over(self) -> None:
        """Give the sockets in use to the manager, and close unused inherited ones."""
        for key, (sock, lent) in self._inherited.items():
            self._manager.release([sock], key.shard, key.scheme)
            if key.shard and not lent and key.protocol == "udp":
                leave_group(sock)  # leaves the queries to the rest of the SO_REUSEPORT group
            sock.close()
        self._inherited.clear()
        for endpoint in self.every_endpoint():
            if not endpoint.kept and self._manager.keeps_sockets:
                self._keep(endpoint)
                endpoint.kept = True

    def _keep(self, endpoint: Endpoint) -> None:
        self._manager.keep(endpoint.sockets, endpoint.shard, endpoint.listen.transport)

    def resend_state(self) -> None:
        """Send the complete state to a new manager, whose predecessor was killed."""
        if self.generation is not None:
            for endpoint in self.every_endpoint():
                if endpoint.kept:
                    self._keep(endpoint)
            self._manager.tell("READY=1")

    def _groups(self) -> dict[socket.socket, int]:
        """Return a socket of each group that has several UDP sockets, and their number.

        Not those of other transports: their datagrams may belong to connections.
        """
        if self.generation is None or not self._process_group.shares_sockets:
            return {}
        return {
            self.endpoints[listen].sockets[0]: number
            for listen, number in self.generation.sockets.items()
            if listen.transport == DEFAULT_SCHEME and number > 1
        }

    def _release(self, endpoints: Iterable[Endpoint]) -> None:
        """Take the sockets of `endpoints` back from the manager."""
        for endpoint in endpoints:
            if endpoint.kept:
                self._manager.release(endpoint.sockets, endpoint.shard, endpoint.listen.transport)
                endpoint.kept = False
