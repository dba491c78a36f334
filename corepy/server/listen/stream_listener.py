"""Accepts and limits the connections of a listener whose socket is a TCP socket.

Connections are limited in total and per client: a connection beyond the limit closes one of the
client with the most connections, busy or idle (`corepy.net.connection_limit`). The server's own
self-check connections do not count.
"""

from __future__ import annotations

import abc
import asyncio
from typing import TYPE_CHECKING, Any, ClassVar

from corepy.net.acceptor import Acceptor
from corepy.net.connection_limit import ConnectionLimit, client_of
from corepy.net.descriptors import descriptor_limit
from corepy.net.own_connections import is_own
from corepy.net.turns import Turns
from corepy.plugin import Timeouts, TLSSetting
from corepy.plugin.log import server_logger
from corepy.server.listen.query_listener import Listener

if TYPE_CHECKING:
    import socket
    import ssl

    from corepy.plugin import ListenerConfig
    from corepy.server.listen.chain_runner import ChainRunner
    from corepy.server.listen.query_listener import ListenerContext
    from corepy.server.listen.router import Router
    from corepy.server.listen.tls_acceptance import TLSAcceptance
    from corepy.server.listen.waiting_query import WaitingQuery

MAX_CONNECTIONS = 1000
"""Open connections per listener.

They are also limited to 1/8 of the process's descriptors: other listeners and upstreams need some,
too.
"""

LOST_INTERVAL = 1.0
"""Seconds between two checks for pending queries of closed connections."""

SHARE_OF_ONE = 2
"""One client may have 1/SHARE_OF_ONE of these connections."""


class StreamConnection(asyncio.Protocol, abc.ABC):
    """One client's connection, as its listener sees it.

    It calls `StreamListener.admit` when it is connected, and `StreamListener.forget_connection`
    when it is lost.
    """

    runner: ChainRunner
    last_activity: float
    """Monotonic time in seconds when the connection was opened or last carried data."""

    def secured(self, tls: ssl.SSLObject) -> None:
        """Continue after a TLS handshake; nothing is sent or received before it.

        `connection_made` has been called before, at the beginning of the handshake.
        """

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

    application_protocols: ClassVar[tuple[str, ...]] = ()
    """What the listener negotiates with ALPN, in the order of preference.

    Connections of a listener with such protocols use TLS if its blocks have a certificate.
    """

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
        self._tls: TLSAcceptance | None = None
        self._acceptor = Acceptor(sock, self._new_protocol, context.label, server_logger())

    @abc.abstractmethod
    def new_connection(self) -> StreamConnection:
        """Return the protocol for a connection that is being accepted."""

    def swap(self, router: Router, config: ListenerConfig) -> None:
        """Use `router` and `config` from the next query on, in open connections, too."""
        super().swap(router, config)
        self.timeouts = config.get(Timeouts)
        if self.application_protocols:
            self._use_certificate(config.get(TLSSetting))

    def _use_certificate(self, setting: TLSSetting) -> None:
        if setting.source is None:
            self._tls = None
            return
        from corepy.server.listen.tls_acceptance import TLSAcceptance

        self._tls = TLSAcceptance(setting.source, self.application_protocols, self.label)

    def _new_protocol(self) -> asyncio.BaseProtocol:
        connection = self.new_connection()
        return connection if self._tls is None else self._tls.secure(connection)

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
        evicted = self._limit.take(client_of(peer), added)
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
        for connection in list(self.connections):
            connection.drain()

    @property
    def is_drained(self) -> bool:
        """Whether no connection is open or being opened."""
        return not self.connections and not self._acceptor.is_opening

    def close(self) -> None:
        """Flush ready replies, then close all connections."""
        self.stop()
        self.forget()
        for connection in list(self.connections):
            connection.finish()

    def abort(self) -> None:
        """Close the connections of clients that have not read all of their replies."""
        for connection in list(self.connections):
            connection.make_room()
