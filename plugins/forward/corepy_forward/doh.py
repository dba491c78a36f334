"""DNS over HTTPS to one upstream (RFC 8484), over HTTP/2 with the package h2.

Each query is a stream of the connection, and the stream identifies the query of a reply. The
message ID is 0, as section 4.1 recommends for HTTP caches.
"""

from __future__ import annotations

import base64
from time import monotonic
from typing import TYPE_CHECKING, Final

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions

from corepy_forward.attempt import answers, is_bare
from corepy_forward.failures import HTTP_STATUS, OTHER_QUESTION, TOO_LARGE
from corepy_forward.streams import Stream

if TYPE_CHECKING:
    import asyncio

    from corepy_forward.attempt import Attempt
    from corepy_forward.streams import StreamPool

PATH: Final = "/dns-query"
_TYPE: Final = "application/dns-message"
_MAX_MESSAGE: Final = 65535


class HTTPStream(Stream):
    """One HTTP/2 connection; the keys of `pending` are stream numbers of four bytes."""

    def __init__(self, pool: StreamPool, max_age: float) -> None:
        super().__init__(pool, max_age)
        self._http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self._http.initiate_connection()
        self._bodies: dict[int, bytearray] = {}
        self._number = 1
        settings, target = pool.upstream.settings, pool.upstream.target
        self._with_get = settings.doh_method == "GET"
        name = settings.tls_servername or target.server_name or target.address
        self._authority = name if target.port == 443 or ":" in name else f"{name}:{target.port}"

    def send(self, attempt: Attempt) -> None:
        """Send a query, as soon as the connection is established."""
        number, self._number = self._number, self._number + 2
        attempt.ident = number.to_bytes(4, "big")
        attempt.link = self
        self.pending[attempt.ident] = attempt
        self.last_used = attempt.sent
        if self._transport is not None:
            self._request(number, attempt)
            self._schedule_flush()

    def _request(self, number: int, attempt: Attempt) -> None:
        wire = b"\0\0" + attempt.body
        path, method = PATH, "POST"
        if self._with_get:
            encoded = base64.urlsafe_b64encode(wire).rstrip(b"=").decode()
            path, method = f"{PATH}?dns={encoded}", "GET"
        headers = [
            (":method", method),
            (":scheme", "https"),
            (":authority", self._authority),
            (":path", path),
            ("accept", _TYPE),
        ]
        if not self._with_get:
            headers += [("content-type", _TYPE), ("content-length", str(len(wire)))]
        self._http.send_headers(number, headers, end_stream=self._with_get)
        if not self._with_get:
            self._http.send_data(number, wire, end_stream=True)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the waiting queries if the server supports HTTP/2; otherwise close."""
        super().connection_made(transport)
        secure = transport.get_extra_info("ssl_object")
        if secure.selected_alpn_protocol() != "h2":
            self.refused("the server does not speak HTTP/2")
            self.close()
            return
        for ident, attempt in list(self.pending.items()):
            self._request(int.from_bytes(ident, "big"), attempt)
        self._flush()

    def _flush(self) -> None:
        self._flushing = False
        if self._transport is not None:
            data = self._http.data_to_send()
            if data:
                self._transport.write(data)

    def buffer_updated(self, nbytes: int) -> None:
        """Process `nbytes` received bytes, and the replies that they complete."""
        self._heard = monotonic()
        try:
            events = self._http.receive_data(self._pool.buffer[:nbytes].tobytes())
        except h2.exceptions.ProtocolError:
            self._abort()
            return
        for event in events:
            self._take(event)
        self._flush()

    def _take(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.ResponseReceived):
            status = dict(event.headers or ()).get(b":status", b"")
            if status != b"200":
                self._broke(event.stream_id, HTTP_STATUS + status.decode("ascii", "replace"))
        elif isinstance(event, h2.events.DataReceived):
            self._collect(event)
        elif isinstance(event, h2.events.StreamEnded):
            self._finish(event.stream_id)
        elif isinstance(event, h2.events.StreamReset):
            self._broke(event.stream_id, "stream reset")
        elif isinstance(event, h2.events.ConnectionTerminated):
            self._abort()

    def _collect(self, event: h2.events.DataReceived) -> None:
        if event.flow_controlled_length:
            self._http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        body = self._bodies.setdefault(event.stream_id, bytearray())
        body += event.data or b""
        if len(body) > _MAX_MESSAGE:
            self._broke(event.stream_id, TOO_LARGE)
            self._http.reset_stream(event.stream_id, h2.errors.ErrorCodes.CANCEL)

    def _finish(self, number: int) -> None:
        wire = bytes(self._bodies.pop(number, b""))
        attempt = self.pending.pop(number.to_bytes(4, "big"), None)
        if attempt is None:
            return
        if answers(wire, attempt) or is_bare(wire, attempt):
            attempt.upstream.arrived(attempt, wire, self._heard)
        else:
            attempt.upstream.dropped("question")
            attempt.upstream.broke(attempt, OTHER_QUESTION)

    def _broke(self, number: int, reason: str) -> None:
        self._bodies.pop(number, None)
        attempt = self.pending.pop(number.to_bytes(4, "big"), None)
        if attempt is not None:
            attempt.upstream.broke(attempt, reason)

    def _abort(self) -> None:
        """Abort the connection; its pending queries are sent again over another one."""
        if self._transport is not None:
            self._transport.abort()
