"""`Demultiplexer`: the connections at one UDP socket."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final, Protocol

from aioquic.buffer import Buffer  # type: ignore[attr-defined]  # documented, without __all__
from aioquic.quic.events import (
    ConnectionIdIssued,
    ConnectionIdRetired,
    ConnectionTerminated,
    HandshakeCompleted,
)
from aioquic.quic.packet import QuicPacketType, pull_quic_header

from corepy.net.connection_limit import client_of
from corepy.net.quic.handshakes import Handshakes
from corepy.net.quic.identifiers import (
    FIXED_BIT,
    ID_SIZE,
    LONG_HEADER,
    OWNER_SIZE,
    SMALLEST_CHOSEN,
    SMALLEST_FIRST,
    Identifiers,
    destination,
    token_in,
)
from corepy.net.quic.server_connection import ServerConnection
from corepy.net.quic.stateless import VERSIONS, Resets, version_negotiation
from corepy.net.quic.tickets import Tickets
from corepy.net.quic.timers import Timers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from aioquic.quic.configuration import QuicConfiguration
    from aioquic.quic.events import QuicEvent
    from aioquic.quic.packet import QuicHeader

    from corepy.net.quic.datagram_relay import Datagram, Relay
    from corepy.net.quic.server_connection import Windows

BUDGET: Final = 0.005
"""Seconds after which the event loop may do other work; a handshake takes 3 ms of CPU time."""

MAX_AMPLIFICATION: Final = 3
"""Bytes that may be sent for each byte from an address without a proof (RFC 9000 section 8.1)."""

HANDSHAKE_LIMIT: Final = 5.0
"""Seconds for a handshake."""


class Application(Protocol):
    """The protocol above QUIC, for one connection."""

    quic: ServerConnection

    client: Any
    """The address of the client if a proxy states it, None without a proxy."""

    place: bytes
    """The client in limits (`client_of`)."""

    def established(self) -> None:
        """Continue after the handshake: the client's address is known to be its own."""

    def handle(self, event: QuicEvent) -> None:
        """Handle an event of a stream."""

    def proceed(self) -> None:
        """Continue after the events of a datagram, or when `touch` was called."""

    def lost(self) -> None:
        """Release everything: the connection has ended."""


class Host(Protocol):
    """The listener with the socket."""

    windows: Windows

    def configuration(self) -> QuicConfiguration | None:
        """Return the configuration for a new connection; None if there can be none now."""

    def begin(self, quic: ServerConnection, peer: Any, client: Any) -> Application:
        """Return the application of a new connection."""

    def send(self, data: bytes, peer: Any, local: Any) -> None:
        """Queue a datagram to `peer`, from `local` if it is not None."""

    def sent(self) -> None:
        """Send the queued datagrams."""

    def failed(self, error: BaseException) -> None:
        """Report an exception that ended a connection."""


class _Farewell:
    """The last datagrams of a connection, repeated for a client that has not received them."""

    def __init__(self, datagrams: list[bytes]) -> None:
        self._datagrams = datagrams
        self._received = 0

    def answer(self, size: int) -> list[bytes]:
        """Return what to send for a datagram of `size` bytes.

        It is at most three times as large, since the source of the datagram may be forged, and it
        is sent ever less often (RFC 9000 section 10.2.1).
        """
        if sum(map(len, self._datagrams)) > MAX_AMPLIFICATION * size:
            return []
        self._received += 1
        return [] if self._received & (self._received - 1) else self._datagrams


class Demultiplexer:
    """Passes datagrams to connections, and sends those of connections."""

    def __init__(self, host: Host, relay: Relay, secret: bytes, clock: Callable[[], float]) -> None:
        """`secret` is shared by all processes of the server; `clock` is that of the event loop."""
        self._host = host
        self._relay = relay
        self._clock = clock
        self.tickets = Tickets()
        self.timers: Timers[Application] = Timers(self._on_timer)
        self._by_id: dict[bytes, Application] = {}
        """The connections by the IDs that we have made."""
        self._unproven: dict[bytes, Application] = {}
        """Those whose clients have not proven their addresses, by the IDs that clients chose."""
        self._ids: dict[Application, set[bytes]] = {}
        self._farewells: dict[Application, _Farewell] = {}
        self._in_progress: dict[Application, tuple[bytes, bytes, float]] = {}
        """The client, the destination ID of its first packets, and the time of the first one."""
        self._touched: dict[Application, None] = {}
        self._identifiers = Identifiers(relay.owner, secret)
        self._resets = Resets(self._identifiers)
        self.handshakes = Handshakes(self._identifiers, secret)

    def use_secret(self, secret: bytes) -> None:
        """Derive tokens from another secret from now on."""
        self._identifiers.use(secret)
        self.handshakes.use(secret)

    @property
    def size(self) -> int:
        """The number of connections, those that begin and end included."""
        return len(self._ids)

    def client(self, datagram: Datagram) -> bytes | None:
        """Return the client of a datagram that belongs to a connection, or has a Retry token.

        Its address is proven, and its share is that of all its connections. None for strangers,
        whose addresses may be forged.
        """
        data, peer, _, stated = datagram
        to = destination(data)
        application = self._by_id.get(to)
        if application is not None:
            return application.place
        token = token_in(data)
        if token and self.handshakes.proven(to, token, peer, self._clock()) is not None:
            return client_of(stated or peer)
        return None

    def receive(self, datagrams: Iterable[Datagram], *, is_relayed: bool = False) -> int:
        """Process received datagrams, and send what follows from them.

        Return how many were read until `BUDGET` was used up.
        """
        now = self._clock()
        processed = 0
        for datagram in datagrams:
            processed += 1
            application = self._application(datagram, now, is_relayed=is_relayed)
            if application is not None:
                self._receive(application, datagram, now)
            if self._clock() - now > BUDGET:
                break
        for orphan in self._relay.flush():
            application = self._unknown(orphan, destination(orphan.data), now)
            if application is not None:
                self._receive(application, orphan, now)
        self.flush()
        return processed

    def _application(
        self, datagram: Datagram, now: float, *, is_relayed: bool
    ) -> Application | None:
        """Return the connection that processes a datagram; None if none does."""
        to = destination(datagram.data)
        application = self._by_id.get(to)
        if application is not None:
            return application
        application = self._unproven.get(to)
        if application is not None:
            return application if application.quic.takes_unproven() else None
        return self._find(datagram, to, now, is_relayed=is_relayed)

    def _receive(self, application: Application, datagram: Datagram, now: float) -> None:
        data, *addresses, client = datagram
        path = tuple(addresses)
        farewell = self._farewells.get(application)
        if farewell is not None:
            for last in farewell.answer(len(data)):
                self._host.send(last, *path)
            return
        try:
            if application.quic.take(data, path, now):
                application.client = client
        except Exception as error:  # a fault of the library, which must not harm other clients
            self._host.failed(error)
            self._forget(application)
            return
        self._touched[application] = None

    def _find(
        self, datagram: Datagram, to: bytes, now: float, *, is_relayed: bool
    ) -> Application | None:
        """Pass on a datagram for another listener, or handle one that belongs to none."""
        is_of_another = len(to) == ID_SIZE and not to.startswith(self._relay.owner)
        if is_of_another and not is_relayed and self._relay.queue(to[:OWNER_SIZE], datagram):
            return None
        return self._unknown(datagram, to, now)

    def _unknown(self, datagram: Datagram, to: bytes, now: float) -> Application | None:
        """Return a new connection for a client's first datagram; None for any other."""
        data, peer, local, _ = datagram
        if not data or (not data[0] & FIXED_BIT and not data[0] & LONG_HEADER):
            return None
        if not data[0] & LONG_HEADER:
            reset = self._resets.answer(data, to, now) if len(to) == ID_SIZE else None
            if reset is not None:
                self._host.send(reset, peer, local)
            return None
        if len(data) < SMALLEST_FIRST:
            return None
        try:
            header = pull_quic_header(Buffer(data=data), host_cid_length=ID_SIZE)
        except ValueError:
            return None
        if header.packet_type is QuicPacketType.VERSION_NEGOTIATION:
            return None
        if header.version not in VERSIONS:
            self._host.send(version_negotiation(header), peer, local)
            return None
        is_first = header.packet_type is QuicPacketType.INITIAL
        if not is_first or len(to) < SMALLEST_CHOSEN:
            return None
        return self._begin(header, datagram, now)

    def _begin(self, header: QuicHeader, datagram: Datagram, now: float) -> Application | None:
        _, peer, local, stated = datagram
        origin = self.handshakes.origin(header, peer, now)
        if origin is None:
            self._host.send(self.handshakes.retry(header, peer, now), peer, local)
            return None
        configuration = self._host.configuration()
        if configuration is None:
            return None
        client = self.handshakes.begin(stated or peer)
        if client is None:
            return None
        quic = ServerConnection(
            configuration, self._identifiers, self._host.windows, origin, self.tickets
        )
        application = self._host.begin(quic, peer, stated)
        self._in_progress[application] = client, header.destination_cid, now
        self._ids[application] = {quic.host_cid}
        self._by_id[quic.host_cid] = application
        chosen = self._by_id if origin.retried else self._unproven
        chosen[header.destination_cid] = application
        return application

    def touch(self, application: Application) -> None:
        """Let an application proceed in `flush`, and send what its connection has to send."""
        if application in self._ids:
            self._touched[application] = None

    def flush(self) -> None:
        """Let the touched connections proceed and send."""
        now = self._clock()
        while self._touched:
            application, _ = self._touched.popitem()
            try:
                self._pump(application, now)
            except Exception as error:  # as above
                self._host.failed(error)
                self._forget(application)
        self._host.sent()

    def _pump(self, application: Application, now: float) -> None:
        quic = application.quic
        self._handle_events(application)
        application.proceed()
        was_open = not quic.has_ended
        sent = quic.datagrams_to_send(now)
        for data, path in sent:
            self._host.send(data, *path)
        if was_open and quic.has_ended:
            self._farewells[application] = _Farewell([data for data, _ in sent])
        self._handle_events(application)  # IDs are announced by sending
        if application in self._ids:
            self.timers.set(application, quic.get_timer())

    def _handle_events(self, application: Application) -> None:
        while (event := application.quic.next_event()) is not None:
            if isinstance(event, HandshakeCompleted):
                self._end_handshake(application)
                application.established()
            elif isinstance(event, ConnectionIdIssued):
                self._add_id(application, event.connection_id)
            elif isinstance(event, ConnectionIdRetired):
                self._remove_id(application, event.connection_id)
            elif isinstance(event, ConnectionTerminated):
                self._forget(application)
            else:
                application.handle(event)

    def _add_id(self, application: Application, connection_id: bytes) -> None:
        if application in self._ids:
            self._ids[application].add(connection_id)
            self._by_id[connection_id] = application

    def _remove_id(self, application: Application, connection_id: bytes) -> None:
        self._ids.get(application, set()).discard(connection_id)
        self._by_id.pop(connection_id, None)

    def _end_handshake(self, application: Application) -> None:
        place = self._in_progress.pop(application, None)
        if place is not None:
            client, chosen, _ = place
            self.handshakes.end(client)
            self._by_id.pop(chosen, None)
            self._unproven.pop(chosen, None)

    def _forget(self, application: Application) -> None:
        """Remove a connection at once."""
        self._end_handshake(application)
        for connection_id in self._ids.pop(application, ()):
            self._by_id.pop(connection_id, None)
        self._farewells.pop(application, None)
        self._touched.pop(application, None)
        self.timers.set(application, None)
        application.lost()

    def _on_timer(self, application: Application, now: float) -> None:
        try:
            application.quic.handle_timer(now)
        except Exception as error:  # as above
            self._host.failed(error)
            self._forget(application)
            return
        self.touch(application)
        self.flush()

    def expire(self) -> None:
        """Forget the handshakes that take too long."""
        limit = self._clock() - HANDSHAKE_LIMIT
        for application, (_, _, began) in list(self._in_progress.items()):
            if began > limit:
                break
            self._forget(application)

    def forget(self, application: Application) -> None:
        """Remove a connection that was closed, without the time for its last packets."""
        if application in self._ids:
            self._forget(application)

    def close(self) -> None:
        """Forget all connections."""
        for application in list(self._ids):
            with contextlib.suppress(Exception):
                self._forget(application)
        self.timers.clear()
