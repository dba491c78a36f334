"""DNS over HTTPS to one upstream, over HTTP/3 (RFC 9114), with the package aioquic."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from aioquic.h3.connection import H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived

from corepy_forward.doh_requests import HEADERS, MOST_MESSAGE, RequestForm, take_response
from corepy_forward.failures import TOO_LARGE
from corepy_forward.forms import padded
from corepy_forward.quic_link import QUICLink

if TYPE_CHECKING:
    from aioquic.h3.events import H3Event
    from aioquic.quic import events

    from corepy.net.quic.bounded_connection import BoundedConnection
    from corepy_forward.attempt import Attempt
    from corepy_forward.streams import StreamPool

H3_NO_ERROR: Final = 0x100
H3_REQUEST_CANCELLED: Final = 0x10C

SERVER_STREAMS: Final = 16
"""Streams for control; a server has three, and some of no meaning."""

logging.getLogger("http3").addHandler(logging.NullHandler())
logging.getLogger("http3").propagate = False


class HTTP3Stream(QUICLink):
    """One HTTP/3 connection."""

    no_error = H3_NO_ERROR
    cancelled = H3_REQUEST_CANCELLED
    server_streams = SERVER_STREAMS

    def __init__(self, pool: StreamPool, max_age: float) -> None:
        super().__init__(pool, max_age)
        self._form = RequestForm(pool)
        self._http: H3Connection | None = None
        self._headers: dict[int, dict[bytes, bytes]] = {}

    def _begun(self) -> None:
        assert self._connection is not None
        self._http = H3Connection(self._connection)

    def _request(self, connection: BoundedConnection, number: int, attempt: Attempt) -> None:
        assert self._http is not None
        headers, body = self._form.request(padded(attempt.body, attempt.owner.question))
        pairs = [(name.encode(), value.encode()) for name, value in headers]
        self._http.send_headers(number, pairs, end_stream=not body)
        if body:
            self._http.send_data(number, body, end_stream=True)

    def _take_from_stream(self, event: events.QuicEvent) -> None:
        if self._http is None:
            return
        for found in self._http.handle_event(event):
            self._take_from_http(found)

    def _take_from_http(self, event: H3Event) -> None:
        if isinstance(event, HeadersReceived):
            found = {name: value for name, value in event.headers if name in HEADERS}
            if b":status" in found and self._reply(event.stream_id) is not None:
                self._headers[event.stream_id] = found
        elif isinstance(event, DataReceived):
            reply = self._reply(event.stream_id)
            if reply is None:
                return
            reply += event.data
            if len(reply) > MOST_MESSAGE:
                self._cancel(event.stream_id)
                self._broke(event.stream_id, TOO_LARGE)
                return
        else:
            return
        if event.stream_ended:
            self._finish(event.stream_id)

    def _finish(self, number: int) -> None:
        headers, wire = self._headers.pop(number, {}), bytes(self._replies.pop(number, b""))
        attempt = self._take_pending(number)
        if attempt is not None:
            take_response(attempt, headers, wire, self._heard)

    def _drop(self, number: int) -> None:
        super()._drop(number)
        self._headers.pop(number, None)

    def _shut(self) -> None:
        super()._shut()
        self._headers.clear()
        self._http = None
