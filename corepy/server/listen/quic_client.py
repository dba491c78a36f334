"""`QUICClient`: one client's connection, for the protocols that carry a query in each stream."""

from __future__ import annotations

import abc
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Protocol

from corepy.dns import Identity
from corepy.dns.identity import TLSFacts
from corepy.dns.replayable import is_replayable
from corepy.net.connection_limit import client_of
from corepy.plugin.log import server_logger
from corepy.server.listen.quic_stream import QueryHost, QueryStream

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aioquic.quic.events import QuicEvent

    from corepy.net.quic.server_connection import ServerConnection
    from corepy.net.turns import Turns
    from corepy.plugin import Timeouts
    from corepy.server.listen.chain_runner import ChainRunner

DRAIN_IDLE: Final = 0.2
"""Seconds without a query after which a stopping server closes a connection."""

DRAIN_BUSY: Final = 2.0
"""Seconds after which it closes a connection as soon as no query is pending.

A client has to repeat the queries that it has sent meanwhile (RFC 9250 section 5.4).
"""

MAX_OUT: Final = 256 * 1024
"""Bytes of replies that the client has not acknowledged, beyond which its queries wait."""

MAX_PARTIAL: Final = 256 * 1024
"""Bytes of unfinished queries of a connection; most clients send each query in one packet."""


class QUICHost(QueryHost, Protocol):
    """The listener, as a connection sees it."""

    timeouts: Timeouts
    turns: Turns
    starving: dict[Any, None]
    """The connections with queries that wait for the end of another one's."""

    @property
    def label(self) -> str:
        """The address of the server in logs and metrics."""

    @property
    def protocol_name(self) -> str:
        """What was negotiated with ALPN."""

    def may_begin(self) -> bool:
        """Return whether another query may be in flight."""

    def admit(self, added: Any) -> None:
        """Register a connection after its handshake."""

    def forget_connection(self, connection: Any) -> None:
        """Unregister a connection that has ended."""

    def touch(self, connection: Any) -> None:
        """Let a connection proceed and send in the next turn of the event loop."""


class QUICClient(abc.ABC):
    """One client's connection."""

    no_error: int
    """The code of the protocol for a connection that ends without an error."""

    excessive_load: int
    """The code for one that ends since the client uses too much."""

    def __init__(self, listener: QUICHost, quic: ServerConnection, peer: Any, client: Any) -> None:
        """Begin with the addresses of the peer and, if that is a proxy, of the client."""
        self._listener = listener
        self.quic = quic
        self.peer = peer
        self.client = client
        self.place = client_of(client or peer)
        """The client in limits: an address, or an IPv6 /64."""
        self.last_activity = monotonic()
        self.streams: dict[int, QueryStream] = {}
        """The streams whose queries are not answered."""
        self.partial = 0
        """Bytes of queries that are not complete."""
        self._early: list[QueryStream] = []
        self._ready: deque[QueryStream] = deque()
        self.blocked: set[QueryStream] = set()
        """The streams of series that wait for the client."""
        self._written = 0
        self._queries = 0
        self._identity: Identity | None = None
        self._draining_since: float | None = None

    @property
    def listener(self) -> QUICHost:
        """The listener."""
        return self._listener

    # Events

    @abc.abstractmethod
    def handle(self, event: QuicEvent) -> None:
        """Handle an event of a stream."""

    def established(self) -> None:
        """Process the queries that had to wait for the end of the handshake."""
        self._ready.extend(self._early)
        self._early.clear()
        self.listener.admit(self)

    def lost(self) -> None:
        """Cancel the pending queries."""
        for stream in list(self.streams.values()):
            stream.cancel()
        self.listener.forget_connection(self)
        self.streams.clear()
        self._ready.clear()

    def runners(self) -> Iterable[ChainRunner]:
        """Return what runs the pending queries."""
        return [it.runner for it in self.streams.values() if it.runner is not None]

    # Queries

    @property
    def identity(self) -> Identity:
        """The identity of the queries."""
        if self._identity is None or self._identity.client != self.client:
            self._identity = Identity(client=self.client, tls=self.facts)
        return self._identity

    @property
    def facts(self) -> TLSFacts:
        """The parameters of TLS; aioquic does not tell which server name the client gave."""
        return TLSFacts("TLSv1.3", self.quic.cipher, "", self.listener.protocol_name)

    def ask(self, stream: QueryStream) -> None:
        """Process the complete query of a stream in `proceed`.

        A query whose repetition has an effect waits for the handshake: early data may be a replay
        of an attacker, who cannot complete the handshake (RFC 9250 section 4.5, RFC 8470).
        """
        if not self.quic.accepts(stream.number):  # cancelled before the query was complete
            del self.streams[stream.number]
        elif self.quic.is_established or is_replayable(stream.message):
            self._ready.append(stream)
        else:
            self._early.append(stream)

    def proceed(self) -> None:
        """Process queries, up to the limits of the listener and of this connection."""
        for stream in list(self.blocked):
            stream.resume()
        if self.quic.is_over:
            return
        turns = self.listener.turns
        left = turns.step() if self._ready else 0
        processed = 0
        while self._ready and processed < left and self._may_answer():
            self._answer(self._ready.popleft())
            processed += 1
        turns.count(processed)
        if self._ready and self._may_answer():
            turns.wait(self)
        elif self._ready and not self.listener.may_begin():
            self.listener.starving[self] = None

    def go_on(self) -> None:
        """Process queries that had to wait for those of others."""
        self.listener.touch(self)

    def _may_answer(self) -> bool:
        if self._written > MAX_OUT:
            self._written = self.quic.unacknowledged()
        return self._written <= MAX_OUT and self.listener.may_begin()

    def _answer(self, stream: QueryStream) -> None:
        if self.streams.get(stream.number) is not stream:
            return  # the client has cancelled it
        now = monotonic()
        self.last_activity = now
        self._queries += 1
        try:
            wire = stream.begin(now)
        except Exception:
            label = self.listener.label
            server_logger().exception("a query over QUIC to %s was dropped", label)
            wire = b""
        if wire is not None:
            self.finish_stream(stream, wire)

    def finish_stream(self, stream: QueryStream, wire: bytes) -> None:
        """Send the reply of a stream; it is empty if the query is dropped."""
        if self.streams.pop(stream.number, None) is not None and not self.quic.is_over:
            self._written += len(wire)
            self.reply(stream, wire)

    @abc.abstractmethod
    def reply(self, stream: QueryStream, wire: bytes) -> None:
        """Send a reply, and end the stream; without bytes, end it with an error."""

    def touch(self) -> None:
        """Send what was written, soon."""
        self.listener.touch(self)

    # The end

    @property
    def is_idle(self) -> bool:
        """Whether all queries of this connection are answered."""
        return not self.streams

    def check(self, now: float) -> None:
        """Enforce the time limits; `now` is monotonic, in seconds."""
        timeouts = self.listener.timeouts
        for stream in list(self.streams.values()):
            if not stream.is_complete and now - stream.since > timeouts.read:
                self.refuse_late(stream)
            elif stream.waits_since is not None and now - stream.waits_since > timeouts.write:
                stream.cancel()
        most = timeouts.max_queries
        is_used_up = most is not None and self._queries >= most
        is_unused = now - self.last_activity > timeouts.idle  # even if it is kept alive
        if (is_used_up or is_unused) and self.is_idle and not self.quic.unacknowledged():
            self.end(self.no_error)
        if self._draining_since is not None:
            self._check_drained(now, self._draining_since)

    @abc.abstractmethod
    def refuse_late(self, stream: QueryStream) -> None:
        """End a stream whose query has not arrived completely within its time."""

    def _check_drained(self, now: float, since: float) -> None:
        is_late = now - since >= DRAIN_BUSY
        is_quiet = now - max(self.last_activity, since) >= DRAIN_IDLE
        if self.is_idle and (is_late or (is_quiet and not self.quic.unacknowledged())):
            self.end(self.no_error)

    def drain(self) -> None:
        """Answer the queries that the client has sent, then close."""
        self._draining_since = monotonic()

    def finish(self) -> None:
        """Close the connection."""
        self.end(self.no_error)

    def make_room(self) -> None:
        """Close in favour of another client's connection."""
        self.end(self.excessive_load)

    def end(self, code: int, reason: str = "") -> None:
        """Close the connection with an error code of the protocol."""
        if not self.quic.is_over:
            self.quic.close(error_code=code, reason_phrase=reason)
