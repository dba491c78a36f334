"""Accepts and limits the connections of a listener whose socket is a TCP socket.

Connections are limited in total and per client: a connection beyond the limit closes one of the
client with the most connections, busy or idle (`corepy.net.connection_limit`). The server's own
self-check connections do not count.
"""

from __future__ import annotations

import abc
import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final

from corepy.net.acceptor import Acceptor
from corepy.net.connection_limit import ConnectionLimit, client_of
from corepy.net.descriptors import descriptor_limit
from corepy.net.own_connections import is_own
from corepy.net.turns import Turns
from corepy.plugin import ProxyPolicy, Timeouts
from corepy.plugin.log import server_logger
from corepy.server.listen.query_listener import Listener

if TYPE_CHECKING:
    import socket

    from corepy.plugin import ListenerConfig
    from corepy.server.listen.chain_runner import ChainRunner
    from corepy.server.listen.proxied_streams import ProxiedStreams
    from corepy.server.listen.query_listener import ListenerContext
    from corepy.server.listen.router import Router
    from corepy.server.listen.waiting_query import WaitingQuery

MAX_CONNECTIONS = 1000
"""Open connections per listener.

They are also limited to 1/8 of the process's descriptors: other listeners and upstreams need some,
too.
"""

LOST_INTERVAL = 1.0
"""Seconds between two checks for pending queries of closed connections."""

HEADER_PATIENCE: Final = 0.2
"""Seconds for which a stopping listener still waits for PROXY headers."""

SHARE_OF_ONE = 2
"""One client may have 1/SHARE_OF_ONE of these connections."""


class StreamConnection(asyncio.Protocol, abc.ABC):
    """One client's connection, as its listener sees it.

    It calls `StreamListener.admit` when it is connected, and `StreamListener.forget_connection`
    when it is lost.
    """

    client: object = None
    """The client's address that a PROXY header states, as `Request.client`; None without one.

    It is set before `connection_made`.
    """

    runner: ChainRunner
    last_activity: float
    """Monotonic time in seconds when the connection was opened or last carried data."""

    @property
    @abc.abstractmethod
    def is_idle(self) -> bool:
        """Whether all queries of this connection are answered."""

    @abc.abstractmethod
    def drain(self) -> None:
        """Answer the queries that the client has sent, then close."""

    @abc.abstractmethod
    def finish(self) -> None:
        """Flush ready replies and close."""

    @abc.abstractmethod
    def make_room(self) -> None:
        """Close in favour of another client's connection."""


class StreamListener(Listener):
    """One listening TCP socket of an endpoint, and its connections."""

    network: ClassVar[str] = "tcp"

    def __init__(self, sock: socket.socket, context: ListenerContext) -> None:
        """Listen at `sock`."""
        super().__init__(sock, context)
        self.timeouts: Timeouts
        self.connections: dict[StreamConnection, None] = {}
        self.draining = False
        self.turns = Turns()
        most = max(min(MAX_CONNECTIONS, descriptor_limit() // 8), 1)
        self._limit: ConnectionLimit[StreamConnection] = ConnectionLimit(
            most, max(most // SHARE_OF_ONE, 1)
        )
        self._lost: set[ChainRunner] = set()  # of closed connections with pending queries
        self._most_waiting = most
        self._proxied: ProxiedStreams | None = None
        self._acceptor = Acceptor(sock, self.new_connection, context.label, server_logger())

    @abc.abstractmethod
    def new_connection(self) -> StreamConnection:
        """Return the protocol for a connection that is being accepted."""

    def swap(self, router: Router, config: ListenerConfig) -> None:
        """Use `router` and `config` from the next query on, in open connections, too."""
        super().swap(router, config)
        self.timeouts = config.get(Timeouts)
        self._apply(config.get(ProxyPolicy))

    def _apply(self, policy: ProxyPolicy) -> None:
        """Read the PROXY headers of later connections if the policy says so."""
        self._acceptor.take_over = None
        if not policy.reads_headers:
            return
        if self._proxied is None:
            # The other listeners do not need the module.
            from corepy.server.listen.proxied_streams import ProxiedStreams

            self._proxied = ProxiedStreams(self.label, self._most_waiting, self._open)
        self._proxied.policy = policy
        self._proxied.timeout = self.timeouts.read
        self._acceptor.take_over = self._proxied.add

    def _open(self, stream: socket.socket, client: object) -> None:
        """Open a connection whose PROXY header, if any, was read."""
        make = self.new_connection if client is None else partial(self._new_for, client)
        self._acceptor.open(stream, make)

    def _new_for(self, client: object) -> StreamConnection:
        connection = self.new_connection()
        connection.client = client
        return connection

    def start(self) -> None:
        """Start accepting connections."""
        self._acceptor.start()

    def pause(self) -> None:
        """Accept no connections until `start` is called again; keep those that are open."""
        self._acceptor.pause()

    def admit(self, added: StreamConnection, peer: object) -> None:
        """Register `added`, and close another connection if there are too many."""
        self.connections[added] = None
        if is_own(peer):
            return
        client = peer if added.client is None else added.client
        evicted = self._limit.take(client_of(client), added)
        if evicted is not None:
            evicted.make_room()

    def forget_connection(self, connection: StreamConnection) -> None:
        """Unregister a closed connection; its pending queries keep their time limit."""
        self.connections.pop(connection, None)
        self._limit.remove(connection)
        if connection.runner.waiting:
            if not self._lost:
                asyncio.get_running_loop().call_later(LOST_INTERVAL, self._forget_lost)
            self._lost.add(connection.runner)

    def _forget_lost(self) -> None:
        self._lost = {runner for runner in self._lost if runner.waiting}
        if self._lost:
            asyncio.get_running_loop().call_later(LOST_INTERVAL, self._forget_lost)

    def waiting(self) -> set[WaitingQuery]:
        """Return the queries that have no answer yet."""
        runners = {connection.runner for connection in self.connections} | self._lost
        return {query for runner in runners for query in runner.waiting}

    def status(self) -> dict[str, Any]:
        """Return the state of the listener for an operator."""
        return {**super().status(), "connections": len(self.connections)}

    def stop(self, *, leave_queue: bool = False) -> None:
        """Accept the connections that are queued and no more; close idle connections.

        With `leave_queue` the queued connections are left to the process that continues with the
        socket.
        """
        if self.draining:
            return
        self.draining = True
        self._acceptor.stop(leave_queue=leave_queue)
        if self._proxied is not None:
            self._proxied.hurry(HEADER_PATIENCE)
        for connection in list(self.connections):
            connection.drain()

    @property
    def is_drained(self) -> bool:
        """Whether no connection is open or being opened."""
        is_waiting = self._proxied is not None and not self._proxied.is_empty
        return not (self.connections or self._acceptor.is_opening or is_waiting)

    def close(self) -> None:
        """Flush ready replies, then close all connections."""
        self.stop()
        self.forget()
        if self._proxied is not None:
            self._proxied.close()
        for connection in list(self.connections):
            connection.finish()

    def abort(self) -> None:
        """Close the connections of clients that have not read all of their replies."""
        for connection in list(self.connections):
            connection.make_room()
