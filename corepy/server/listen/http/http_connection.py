"""One client's connection that carries HTTP: its transport, its limits and its time limits."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol, cast

from corepy.dns import ANONYMOUS, Identity
from corepy.server.listen.http.cached_answers import find_cached
from corepy.server.listen.stream_listener import StreamConnection
from corepy.server.listen.stream_queries import StreamQueries
from corepy.server.listen.tcp import DRAIN_IDLE

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from corepy.dns import HTTPFacts
    from corepy.net.turns import Turns
    from corepy.plugin import Timeouts
    from corepy.server.listen.http.http_exchange import Session
    from corepy.server.listen.pipeline import QueryPipeline
    from corepy.server.listen.stream_queries import StreamQuery

MAX_PENDING: Final = 250
"""Pending queries of a connection, beyond which the server stops reading.

Also those of requests that their client has given up, which may still have to end.
"""

MAX_OUT: Final = 64 * 1024
"""Bytes of responses made before the client has to read them."""

LONGEST_CHECK: Final = 1.0
"""Maximum seconds between two checks of the time limits of open requests."""


class ConnectionOwner(Protocol):
    """The listener that has accepted a connection; see `HTTPListener`."""

    timeouts: Timeouts
    turns: Turns
    draining: bool
    pipeline: QueryPipeline

    @property
    def label(self) -> str:
        """The address of the server in logs and metrics."""

    def admit(self, added: StreamConnection, peer: object) -> None:
        """Register a new connection."""

    def forget_connection(self, connection: StreamConnection) -> None:
        """Unregister a closed connection."""

    def new_session(self, connection: HTTPConnection, protocol: str | None) -> Session:
        """Return the session for a protocol, or for a client that has negotiated none."""

    def plain_protocol(self, start: bytes) -> str | None:
        """Return the protocol of a connection without TLS; None if `start` is too short."""


class HTTPConnection(StreamConnection):
    """A connection; its session depends on the protocol that TLS has negotiated."""

    def __init__(self, listener: ConnectionOwner) -> None:
        self.runner = StreamQueries()
        self.last_activity = monotonic()
        self.listener = listener
        self.draining = False
        self._loop = asyncio.get_running_loop()
        self._identity = ANONYMOUS
        self._peer: object = None
        self._local: object = None
        self._transport: asyncio.Transport
        self._session: Session | None = None
        self._early = b""  # data before the session is known
        self._out: list[bytes] = []
        self._out_size = 0
        self._timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._asked = self._closing = self._paused = self._is_flushing = False

    @property
    def pending(self) -> StreamQueries:
        """The pending queries of this connection."""
        return self.runner

    @property
    def is_idle(self) -> bool:
        """Whether all requests of this connection are answered."""
        session = self._session
        return not self.runner and not self._out and (session is None or session.is_idle)

    @property
    def label(self) -> str:
        """The address of the server in logs and metrics."""
        return self.listener.label

    @property
    def pipeline(self) -> QueryPipeline:
        """The pipeline of the listener."""
        return self.listener.pipeline

    @property
    def timeouts(self) -> Timeouts:
        """The time limits of the connection, which a reload may change."""
        return self.listener.timeouts

    @property
    def turns(self) -> Turns:
        """The turns that the connections of the listener share."""
        return self.listener.turns

    @property
    def client_address(self) -> object:
        """The address of the client."""
        return self._peer if self.client is None else self.client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register the connection and start its read timeout."""
        self._transport = cast("asyncio.Transport", transport)
        self._peer = transport.get_extra_info("peername")
        self._local = transport.get_extra_info("sockname")
        self._identity = Identity(self.client)
        self.listener.admit(self, self._peer)
        if self.listener.draining:
            self.drain()
        else:
            self._timer = self._loop.call_later(self.listener.timeouts.read, self._check_time)

    def secured(self, tls: ssl.SSLObject) -> None:
        """Begin the session that the client has negotiated; without ALPN, HTTP/1.1."""
        # Connections without TLS do not need the module.
        from corepy.server.listen.tls_acceptance import facts

        self.last_activity = monotonic()
        self._identity = replace(self._identity, tls=facts(tls))
        self._begin(self.listener.new_session(self, tls.selected_alpn_protocol()))

    def _begin(self, session: Session) -> None:
        self._session = session
        if self.draining:
            session.begin_drain()

    def connection_lost(self, exc: Exception | None) -> None:
        """Unregister the connection and cancel its pending queries."""
        self.listener.forget_connection(self)
        self.turns.forget(self)
        for timer in (self._timer, self._write_timer):
            if timer is not None:
                timer.cancel()
        self.runner.cancel()

    def data_received(self, data: bytes) -> None:
        """Answer the requests in `data`, up to the limits of the connection."""
        session = self._session
        if session is None:
            self._early += data
            protocol = self.listener.plain_protocol(self._early)
            if protocol is None:
                return
            data, self._early = self._early, b""
            self._begin(session := self.listener.new_session(self, protocol))
        self._is_flushing = True
        try:
            session.receive(data)
        finally:
            self._is_flushing = False
        self._flush()

    def go_on(self) -> None:
        """Process requests that were received before, if the client has read enough."""
        session = self._session
        is_open = not self._transport.is_closing()
        if session is not None and session.is_behind and is_open and not self.is_full:
            self.data_received(b"")

    def eof_received(self) -> bool:
        """Answer the requests that precede the end of the client's stream, then close."""
        if self._session is not None:
            self._session.end_input()
        self.close_when_done()
        return not self._transport.is_closing()

    @property
    def is_full(self) -> bool:
        """Whether the client has to wait for replies, or to read them, before others are made."""
        return (
            self._write_timer is not None
            or self._out_size > MAX_OUT
            or len(self.runner) >= MAX_PENDING
        )

    def note_request(self, now: float) -> None:
        """Restart the idle timeout: a request has begun, or is answered."""
        self.last_activity, self._asked = now, True

    def ask(
        self, message: bytes, facts: HTTPFacts, deliver: Callable[[bytes], None]
    ) -> StreamQuery | None:
        """Pass the reply to `message` to `deliver`: at once, or later if this returns a query.

        The reply is empty for a query that a plugin has dropped.
        """
        now, pipeline = monotonic(), self.listener.pipeline
        entry = find_cached(pipeline, message, self.client_address, now)
        if entry is not None:
            deliver(message[:2] + entry.body)
            return None
        identity = replace(self._identity, http=facts)
        found = self.runner.begin(
            pipeline, message, now, self._peer, self._local, identity, deliver
        )
        if type(found) is bytes:
            deliver(found)
            return None
        return found  # type: ignore[return-value]  # not bytes

    def send(self, data: bytes) -> None:
        """Send `data` at the end of this turn of the event loop, with other data."""
        self._out.append(data)
        self._out_size += len(data)
        self.flush_soon()

    def flush_soon(self) -> None:
        """Send, and read on if the client may send more, at the end of this turn of the loop."""
        if not self._is_flushing:
            self._is_flushing = True
            self._loop.call_soon(self._flush)

    def send_all(self, pieces: list[bytes], size: int) -> None:
        """Send `pieces` of `size` bytes while data is being processed."""
        self._out += pieces
        self._out_size += size

    def _flush(self) -> None:
        self._is_flushing = False
        if self._transport.is_closing():
            return
        if self._out:
            self._transport.write(b"".join(self._out))
            self._out.clear()
            self._out_size = 0
        if self._closing:
            self.close_when_done()
        self._throttle()

    def _throttle(self) -> None:
        """Stop reading while the client is too far ahead, or has to wait for its turn."""
        session = self._session
        is_full, is_behind = self.is_full, session is not None and session.is_behind
        if is_behind and not is_full:
            self.turns.wait(self)
        wants_pause = is_full or is_behind
        if wants_pause != self._paused and not self._transport.is_closing():
            self._paused = wants_pause
            (self._transport.pause_reading if wants_pause else self._transport.resume_reading)()

    def pause_writing(self) -> None:
        """Give the client `Timeouts.write` seconds to read its responses."""
        if self._write_timer is None:
            self._write_timer = self._loop.call_later(self.listener.timeouts.write, self.abort)
        self._throttle()

    def resume_writing(self) -> None:
        """Continue after the client has read its responses."""
        if self._transport.is_closing():
            return  # the close ends with the last byte written, or with the write timeout
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
        self._flush()

    def _check_time(self) -> None:
        """Close the connection if a time limit is exceeded, otherwise check again later."""
        now, timeouts, session = monotonic(), self.listener.timeouts, self._session
        if session is not None:
            session.expire(now)
        left = self.last_activity + (timeouts.idle if self._asked else timeouts.read) - now
        if left <= 0 and (self.is_idle or session is None):
            self.end()
            return
        if not self.is_idle:
            left = min(left, LONGEST_CHECK)
        self._timer = self._loop.call_later(max(left, 0.1), self._check_time)

    def drain(self) -> None:
        """Answer the requests that the client has sent, then close."""
        self.draining = True
        if self._timer is not None:
            self._timer.cancel()
        if self._session is not None:
            self._session.begin_drain()
        self._timer = self._loop.call_later(DRAIN_IDLE, self._check_drained)

    def _check_drained(self) -> None:
        now = monotonic()
        if self._session is not None:
            self._session.expire(now)
        left = self.last_activity + DRAIN_IDLE - now
        if left <= 0 and self.is_idle:
            self.end()
        else:
            self._timer = self._loop.call_later(max(left, 0.02), self._check_drained)

    def finish(self) -> None:
        """Send ready responses and close."""
        self.end()

    def end(self) -> None:
        """Close, and tell the client so."""
        if self._session is not None:
            self._session.end()
        self._closing = False
        self._flush()
        self.close()

    def close_when_done(self) -> None:
        """Close once every request that was read is answered."""
        self._closing = True
        if self.is_idle and not self._is_flushing:
            self.end()

    def close(self) -> None:
        """Close after all written bytes are sent; abort if that exceeds `Timeouts.write`."""
        self._transport.close()
        if self._write_timer is None and self._transport.get_write_buffer_size():
            timeout = self.listener.timeouts.write
            self._write_timer = self._loop.call_later(timeout, self.abort)

    def make_room(self) -> None:
        """Close in favour of another client's connection: abort if anything is left to do."""
        if self.is_idle and not self._transport.get_write_buffer_size():
            self.end()
        else:
            self.abort()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()
