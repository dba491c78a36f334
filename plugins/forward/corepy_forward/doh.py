"""DNS over HTTPS to one upstream (RFC 8484), over HTTP/2 with the package h2.

Each query is a stream of the connection, and the stream identifies the query of a reply.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final, cast

from corepy.net import http2_client
from corepy.net.http2_client import Failure, HTTP2Client, ProtocolError, Response
from corepy_forward.doh_requests import MOST_MESSAGE, RequestForm, take_response
from corepy_forward.failures import TOO_LARGE
from corepy_forward.streams import Stream

if TYPE_CHECKING:
    import asyncio

    from corepy_forward.attempt import Attempt
    from corepy_forward.streams import StreamPool

_REASONS: Final = {http2_client.TOO_LARGE: TOO_LARGE}


class HTTPStream(Stream):
    """One HTTP/2 connection; the keys of `pending` are stream numbers of four bytes."""

    def __init__(self, pool: StreamPool, max_age: float) -> None:
        super().__init__(pool, max_age)
        self._http = HTTP2Client(MOST_MESSAGE)
        self._form = RequestForm(pool)

    def send(self, attempt: Attempt) -> None:
        """Send a query, as soon as the connection is established."""
        headers, body = self._form.request(attempt.body)
        attempt.ident = self._http.request(headers, body).to_bytes(4, "big")
        attempt.link = self
        self.pending[attempt.ident] = attempt
        self.last_used = attempt.sent
        if self._transport is not None:
            self._schedule_flush()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the waiting queries if the server supports HTTP/2; otherwise close."""
        secure = transport.get_extra_info("ssl_object")
        if secure.selected_alpn_protocol() == "h2":
            super().connection_made(transport)
            return
        self.refused("the server does not speak HTTP/2")
        cast("asyncio.Transport", transport).abort()

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
            ended = self._http.receive(self._pool.buffer[:nbytes].tobytes())
        except ProtocolError:
            self._abort()
            return
        if self._http.is_closing:
            self.retire()
        for result in ended:
            self._finish(result)
        self._flush()

    def _finish(self, result: Response | Failure) -> None:
        attempt = self.pending.pop(result.number.to_bytes(4, "big"), None)
        if attempt is None:
            return
        if isinstance(result, Failure):
            reason = _REASONS.get(result.reason, result.reason)
            if result.is_unprocessed:
                self._move(attempt, reason)
            else:
                attempt.upstream.broke(attempt, reason)
        else:
            take_response(attempt, result.headers, result.body, self._heard)

    def forget(self, attempt: Attempt) -> None:
        """Cancel the request of `attempt`; abort if no data arrived since the query."""
        self._http.cancel(int.from_bytes(attempt.ident, "big"))
        super().forget(attempt)
        if self._transport is not None:
            self._schedule_flush()

    def _abort(self) -> None:
        """Abort the connection; its pending queries are sent again over another one."""
        if self._transport is not None:
            self._transport.abort()
