"""One listen address: its sockets, and a listener for each of them.

The transport of the address determines the sockets and the listeners
(`corepy.server.listen.transports`).

Endpoints outlive generations. A reload replaces the router of the endpoints that stay, between two
turns of the event loop, so no query meets a closed socket or half of a configuration.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, NamedTuple

from corepy.net.inherited import Key, claim
from corepy.net.sockets import Address, bound, open_all, open_listening, prepare_udp
from corepy.server.contain.failure_report import report_background
from corepy.server.listen import transports
from corepy.server.listen.chain_task import task_set_aside
from corepy.server.listen.query_listener import ListenerContext

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from corepy.net.datagrams import Datagrams
    from corepy.net.inherited import Inherited, Sockets
    from corepy.plugin import ListenerConfig
    from corepy.server.listen.packet_cache import MemoryPool
    from corepy.server.listen.query_listener import Listener
    from corepy.server.listen.router import Router
    from corepy.server.listen.transport import Transport
    from corepy.server.listen.waiting_query import WaitingQuery
    from corepy.server.traffic.traffic import Traffic


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
        traffic: Traffic | None = None,
    ) -> None:
        """Take the sockets from `inherited`, or open them.

        `port` is the port that the kernel chose for port 0; `shard` is counted from 0. `traffic`
        counts the queries. Raises `corepy.net.sockets.BindError`, or the exception of a listener;
        the sockets are closed then.
        """
        transport = transports.get(listen.transport)
        address = Address(listen.host, listen.port if port is None else port)
        at = bound(address)
        keys = [Key(network, at, shard, listen.transport) for network in transport.networks]
        claimed = [claim(key, {} if inherited is None else inherited) for key in keys]
        self.kept = None not in claimed
        """Whether the manager keeps the sockets open for the next process."""
        self._lent = any(one is not None and one.lent for one in claimed)
        self.listen = listen
        self.shard = shard
        self.sockets = _opened(address, transport.networks, claimed)
        self.port: int = self.sockets[0].getsockname()[1]
        self.label = listen.label(self.port)
        context = ListenerContext(
            self.label, batch, memory_pool, wildcard=address.is_wildcard, traffic=traffic
        )
        self.listeners: Sequence[Listener] = _listeners(transport, self.sockets, context)
        self._started = self._stopped = False

    def listener(self, network: str) -> Listener:
        """Return the listener at the "udp" or "tcp" socket; the first one if there is none."""
        fitting = [listener for listener in self.listeners if listener.network == network]
        return (fitting or self.listeners)[0]

    def swap(self, router: Router, config: ListenerConfig) -> None:
        """Use `router` and `config` from the next query on; raise the exception of a listener."""
        for listener in self.listeners:
            listener.swap(router, config)

    def swap_back(self, router: Router, config: ListenerConfig) -> None:
        """Use `router` and `config` again, whatever a listener raises."""
        for listener in self.listeners:
            if not self._contained(listener, "swap", router, config):
                listener.pipeline.swap(
                    router, config
                )  # the handlers of the other one are being stopped

    def forget(self) -> None:
        """Empty the packet caches."""
        for listener in self.listeners:
            self._contained(listener, "forget")

    def start(self) -> None:
        """Start answering; does nothing if it has started or was stopped.

        Raises the exception of a listener, after all listeners were started.
        """
        if self._started or self._stopped:
            return
        self._started = True
        failure: BaseException | None = None
        for listener in self.listeners:
            try:
                listener.start()
            except BaseException as error:  # the listener may be that of a third party
                failure = failure or error
        if failure is not None:
            raise failure

    def resume(self) -> None:
        """Start answering, whatever a listener raises."""
        try:
            self.start()
        except BaseException as error:
            self._report(error, "start")

    def pause(self) -> None:
        """Leave new queries to the process that answers at the same sockets from now on."""
        if self._started:
            self._started = False
            for listener in self.listeners:
                self._contained(listener, "pause")
            self.forget()

    def status(self) -> list[dict[str, Any]]:
        """Return the states of the listeners for an operator."""
        found = []
        for listener in self.listeners:
            try:
                found.append(listener.status())
            except BaseException as error:
                self._report(error, "status")
        return found

    def report_hits(self) -> None:
        """Report the hits of the packet caches to their counters."""
        for listener in self.listeners:
            listener.pipeline.packets.report_hits()

    def waiting(self) -> set[WaitingQuery]:
        """Return the queries that have no answer yet."""
        found: set[WaitingQuery] = set()
        for listener in self.listeners:
            try:
                found |= listener.waiting()
            except BaseException as error:
                self._report(error, "waiting")
        return found

    def stop(self) -> None:
        """Accept no new queries; those already accepted are still answered.

        Queries in the queue of a kept or lent socket stay there for the next process that uses it.
        """
        self._stopped = True
        for listener in self.listeners:
            self._contained(listener, "stop", leave_queue=self.kept or self._lent)

    @property
    def is_drained(self) -> bool:
        """Whether the stopped endpoint can be closed without cutting off a client."""
        try:
            return all(listener.is_drained for listener in self.listeners)
        except BaseException as error:
            self._report(error, "is_drained")
            return True

    def close(self) -> None:
        """Close the sockets, also that of a listener whose `close` fails."""
        for listener, sock in zip(self.listeners, self.sockets, strict=True):
            if not self._contained(listener, "close"):
                with contextlib.suppress(RuntimeError, ValueError):  # has a transport, is closed
                    asyncio.get_running_loop().remove_reader(sock)
                sock.close()

    def abort(self) -> None:
        """Close the connections that `close` left open; their clients have not read everything."""
        for listener in self.listeners:
            self._contained(listener, "abort")

    def _contained(self, listener: Listener, method: str, *args: object, **more: object) -> bool:
        """Call a method of a listener, maybe a third party's; return False if it raised.

        The task that stops the server or replaces its blocks calls it. The listener may step
        chains, as for the queries that lie in its socket.
        """
        try:
            with task_set_aside():
                getattr(listener, method)(*args, **more)
        except BaseException as error:
            self._report(error, method)
            return False
        return True

    def _report(self, error: BaseException, method: str) -> None:
        report_background(error, f"{self.label}: {method} of the listener failed")


def _opened(
    address: Address, networks: Sequence[str], claimed: Sequence[Inherited | None]
) -> list[socket.socket]:
    """Return a socket for each network: the claimed one, or a new one."""
    if not any(claimed):
        return open_all(address, networks)
    sockets = []
    with contextlib.ExitStack() as undo:
        for given in filter(None, claimed):
            undo.callback(given.sock.close)
        for network, inherited in zip(networks, claimed, strict=True):
            if inherited is None:
                sock = open_listening(network, address)
                undo.callback(sock.close)
            else:
                sock = inherited.sock
                if network == "udp":
                    prepare_udp(sock, wildcard=address.is_wildcard)
            sockets.append(sock)
        undo.pop_all()
    return sockets


def _listeners(
    transport: Transport, sockets: Sequence[socket.socket], context: ListenerContext
) -> list[Listener]:
    """Return a listener for each of the `sockets`, which are closed if one cannot be created."""
    created: list[Listener] = []
    with contextlib.ExitStack() as undo:
        for sock in sockets:
            undo.callback(sock.close)
        for listener, sock in zip(transport.listeners, sockets, strict=True):
            created.append(listener(sock, context))
            undo.callback(created[-1].close)
        undo.pop_all()
    return created


async def drained(queries: set[WaitingQuery], leaving: list[Endpoint], timeout: float) -> int:
    """Wait until all `queries` are answered and all connections of `leaving` are closed.

    Waits at most `timeout` seconds; returns the number of queries still pending then.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    while loop.time() < deadline:
        queries = {query for query in queries if not query.is_done}
        if not queries and all(endpoint.is_drained for endpoint in leaving):
            return 0
        await asyncio.sleep(0.005)
    return len(queries)
