"""The client's side of one HTTP/2 connection, without I/O, with the package h2 (RFC 9113).

Requests wait while the server's limits for streams and data do not permit them, so a caller may
make any number of them. `receive` returns the requests that have ended, each with a `Response` or a
`Failure`. The memory of one request is bounded: h2 limits header blocks, `most_body` the body.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hyperframe.frame import Frame, GoAwayFrame

ProtocolError = h2.exceptions.ProtocolError
"""Raised for input after which the connection cannot be used any more."""

MOST_HEADER_BYTES: Final = 16384
"""Bytes of the largest header of a response, counted as in RFC 9113 section 6.5.2."""

TOO_LARGE: Final = "response is too large"
CLOSING: Final = "the server closes the connection (GOAWAY)"

_FRAME_HEADER: Final = 9
_SETTINGS: Final = 4
_MOST_FRAME: Final = 16384
_LAST_NUMBER: Final = 2**31 - 1
_MOST_NUMBER: Final = 2**30
"""The number of a stream after which a new connection is due."""

Headers = dict[bytes, bytes]


class Response(NamedTuple):
    """A complete response."""

    number: int
    headers: Headers
    body: bytes
    trailers: Headers

    @property
    def status(self) -> bytes:
        """The HTTP status, such as b"200"."""
        return self.headers.get(b":status", b"")


class Failure(NamedTuple):
    """The end of a request without a response."""

    number: int
    reason: str
    is_unprocessed: bool
    """Whether the server has certainly not processed it, so that it can be sent again."""


class _Connection(h2.connection.H2Connection):
    """A connection that goes on after GOAWAY.

    For h2 it is closed then: the rest of the input would be a violation of the protocol, and what
    was not sent yet is lost. But a server may answer the open requests (RFC 9113 section 6.8), and
    their responses often arrive together with the frame.
    """

    def _receive_goaway_frame(
        self, frame: GoAwayFrame
    ) -> tuple[list[Frame], list[h2.events.Event]]:
        event = h2.events.ConnectionTerminated()
        event.last_stream_id = frame.last_stream_id
        return [], [event]


class _FrameSizes:
    """Checks the sizes of frames before h2 does, which first collects the whole frame."""

    def __init__(self) -> None:
        self._header = b""
        self._left = 0
        self.has_begun = False

    def check(self, data: bytes) -> None:
        """Raise `ProtocolError` for a frame that is too large, or that cannot be the first one."""
        at = self._left
        while at < len(data):
            header = (self._header + data[at : at + _FRAME_HEADER])[:_FRAME_HEADER]
            if len(header) < _FRAME_HEADER:
                self._header, self._left = header, 0
                return
            at += _FRAME_HEADER - len(self._header) + self._body_size(header)
            self._header = b""
        self._left = at - len(data)

    def _body_size(self, header: bytes) -> int:
        if not self.has_begun and header[3] != _SETTINGS:
            raise ProtocolError("the server does not speak HTTP/2")
        self.has_begun = True
        size = int.from_bytes(header[:3], "big")
        if size > _MOST_FRAME:
            raise ProtocolError(f"frame of {size} bytes")
        return size


class _Exchange:
    """A request that was sent, at least in part, and what has arrived of its response."""

    __slots__ = ("body", "headers", "trailers", "unsent")

    def __init__(self, unsent: bytes) -> None:
        self.unsent = unsent
        self.headers: Headers = {}
        self.trailers: Headers = {}
        self.body = bytearray()


class HTTP2Client:
    """See the module. Requests have the numbers of their streams."""

    def __init__(self, most_body: int) -> None:
        """Accept bodies of up to `most_body` bytes."""
        # The callers make valid headers in lower case; to check them takes a tenth of a query.
        config = h2.config.H2Configuration(
            client_side=True,
            header_encoding=None,
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
        self._http = _Connection(config)
        self._http.local_settings = h2.settings.Settings(
            client=True,
            initial_values={
                h2.settings.SettingCodes.ENABLE_PUSH: 0,
                h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 65535,
                h2.settings.SettingCodes.MAX_HEADER_LIST_SIZE: MOST_HEADER_BYTES,
            },
        )
        # For h2 a setting applies when the server confirms a change, and this is the first value.
        self._http.decoder.max_header_list_size = MOST_HEADER_BYTES
        self._http.initiate_connection()
        self._frames = _FrameSizes()
        self._most_body = most_body
        self._number = 1
        self._waiting: dict[int, tuple[Sequence[tuple[str, str]], bytes]] = {}
        self._exchanges: dict[int, _Exchange] = {}
        self._unsent: deque[int] = deque()  # exchanges whose body waits for the server's window
        self.is_closing = False
        """Whether no more requests can be made, because the server closes the connection."""

    @property
    def has_begun(self) -> bool:
        """Whether the server has sent the header of its first frame, so it speaks HTTP/2."""
        return self._frames.has_begun

    def request(self, headers: Sequence[tuple[str, str]], body: bytes = b"") -> int:
        """Make a request and return its number; `headers` begin with the pseudo-headers.

        Callers make none while `is_closing`: the server would ignore it.
        """
        number, self._number = self._number, self._number + 2
        self.is_closing |= number > _MOST_NUMBER
        self._waiting[number] = headers, body
        self._send()
        return number

    def cancel(self, number: int) -> None:
        """Abandon a request; without effect if it has ended."""
        self._waiting.pop(number, None)
        if self._exchanges.pop(number, None) is not None:
            self._reset(number)
            self._send()

    def data_to_send(self) -> bytes:
        """Return the bytes for the server."""
        return self._http.data_to_send()

    def receive(self, data: bytes) -> list[Response | Failure]:
        """Process bytes from the server; return the requests that have ended.

        Raises `ProtocolError`.
        """
        self._frames.check(data)
        ended: list[Response | Failure] = []
        for event in self._http.receive_data(data):
            if isinstance(event, h2.events.ConnectionTerminated):
                ended += self._close(event)
                continue
            found = self._take(event)
            if found is not None:
                ended.append(found)
        self._send()
        return ended

    def _send(self) -> None:
        """Send the waiting requests as far as the server's limits permit."""
        while self._unsent:
            number = self._unsent[0]
            exchange = self._exchanges.get(number)
            if exchange is not None and not self._send_body(number, exchange):
                return  # the others share the connection's window
            self._unsent.popleft()
        most = self._http.remote_settings.max_concurrent_streams
        while self._waiting and len(self._exchanges) < most and not self._unsent:
            self._begin(next(iter(self._waiting)))

    def _begin(self, number: int) -> None:
        headers, body = self._waiting.pop(number)
        exchange = self._exchanges[number] = _Exchange(body)
        self._http.send_headers(number, headers, end_stream=not body)
        if body and not self._send_body(number, exchange):
            self._unsent.append(number)

    def _send_body(self, number: int, exchange: _Exchange) -> bool:
        """Send a part of the body; return whether that was the rest."""
        while exchange.unsent:
            window = self._http.local_flow_control_window(number)
            size = min(window, self._http.max_outbound_frame_size)
            if size <= 0:
                return False
            part, exchange.unsent = exchange.unsent[:size], exchange.unsent[size:]
            self._http.send_data(number, part, end_stream=not exchange.unsent)
        return True

    def _take(self, event: h2.events.Event) -> Response | Failure | None:
        """Process an event of a stream; return the result if it ends the request."""
        number: int | None = getattr(event, "stream_id", None)
        if number is None:
            return None
        if isinstance(event, h2.events.DataReceived) and event.flow_controlled_length:
            # Also of a request that was abandoned, since all share the connection's window.
            self._http.acknowledge_received_data(event.flow_controlled_length, number)
        exchange = self._exchanges.get(number)
        if exchange is None:
            return None
        if isinstance(event, h2.events.ResponseReceived):
            exchange.headers = _headers(event.headers)
        elif isinstance(event, h2.events.TrailersReceived):
            exchange.trailers = _headers(event.headers)
        elif isinstance(event, h2.events.DataReceived):
            return self._collect(number, exchange, event)
        elif isinstance(event, h2.events.StreamEnded):
            return self._end(number, exchange)
        elif isinstance(event, h2.events.StreamReset):
            del self._exchanges[number]
            refused = event.error_code == h2.errors.ErrorCodes.REFUSED_STREAM
            return Failure(number, f"stream reset ({_name(event.error_code)})", refused)
        return None

    def _collect(
        self, number: int, exchange: _Exchange, event: h2.events.DataReceived
    ) -> Failure | None:
        exchange.body += event.data or b""
        if len(exchange.body) <= self._most_body:
            return None
        del self._exchanges[number]
        self._reset(number)
        return Failure(number, TOO_LARGE, is_unprocessed=False)

    def _end(self, number: int, exchange: _Exchange) -> Response:
        """Return the response; a server need not wait for the end of the request."""
        del self._exchanges[number]
        if exchange.unsent:
            self._reset(number)
        return Response(number, exchange.headers, bytes(exchange.body), exchange.trailers)

    def _reset(self, number: int) -> None:
        """Reset a stream, unless its end has arrived already."""
        with suppress(h2.exceptions.StreamClosedError):
            self._http.reset_stream(number, h2.errors.ErrorCodes.CANCEL)

    def _close(self, event: h2.events.ConnectionTerminated) -> list[Failure]:
        """Process a GOAWAY; return the requests that the server will not answer.

        Those up to the last stream may still be answered.
        """
        self.is_closing = True
        last = _LAST_NUMBER if event.last_stream_id is None else event.last_stream_id
        lost = [number for number in self._exchanges if number > last]
        for number in lost:
            del self._exchanges[number]
        lost += self._waiting
        self._waiting.clear()
        return [Failure(number, CLOSING, is_unprocessed=True) for number in lost]


def _headers(headers: Sequence[tuple[bytes, bytes]] | None) -> Headers:
    return {bytes(name): bytes(value) for name, value in headers or ()}


def _name(code: int | None) -> str:
    """Return the name of an error code, or its number."""
    return getattr(code, "name", None) or str(code)
