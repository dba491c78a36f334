"""Accepts and limits the connections of a listener whose socket is a TCP socket.

Connections are limited in total and per client: a connection beyond the limit closes one of the
client with the most connections, busy or idle (`corepy.net.connection_limit`). The server's own
self-check connections do not count.
"""

from __future__ import annotations

import abc
import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol

from corepy.compiled_classes import mypyc_attr
from corepy.net.connection_limit import ConnectionLimit, client_of
from corepy.net.descriptors import descriptor_limit
from corepy.net.own_connections import is_own
from corepy.net.stream_acceptor import StreamAcceptor
from corepy.net.turns import Turns
from corepy.plugin import ProxyPolicy, Timeouts, TLSSetting
from corepy.plugin.log import server_logger
from corepy.plugin.memory_limit import cgroup_limit
from corepy.server.listen.pending_limit import MAX_PENDING, PendingLimit
from corepy.server.listen.query_listener import Listener

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Set as AbstractSet

    from corepy.plugin import ListenerConfig
    from corepy.server.listen.proxied_streams import ProxiedStreams
    from corepy.server.listen.query_listener import ListenerContext
    from corepy.server.listen.router import Router
    from corepy.server.listen.tls_acceptance import TLSAcceptance
    from corepy.server.listen.waiting_query import WaitingQuery

MAX_CONNECTIONS = 4000
SHARE = 8
"""The default limits of open connections per listener.

There are at most MAX_CONNECTIONS. They have at most 1/SHARE of the process's descriptors, since
other listeners and upstreams need some, too, and of the cgroup's memory limit.
"""

MAX_WITHOUT_CLOCK = 1.0
"""Seconds after which new connections get a timer, at most."""

TLS_SIZE: Final = 24 * 1024
"""Bytes of memory that TLS adds to an idle connection, at most."""

LOST_INTERVAL = 1.0
"""Seconds between two checks for pending queries of closed connections."""

HEADER_PATIENCE: Final = 0.2
"""Seconds for which a stopping listener still waits for PROXY headers."""

SHARE_OF_ONE = 2
"""One client may have 1/SHARE_OF_ONE of these connections."""


class PendingQueries(Protocol):
    """The pending queries of a connection: a `ChainRunner`, or several of them."""

    @property
    def waiting(self) -> AbstractSet[WaitingQuery]:
        """The queries that have no answer yet."""

    def limit_pending(self, limit: PendingLimit, client: bytes) -> None:
        """Count the pending queries as those of `client` from now on."""

    def cancel(self) -> None:
        """Cancel all of them."""


@mypyc_attr(allow_interpreted_subclasses=True)
class StreamConnection(asyncio.Protocol, abc.ABC):
    """One client's connection, as its listener sees it.

    It calls `StreamListener.admit` when it is connected, and `StreamListener.forget_connection`
    when it is lost.
    """

    client: object = None
    """The client's address that a PROXY header states, as `Request.client`; None without one.

    It is set before `connection_made`.
    """

    last_activity: float
    """Monotonic time in seconds when the connection was opened or last carried data."""

    @property
    @abc.abstractmethod
    def pending(self) -> PendingQueries:
        """The pending queries of this connection, the same object at all times."""

    def secured(self, tls: ssl.SSLObject) -> None:
        """Continue after a TLS handshake; nothing is sent or received before it.

        `connection_made` has been called before, at the beginning of the handshake.
        """

    @property
    @abc.abstractmethod
    def is_idle(self) -> bool:
        """Whether all queries of this connection are answered."""

    def start_clock(self) -> None:
        """Limit the time that the connection may be idle, if no limit runs yet.

        A listener calls it for its new connections together, soon after they were opened: most
        clients of TCP send one query and have left before.
        """

    @abc.abstractmethod
    def drain(self) -> None:
        """Answer the queries that the client has sent, then close."""

    @abc.abstractmethod
    def finish(self) -> None:
        """Flush ready replies and close."""

    @abc.abstractmethod
    def make_room(self) -> None:
        """Close in favour of another client's connection."""


@mypyc_attr(allow_interpreted_subclasses=True)
class StreamListener(Listener):
    """One listening TCP socket of an endpoint, and its connections."""

    network: ClassVar[str] = "tcp"

    connection_size: ClassVar[int] = 8 * 1024
    """Bytes of memory for an idle connection, at most, without TLS."""

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
        self.loop = asyncio.get_running_loop()
        self._starts_clocks = False
        self.turns = Turns()
        self._limit: ConnectionLimit[StreamConnection] = ConnectionLimit(1, 1)
        self._pending = PendingLimit()
        self._lost: set[PendingQueries] = set()  # of closed connections with pending queries
        self._proxied: ProxiedStreams | None = None
        self._tls: TLSAcceptance | None = None
        self._acceptor = StreamAcceptor(sock, self._new_protocol, self.label, server_logger())

    @abc.abstractmethod
    def new_connection(self) -> StreamConnection:
        """Return the protocol for a connection that is being accepted."""

    def swap(self, router: Router, config: ListenerConfig) -> None:
        """Use `router` and `config` from the next query on, in open connections, too."""
        super().swap(router, config)
        self.timeouts = config.get(Timeouts)
        self._pending.most = self.timeouts.max_pending or MAX_PENDING
        if self.application_protocols:
            self._use_certificate(config.get(TLSSetting))
        most = self.most_connections(config)
        of_one = self.timeouts.max_client_connections or max(most // SHARE_OF_ONE, 1)
        self._limit.resize(most, of_one)
        self._apply(config.get(ProxyPolicy), most)

    def most_connections(self, config: ListenerConfig) -> int:
        """Return the maximum number of connections; a subclass may have a setting of its own."""
        given = config.get(Timeouts).max_connections
        if given is not None:
            return given
        size = self.connection_size + (0 if self._tls is None else TLS_SIZE)
        memory = cgroup_limit()
        fitting = MAX_CONNECTIONS if memory is None else memory // SHARE // size
        return max(min(MAX_CONNECTIONS, descriptor_limit() // SHARE, fitting), 1)

    def _use_certificate(self, setting: TLSSetting) -> None:
        if setting.source is None:
            self._tls = None
            return
        from corepy.server.listen.tls_acceptance import TLSAcceptance

        self._tls = TLSAcceptance(setting.source, self.application_protocols, self.label)

    def _apply(self, policy: ProxyPolicy, most: int) -> None:
        """Read the PROXY headers of later connections if the policy says so.

        At most `most` connections wait for their headers.
        """
        self._acceptor.take_over = None
        if not policy.reads_headers:
            return
        if self._proxied is None:
            # The other listeners do not need the module.
            from corepy.server.listen.proxied_streams import ProxiedStreams

            self._proxied = ProxiedStreams(self.label, self._open)
        self._proxied.follow(policy, self.timeouts.read, most)
        self._acceptor.take_over = self._proxied.add

    def _open(self, stream: socket.socket, client: object) -> None:
        """Open a connection whose PROXY header, if any, was read."""
        self._acceptor.open(stream, partial(self._new_protocol, client))

    def _new_protocol(self, client: object = None) -> asyncio.Protocol:
        """Return the protocol of an accepted connection."""
        connection = self.new_connection()
        if client is not None:
            connection.client = client
        return connection if self._tls is None else self._tls.secure(connection)

    @property
    def is_ready(self) -> bool:
        """Whether a client can connect: a certificate may still be awaited."""
        return self._tls is None or self._tls.is_ready

    def start(self) -> None:
        """Start accepting connections."""
        self._acceptor.start()

    def pause(self) -> None:
        """Accept no connections until `start` is called again; keep those that are open."""
        self._acceptor.pause()

    def admit(self, added: StreamConnection, peer: object) -> None:
        """Register `added`, and close another connection if there are too many.

        `peer` is the address of its peer. The pending queries of the client are limited, too.
        """
        self.connections[added] = None
        if not self._starts_clocks:
            self._starts_clocks = True
            soon = min(MAX_WITHOUT_CLOCK, self.timeouts.read / 2, self.timeouts.idle / 2)
            self.loop.call_later(soon, self._start_clocks)
        if is_own(peer):
            return
        client = client_of(peer if added.client is None else added.client)
        added.pending.limit_pending(self._pending, client)
        evicted = self._limit.take(client, added)
        if evicted is not None:
            evicted.make_room()

    def _start_clocks(self) -> None:
        self._starts_clocks = False
        for connection in list(self.connections):
            connection.start_clock()

    def forget_connection(self, connection: StreamConnection) -> None:
        """Unregister a closed connection; its pending queries keep their time limit."""
        self.connections.pop(connection, None)
        self._limit.remove(connection)
        if connection.pending.waiting:
            if not self._lost:
                self.loop.call_later(LOST_INTERVAL, self._forget_lost)
            self._lost.add(connection.pending)

    def _forget_lost(self) -> None:
        self._lost = {pending for pending in self._lost if pending.waiting}
        if self._lost:
            self.loop.call_later(LOST_INTERVAL, self._forget_lost)

    def waiting(self) -> set[WaitingQuery]:
        """Return the queries that have no answer yet."""
        found = {connection.pending for connection in self.connections} | self._lost
        return {query for pending in found for query in pending.waiting}

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
