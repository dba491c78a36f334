"""The transport quic://, DNS over QUIC (RFC 9250).

Each query has a stream of its own: the client sends one message after its length and ends its
direction, the server answers with one message, or a series of messages for a zone transfer. A
client that breaks these rules loses its connection (section 4.3.3).
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any, ClassVar, Final

from aioquic.quic.events import StopSendingReceived, StreamDataReceived, StreamReset

from corepy.corefile.zones import SCHEMES
from corepy.dns import Request, accept
from corepy.dns.constants import HEADER_SIZE
from corepy.dns.edns import parse_options
from corepy.net.frames import frame
from corepy.net.quic.server_connection import Windows
from corepy.plugin import ProxyPolicy, QUICLimits, Timeouts, TLSSetting, TSIGKeys, metrics
from corepy.server.listen.doq_stream import DoQStream
from corepy.server.listen.quic_client import MAX_PARTIAL, QUICClient
from corepy.server.listen.quic_configuration import find_certificate_problem
from corepy.server.listen.quic_listener import QUICListener
from corepy.server.listen.transport import Transport

if TYPE_CHECKING:
    import socket

    from aioquic.quic.events import QuicEvent

    from corepy.net.quic.server_connection import ServerConnection
    from corepy.plugin import ListenerConfig
    from corepy.server.listen.query_listener import ListenerContext
    from corepy.server.listen.quic_stream import QueryStream

LARGEST: Final = 2 + 0xFFFF
"""Bytes of a query with its length."""

WINDOW: Final = 512 * 1024
"""Bytes of a connection that were received out of order."""

_KEEPALIVE: Final = 11
"""The EDNS option edns-tcp-keepalive (RFC 7828)."""

RESPONSES: Final = metrics.counter(
    "coredns_dns_quic_responses_total",
    "Replies over QUIC, and connections and streams that ended with an error, by code.",
    ("server", "status"),
)


class Code(IntEnum):
    """The error codes of streams and connections (section 4.3)."""

    NO_ERROR = 0
    INTERNAL_ERROR = 1
    PROTOCOL_ERROR = 2
    REQUEST_CANCELLED = 3
    EXCESSIVE_LOAD = 4
    UNSPECIFIED_ERROR = 5


class DoQListener(QUICListener):
    """One UDP socket of DNS over QUIC."""

    protocol: ClassVar[str] = "quic"
    takes_series: ClassVar[bool] = True
    application_protocol: ClassVar[str] = "doq"

    def __init__(self, sock: socket.socket, context: ListenerContext) -> None:
        """Answer at `sock`."""
        super().__init__(sock, context)
        self._counters = {code: RESPONSES.labels(self.label, hex(code)) for code in Code}

    def new_connection(self, quic: ServerConnection, peer: Any, client: Any) -> DoQClient:
        """Return the application for a new connection."""
        return DoQClient(self, quic, peer, client)

    def limits(self, config: ListenerConfig) -> tuple[Windows, int]:
        """Return the limits of a connection, and the number of connections."""
        limits = config.get(QUICLimits)
        self.most_pending = limits.worker_pool_size
        return Windows(limits.max_streams, 0, LARGEST, WINDOW), limits.max_connections

    def count(self, code: Code) -> None:
        """Count a reply, or an error."""
        self._counters[code].inc()


class DoQClient(QUICClient):
    """One client's connection."""

    no_error = Code.NO_ERROR
    excessive_load = Code.EXCESSIVE_LOAD

    streams: dict[int, DoQStream]  # type: ignore[assignment]  # nothing else is added

    def __init__(
        self, listener: DoQListener, quic: ServerConnection, peer: Any, client: Any
    ) -> None:
        super().__init__(listener, quic, peer, client)
        self._count = listener.count

    def handle(self, event: QuicEvent) -> None:
        """Read a query, or its cancellation."""
        if isinstance(event, StreamDataReceived):
            self._receive(event)
        elif isinstance(event, StopSendingReceived | StreamReset):
            self._cancel(event.stream_id)

    def _receive(self, event: StreamDataReceived) -> None:
        number = event.stream_id
        stream = self.streams.get(number)
        if stream is None:
            if not self.quic.accepts(number):
                return  # the rest of a query that was cancelled
            stream = self.streams[number] = DoQStream(self, number)
        if stream.is_complete or stream.is_cancelled:
            return
        stream.data += event.data
        self.partial += len(event.data)
        size = int.from_bytes(stream.data[:2], "big")
        if len(stream.data) > 2 + size and len(stream.data) >= 2:
            self._protocol_error("more than one query in a stream")
        elif event.end_stream:
            self._complete(stream, size)
        elif self.partial > MAX_PARTIAL:
            self._end(Code.EXCESSIVE_LOAD, "too many unfinished queries")

    def _complete(self, stream: DoQStream, size: int) -> None:
        self.partial -= len(stream.data)
        message = stream.message = bytes(stream.data[2:])
        stream.is_complete = True
        if len(stream.data) != 2 + size or size < HEADER_SIZE or message[2] & 0x80:
            self._protocol_error("no query in a stream")
        elif message[:2] != b"\0\0":
            self._protocol_error("the ID of a query is not 0")
        elif b"\0\x0b" in message and has_keepalive(message):
            self._protocol_error("a query with edns-tcp-keepalive")
        else:
            stream.data.clear()
            self.ask(stream)

    def _cancel(self, number: int) -> None:
        """End a stream whose reply the client does not want (section 4.3.1)."""
        stream = self.streams.pop(number, None)
        if stream is not None:
            if not stream.is_complete:
                self.partial -= len(stream.data)
            stream.cancel()
        self.quic.abandon(number, Code.REQUEST_CANCELLED)

    def refuse_late(self, stream: QueryStream) -> None:
        """Close the connection: the client has not ended its query."""
        self._protocol_error("a query does not end")

    def _protocol_error(self, reason: str) -> None:
        self._end(Code.PROTOCOL_ERROR, reason)

    def _end(self, code: Code, reason: str) -> None:
        if not self.quic.is_over:
            self._count(code)
            self.end(code, reason)

    def reply(self, stream: QueryStream, wire: bytes) -> None:
        """Send a reply, and end the stream; a dropped query ends it with an error."""
        if wire:
            self.quic.end_stream(stream.number, frame(wire))
            self._count(Code.NO_ERROR)
        else:
            self.quic.abandon(stream.number, Code.UNSPECIFIED_ERROR)
            self._count(Code.UNSPECIFIED_ERROR)

    def end_series(self, stream: QueryStream, wire: bytes, *, is_broken: bool) -> None:
        """End the stream of a series."""
        self.streams.pop(stream.number, None)
        if self.quic.is_over:
            return
        if is_broken:
            self.quic.abandon(stream.number, Code.INTERNAL_ERROR)
            self._count(Code.INTERNAL_ERROR)
        else:
            self.quic.end_stream(stream.number, frame(wire) if wire else b"")
            self._count(Code.NO_ERROR)


def has_keepalive(message: bytes) -> bool:
    """Return whether a query has the option edns-tcp-keepalive, which QUIC makes needless."""
    request = accept(message)
    if type(request) is not Request or request.edns is None:
        return False
    return any(code == _KEEPALIVE for code, _ in parse_options(request.edns.options))


TRANSPORT: Final = Transport(
    "quic",
    SCHEMES["quic"],
    (DoQListener,),
    settings=(Timeouts, TSIGKeys, TLSSetting, ProxyPolicy, QUICLimits),
    find_listener_problem=find_certificate_problem,
)
