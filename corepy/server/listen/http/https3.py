"""The transport https3://, DNS over HTTPS with HTTP/3 (RFC 8484, RFC 9114)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Final

from aioquic.h3.connection import ErrorCode
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.events import (
    ProtocolNegotiated,
    StopSendingReceived,
    StreamDataReceived,
    StreamReset,
)

from corepy.corefile.zones import SCHEMES
from corepy.net.quic.http3 import MAX_HEADER, ServerH3, size_of
from corepy.net.quic.server_connection import Windows
from corepy.plugin import HTTPS3Limits, ProxyPolicy, Timeouts, TLSSetting, TSIGKeys, metrics
from corepy.server.listen.http import doh
from corepy.server.listen.quic_client import MAX_PARTIAL, QUICClient
from corepy.server.listen.quic_configuration import find_certificate_problem
from corepy.server.listen.quic_listener import QUICListener
from corepy.server.listen.quic_stream import QueryStream
from corepy.server.listen.transport import Transport

if TYPE_CHECKING:
    import socket

    from aioquic.h3.events import H3Event
    from aioquic.quic.events import QuicEvent

    from corepy.dns import Identity
    from corepy.net.quic.server_connection import ServerConnection
    from corepy.plugin import ListenerConfig
    from corepy.server.listen.query_listener import ListenerContext

STREAM: Final = MAX_HEADER + doh.MAX_CONTENT + 4096
"""Bytes of a request, with the frames around its content; also of a stream for control."""

WINDOW: Final = 512 * 1024
"""Bytes of a connection that were received out of order."""

UNIDIRECTIONAL: Final = 16
"""Streams for control; a client has three, and some of no meaning."""

DEFAULT_STREAMS: Final = 100
"""Requests of a connection at a time for `max_streams 0`, as in quic-go."""

TOO_LARGE: Final = 431

RESPONSES: Final = metrics.counter(
    "coredns_dns_https3_responses_total",
    "Counter of DoH3 responses per server and http status code.",
    ("server", "status"),
)


class HTTPS3Listener(QUICListener):
    """One UDP socket of DNS over HTTP/3."""

    protocol: ClassVar[str] = "https3"
    application_protocol: ClassVar[str] = "h3"

    def __init__(self, sock: socket.socket, context: ListenerContext) -> None:
        """Answer at `sock`."""
        super().__init__(sock, context)
        self.counter = doh.ResponseCounter(RESPONSES, self.label)

    def new_connection(self, quic: ServerConnection, peer: Any, client: Any) -> H3Client:
        """Return the application for a new connection."""
        return H3Client(self, quic, peer, client)

    def limits(self, config: ListenerConfig) -> tuple[Windows, int]:
        """Return the limits of a connection, and the number of connections."""
        limits = config.get(HTTPS3Limits)
        streams = limits.max_streams or DEFAULT_STREAMS
        return Windows(streams, UNIDIRECTIONAL, STREAM, WINDOW), limits.max_connections


class RequestStream(QueryStream):
    """One request."""

    __slots__ = ("request", "size")

    def __init__(self, client: QUICClient, number: int) -> None:
        """Begin to receive the stream whose ID is `number`."""
        super().__init__(client, number)
        self.request: doh.DoHRequest | None = None
        self.size = 0
        """Bytes received."""

    @property
    def identity(self) -> Identity:
        """The identity of the query, with the request."""
        facts = None if self.request is None else self.request.facts
        return replace(self.client.identity, http=facts)


class H3Client(QUICClient):
    """One client's connection."""

    no_error = ErrorCode.H3_NO_ERROR
    excessive_load = ErrorCode.H3_EXCESSIVE_LOAD

    streams: dict[int, RequestStream]  # type: ignore[assignment]  # nothing else is added

    def __init__(
        self, listener: HTTPS3Listener, quic: ServerConnection, peer: Any, client: Any
    ) -> None:
        super().__init__(listener, quic, peer, client)
        self._counter = listener.counter
        self._h3: ServerH3 | None = None  # until the client's limits are known
        self._refused: set[int] = set()
        """The streams with a response whose requests have not ended."""

    def handle(self, event: QuicEvent) -> None:
        """Read requests."""
        if self._h3 is None:
            if isinstance(event, ProtocolNegotiated):
                self._h3 = ServerH3(self.quic)
            return
        if isinstance(event, StreamDataReceived) and not self._count(event):
            return
        for each in self._h3.handle_event(event):
            self._handle(each)
        if isinstance(event, StreamDataReceived):
            if event.end_stream:
                self._refused.discard(event.stream_id)
        elif isinstance(event, StopSendingReceived | StreamReset):
            self._refused.discard(event.stream_id)
            self._cancel(event.stream_id)

    def _count(self, event: StreamDataReceived) -> bool:
        """Count the bytes of a request; return whether the connection may go on."""
        number, size = event.stream_id, len(event.data)
        if number % 4 or number in self._refused:
            return True
        stream = self.streams.get(number)
        if stream is None:
            if event.end_stream and not event.data:
                return True
            stream = self.streams[number] = RequestStream(self, number)
        stream.size += size
        self.partial += size
        if self.partial > MAX_PARTIAL + STREAM:
            self.end(self.excessive_load, "too many unfinished requests")
            return False
        return True

    def _handle(self, event: H3Event) -> None:
        if not isinstance(event, HeadersReceived | DataReceived):
            return
        stream = self.streams.get(event.stream_id)
        if stream is None or stream.is_complete:
            return
        if isinstance(event, DataReceived):
            assert stream.request is not None
            stream.request.receive(event.data)
        elif stream.request is None:  # else they are trailers
            self._open(stream, event.headers)
        if stream.is_complete:
            return
        assert stream.request is not None
        if stream.request.status != doh.OK:
            self._refuse(stream, doh.refusal(stream.request.status))
        elif event.stream_ended:
            self._complete(stream)

    def _open(self, stream: RequestStream, headers: list[tuple[bytes, bytes]]) -> None:
        """Read the header of a request."""
        if size_of(headers) > MAX_HEADER:
            fields = doh.fields(doh.TEXT, 0)
            self._refuse(stream, doh.DoHResponse(TOO_LARGE, fields, b""))
            return
        found = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
        pseudo = {name: value for name, value in found if name[:1] == ":"}
        fields = tuple(it for it in found if it[0][:1] != ":")
        method, path = pseudo.get(":method", ""), pseudo.get(":path", "")
        stream.request = doh.DoHRequest(method, path, fields)

    def _complete(self, stream: RequestStream) -> None:
        """Ask the query of a complete request."""
        assert stream.request is not None
        stream.message = stream.request.message()
        if not stream.message:
            self._refuse(stream, doh.refusal(stream.request.status))
            return
        self._settle(stream)
        self.ask(stream)

    def _settle(self, stream: RequestStream) -> None:
        """Read no more of a request."""
        if not stream.is_complete:
            stream.is_complete = True
            self.partial -= stream.size

    def _refuse(self, stream: RequestStream, response: doh.DoHResponse) -> None:
        """Respond before the end of a request (RFC 9114 section 4.1)."""
        self._settle(stream)
        self.streams.pop(stream.number, None)
        self._respond(stream, response)
        self._refused.add(stream.number)
        self.quic.stop_reading(stream.number, ErrorCode.H3_NO_ERROR)

    def _cancel(self, number: int) -> None:
        """End a stream whose response the client does not want."""
        stream = self.streams.pop(number, None)
        if stream is not None:
            self._settle(stream)
            stream.cancel()
        if number % 4 == 0:
            self._abandon(number, ErrorCode.H3_REQUEST_CANCELLED)

    def _abandon(self, number: int, code: ErrorCode) -> None:
        self.quic.abandon(number, code)
        if self._h3 is not None:
            self._h3.forget(number)

    def refuse_late(self, stream: QueryStream) -> None:
        """End a request that does not end within its time."""
        self._cancel(stream.number)

    def reply(self, stream: QueryStream, wire: bytes) -> None:
        """Send the response with a reply."""
        self._respond(stream, doh.response(stream.message, wire))

    def _respond(self, stream: QueryStream, response: doh.DoHResponse) -> None:
        self._counter[response.status].inc()
        if self._h3 is None or not self.quic.accepts(stream.number):
            return
        status = str(response.status).encode()
        fields = [
            (name.encode("latin-1"), value.encode("latin-1")) for name, value in response.fields
        ]
        content = response.content
        self._h3.send_headers(stream.number, [(b":status", status), *fields], not content)
        if content:
            self._h3.send_data(stream.number, content, end_stream=True)

    def drain(self) -> None:
        """Ask the client not to send further requests; answer those that it has sent."""
        super().drain()
        if self._h3 is not None and not self.quic.is_over:
            self._h3.announce_end()


TRANSPORT: Final = Transport(
    "https3",
    SCHEMES["https3"],
    (HTTPS3Listener,),
    settings=(Timeouts, TSIGKeys, TLSSetting, ProxyPolicy, HTTPS3Limits),
    find_listener_problem=find_certificate_problem,
)
