"""`QUICListener`: a UDP socket with QUIC connections, for the protocols above QUIC."""

from __future__ import annotations

import abc
import asyncio
import os
from time import monotonic, thread_time
from typing import TYPE_CHECKING, Any, ClassVar, Final

from corepy.net.batch import SLOTS
from corepy.net.connection_limit import ConnectionLimit, client_of
from corepy.net.fair_queue import FairQueue
from corepy.net.quic.datagram_relay import Datagram, Relay
from corepy.net.quic.demultiplexer import Demultiplexer
from corepy.net.quic.version_probe import is_answered
from corepy.net.turns import Turns
from corepy.plugin import Timeouts, TLSSetting
from corepy.server.contain.failure_report import report_background
from corepy.server.listen.pending_limit import MAX_PENDING, PendingLimit
from corepy.server.listen.proxied_datagrams import ProxiedDatagrams
from corepy.server.listen.query_listener import Listener
from corepy.server.listen.quic_configuration import Configurations

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable

    from aioquic.quic.configuration import QuicConfiguration

    from corepy.net.quic.server_connection import ServerConnection, Windows
    from corepy.plugin import ListenerConfig
    from corepy.server.listen.chain_runner import ChainRunner
    from corepy.server.listen.query_listener import ListenerContext
    from corepy.server.listen.quic_client import QUICClient
    from corepy.server.listen.router import Router
    from corepy.server.listen.waiting_query import WaitingQuery

PER_TURN: Final = 16
"""Datagrams that are processed in one turn of the event loop: each takes up to a millisecond."""

ROUNDS: Final = 4
"""Batches received before the event loop may do other work."""

MOST_WAITING: Final = 1024
"""Datagrams of clients with proven addresses that wait to be processed."""

MOST_STRANGERS: Final = 256
"""Datagrams of other clients that wait."""

REST: Final = 3
"""While strangers are many, a pause of this many times the CPU time that they took follows.

So a flood of forged packets takes at most a quarter of a CPU, besides the time to receive them.
"""

CHECK_INTERVAL: Final = 1.0
"""Seconds between two checks of the time limits of connections."""

DRAIN_INTERVAL: Final = 0.05
"""The same while the listener is draining."""

UNLIMITED: Final = 1 << 20
"""Connections without a limit; each takes tens of kilobytes."""

SHARE_OF_ONE: Final = 2
"""One client may have 1/SHARE_OF_ONE of the connections."""


class QUICListener(Listener):
    """One UDP socket, and the connections at it."""

    network: ClassVar[str] = "udp"
    is_checkable: ClassVar[bool] = True
    pads_replies: ClassVar[bool] = True

    application_protocol: ClassVar[str]
    """What is negotiated with ALPN."""

    windows: Windows
    """The limits of new connections."""

    def __init__(self, sock: socket.socket, context: ListenerContext) -> None:
        """Answer at `sock`."""
        super().__init__(sock, context)
        self.timeouts: Timeouts
        self.connections: dict[QUICClient, None] = {}
        self.draining = False
        self.turns = Turns()
        self._loop = asyncio.get_running_loop()
        self._batch = context.batch
        self._wildcard = context.wildcard
        self.local = sock.getsockname()
        """The address of the socket."""
        self._port = self.local[1].to_bytes(2, "big")
        self._relayed: FairQueue[Datagram] = FairQueue(MOST_WAITING)
        self._received: FairQueue[Datagram] = FairQueue(MOST_WAITING)
        self._strangers: FairQueue[Datagram] = FairQueue(MOST_STRANGERS)
        self._is_processing = self._is_admitting = self._is_flushing = False
        self._limit: ConnectionLimit[QUICClient] = ConnectionLimit(1, 1)
        self.pending_limit = PendingLimit()
        """The queries in flight of each client."""
        self.pending = 0
        """Queries in flight."""
        self.most_pending = UNLIMITED
        self.starving: dict[QUICClient, None] = {}
        """The connections with queries that wait for the end of another one's."""
        self._lost: set[ChainRunner] = set()  # of closed connections with pending queries
        self._check: asyncio.TimerHandle | None = None
        self._configurations = Configurations(self.application_protocol)
        self._configuration: QuicConfiguration | None = None
        self._proxied: ProxiedDatagrams | None = None
        self._relay = Relay()
        clock = self._loop.time
        self.demultiplexer = Demultiplexer(self, self._relay, os.urandom(32), clock)

    @property
    def protocol_name(self) -> str:
        """What is negotiated with ALPN."""
        return self.application_protocol

    @abc.abstractmethod
    def new_connection(self, quic: ServerConnection, peer: Any, client: Any) -> QUICClient:
        """Return the application for a new connection."""

    @abc.abstractmethod
    def limits(self, config: ListenerConfig) -> tuple[Windows, int]:
        """Return the limits of a connection, and the number of connections, 0 for no limit."""

    def swap(self, router: Router, config: ListenerConfig) -> None:
        """Use `router` and `config` from the next query on, in open connections, too."""
        super().swap(router, config)
        self.timeouts = config.get(Timeouts)
        source = config.get(TLSSetting).source
        if source is None:
            raise ValueError(f"{self.label} has no certificate")
        self._proxied = ProxiedDatagrams.of(config, self._proxied, self.label)
        self._configurations.use(source, self.timeouts.idle)
        self._use_secret()
        self.pending_limit.most = self.timeouts.max_pending or MAX_PENDING
        self.windows, most = self.limits(config)
        most = self.timeouts.max_connections or most or UNLIMITED
        of_one = self.timeouts.max_client_connections or max(most // SHARE_OF_ONE, 1)
        self._limit.resize(most, of_one)

    def _use_secret(self) -> None:
        secret = self._configurations.secret()
        if secret:
            self.demultiplexer.use_secret(secret)

    # Called by the demultiplexer

    def configuration(self) -> QuicConfiguration | None:
        """Return the configuration for a new connection; None without a certificate."""
        found = self._configurations.current()
        if found is not self._configuration:
            self._configuration = found
            self._use_secret()
        return found

    def begin(self, quic: ServerConnection, peer: Any, client: Any) -> QUICClient:
        """Return the application of a new connection."""
        connection = self.new_connection(quic, peer, client)
        self.connections[connection] = None
        self._schedule_check()
        if self.draining:
            connection.drain()
        return connection

    def send(self, data: bytes, peer: Any, local: Any) -> None:
        """Queue a datagram."""
        self._batch.queue(data, peer, local, self.sock)

    def sent(self) -> None:
        """Send the queued datagrams; QUIC repeats those that are lost."""
        if self.sock.fileno() >= 0:
            self._batch.flush(self.sock)

    def failed(self, error: BaseException) -> None:
        """Report an exception that ended a connection."""
        report_background(error, f"{self.label}: a QUIC connection has failed")

    # Called by connections

    def admit(self, added: QUICClient) -> None:
        """Register a connection after its handshake; close another one if there are too many."""
        evicted = self._limit.take(added.place, added)
        if evicted is not None:
            evicted.make_room()
            self.touch(evicted)

    def forget_connection(self, connection: QUICClient) -> None:
        """Unregister a connection that has ended; its pending queries keep their time limit."""
        self.connections.pop(connection, None)
        self.turns.forget(connection)
        self._limit.remove(connection)
        self.starving.pop(connection, None)

    def outlive(self, runner: ChainRunner) -> None:
        """Keep the time limit of a query whose client is gone."""
        if runner.waiting:
            self._lost.add(runner)

    def may_begin(self) -> bool:
        """Return whether another query may be in flight."""
        return self.pending < self.most_pending

    def end_pending(self) -> None:
        """Count the end of a query in flight, and let a connection that waits for it proceed."""
        self.pending -= 1
        if self.starving:
            connection = next(iter(self.starving))
            del self.starving[connection]
            self.touch(connection)

    def touch(self, connection: QUICClient) -> None:
        """Let a connection proceed and send in the next turn of the event loop."""
        self.demultiplexer.touch(connection)
        if not self._is_flushing:
            self._is_flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flushing = False
        self.demultiplexer.flush()

    # Receiving

    def start(self) -> None:
        """Start answering."""
        self._loop.add_reader(self.sock, self._on_readable)
        self._loop.add_reader(self._relay.sock, self._on_relayed)

    def pause(self) -> None:
        """Receive nothing from the socket; other processes pass on what belongs to connections."""
        self._loop.remove_reader(self.sock)

    def _on_readable(self) -> None:
        for _ in range(ROUNDS):
            if self._receive_batch() < SLOTS:
                break
        self._process_soon()
        if self._strangers and not self._is_admitting:
            self._is_admitting = True
            self._loop.call_soon(self._admit_strangers)

    def _receive_batch(self) -> int:
        """Receive a batch, and return its size.

        Datagrams of clients whose addresses are not proven wait apart from the others, and are
        dropped if they are many: so a flood of first packets delays neither connections nor those
        that begin with a Retry token. All others are processed in turn for each client.
        """
        batch, local = self._batch, None
        count = batch.receive(self.sock)
        payloads, peers = batch.payloads(count), batch.addresses(count)
        datagrams: list[Datagram] = []
        for slot in range(count):
            if self._wildcard:
                local = batch.local(slot, self._port)
            datagrams.append(Datagram(payloads[slot], peers[slot], local))
        batch.release(count)
        if self._proxied is not None:
            datagrams = self._without_headers(self._proxied, datagrams)
        for datagram in datagrams:
            client = self.demultiplexer.client(datagram)
            if client is not None:
                self._received.put(client, datagram)
            else:
                stranger = client_of(datagram.client or datagram.peer)
                self._strangers.put(stranger, datagram)
        return count

    @staticmethod
    def _without_headers(
        proxied: ProxiedDatagrams, datagrams: Iterable[Datagram]
    ) -> list[Datagram]:
        """Return the datagrams without their PROXY headers, and with the clients in these."""
        found, now = [], monotonic()
        for datagram in datagrams:
            stripped = proxied.strip(datagram.data, datagram.peer, now)
            if stripped is not None:
                data, client = stripped
                found.append(datagram._replace(data=data, client=client))
        return found

    def _process(self) -> None:
        """Process some of the received datagrams, and the others in later turns of the loop."""
        self.demultiplexer.receive(self._relayed.take(PER_TURN), is_relayed=True)
        self.demultiplexer.receive(self._received.take(PER_TURN))
        self._is_processing = bool(self._relayed or self._received)
        if self._is_processing:
            self._loop.call_soon(self._process)

    def _admit_strangers(self) -> None:
        """Process some of the datagrams of strangers, only one if those of others wait."""
        began = thread_time()
        others_wait = bool(self._relayed or self._received)
        self.demultiplexer.receive(self._strangers.take(1 if others_wait else PER_TURN))
        spent = thread_time() - began
        self._is_admitting = bool(self._strangers)
        if self._is_admitting:
            pause = spent * REST if self.demultiplexer.handshakes.are_many else 0.0
            self._loop.call_later(pause, self._admit_strangers)

    def _on_relayed(self) -> None:
        for datagram in self._relay.receive():
            self._relayed.put(client_of(datagram.client or datagram.peer), datagram)
        self._process_soon()

    def _process_soon(self) -> None:
        if (self._relayed or self._received) and not self._is_processing:
            self._process()

    # Time limits

    def _schedule_check(self) -> None:
        if self._check is None:
            interval = DRAIN_INTERVAL if self.draining else CHECK_INTERVAL
            self._check = self._loop.call_later(interval, self._check_limits)

    def _check_limits(self) -> None:
        self._check = None
        self.demultiplexer.expire()
        now = monotonic()
        for connection in list(self.connections):
            connection.check(now)
            self.demultiplexer.touch(connection)
        self.demultiplexer.flush()
        if self.draining:
            self._forget_closed()
        if self.connections:
            self._schedule_check()

    def _forget_closed(self) -> None:
        """Forget the closed connections; the kernel has their last packets."""
        for connection in list(self.connections):
            if connection.quic.has_ended:
                self.demultiplexer.forget(connection)

    # Queries and the end

    def waiting(self) -> set[WaitingQuery]:
        """Return the queries that have no answer yet."""
        self._lost = {runner for runner in self._lost if runner.waiting}
        runners = self._lost.union(*(connection.runners() for connection in self.connections))
        return {query for runner in runners for query in runner.waiting}

    def status(self) -> dict[str, Any]:
        """Return the state of the listener for an operator."""
        established = sum(it.quic.is_established for it in self.connections)
        return {**super().status(), "connections": established}

    def stop(self, *, leave_queue: bool = False) -> None:
        """Close idle connections, and the others when they have their replies.

        With `leave_queue` another process reads the socket, and passes on what belongs to them.
        """
        if self.draining:
            return
        self.draining = True
        if leave_queue:
            self._loop.remove_reader(self.sock)
        for connection in list(self.connections):
            connection.drain()
            self.touch(connection)
        if self._check is not None:
            self._check.cancel()
            self._check = None
        if self.connections:
            self._schedule_check()

    @property
    def is_drained(self) -> bool:
        """Whether no connection is open."""
        waiting = self._relayed or self._received or self._strangers
        return not waiting and not self.connections

    def close(self) -> None:
        """Send the replies that are ready, close all connections, and close the sockets."""
        self.stop()
        self.forget()
        self._flush_all()
        for connection in list(self.connections):
            connection.finish()
        self._flush_all()
        self.demultiplexer.close()
        if self._check is not None:
            self._check.cancel()
        self._relayed.clear()
        self._received.clear()
        self._strangers.clear()
        for sock in (self.sock, self._relay.sock):
            if sock.fileno() >= 0:
                self._loop.remove_reader(sock)
                sock.close()

    def _flush_all(self) -> None:
        for connection in list(self.connections):
            self.demultiplexer.touch(connection)
        self.demultiplexer.flush()

    async def check(self, address: tuple[str | int, ...]) -> bool:
        """Ask for the versions of QUIC at `address`; return whether there is an answer."""
        return await is_answered(address)
