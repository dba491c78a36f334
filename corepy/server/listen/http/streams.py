"""The requests of a connection with HTTP/2; each has a stream (RFC 9113 section 5)."""

from __future__ import annotations

from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol, final

from h2 import events
from h2.errors import ErrorCodes

from corepy.server.listen.http.stream import Stream

if TYPE_CHECKING:
    from h2.connection import H2Connection

    from corepy.plugin import Timeouts
    from corepy.server.listen.http.credit import Credit
    from corepy.server.listen.http.express_lane import ExpressLane
    from corepy.server.listen.http.http_exchange import Application, Carrier, Fields

MAX_HELD: Final = 256 * 1024
"""Bytes of incomplete requests, and of responses that the client does not accept, in a connection.

For responses only: beyond four times as much, the connection is closed.
"""


class StreamsOwner(Protocol):
    """The session of the connection; see `HTTP2Session`."""

    lane: ExpressLane | None
    credit: Credit
    has_ended: bool

    def emit(self) -> None:
        """Send the frames that h2 has made."""

    def fail(self, error: ErrorCodes) -> None:
        """End the connection because of the client."""

    def break_off(self, error: Exception) -> None:
        """End the connection after an exception that shows a fault of the server."""


@final
class Streams:
    """The open streams of one connection."""

    def __init__(
        self,
        connection: Carrier,
        application: Application,
        h2: H2Connection,
        session: StreamsOwner,
        most: int,
    ) -> None:
        """At most `most` streams are open at a time."""
        self._connection, self._application = connection, application
        self._h2, self._session = h2, session
        self.most = most
        self.open: dict[int, Stream] = {}
        self._held = self._blocked = 0  # bytes of requests, and of responses

    def take(self, event: events.Event, now: float, block: bytes) -> None:
        """Act on an event; `block` is the header block if its bytes always mean the same."""
        if isinstance(event, events.RequestReceived):
            self._begin(event, now, block)
        elif isinstance(event, events.DataReceived):
            self._receive(event)
        elif isinstance(event, events.StreamEnded):
            self._end(event.stream_id)
        elif isinstance(event, events.StreamReset):
            self._forget(event.stream_id)
        elif isinstance(event, events.WindowUpdated | events.RemoteSettingsChanged):
            self._unblock()

    def _begin(self, event: events.RequestReceived, now: float, block: bytes) -> None:
        stream_id = event.stream_id
        assert stream_id is not None
        if len(self.open) >= self.most:
            self._h2.reset_stream(stream_id, ErrorCodes.REFUSED_STREAM)
            return
        stream = self.open[stream_id] = Stream(now, block)
        stream.version = 0 if self._session.lane is None else self._session.lane.version
        self._connection.note_request(now)
        head = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in event.headers]
        special = {name: value for name, value in head if name.startswith(":")}
        fields = tuple(it for it in head if it[0][:1] != ":")
        stream.has_no_content = stream.is_complete = event.stream_ended is not None
        stream.is_head = special.get(":method") == "HEAD"
        method, target = special.get(":method", ""), special.get(":path", "")
        respond = partial(self._respond, stream_id)
        stream.exchange = self._application.open(respond, method, target, fields)

    def _receive(self, event: events.DataReceived) -> None:
        stream_id, size = event.stream_id, event.flow_controlled_length
        assert stream_id is not None
        if size:
            self._h2.acknowledge_received_data(size, stream_id)
        stream = self.open.get(stream_id)
        if stream is None or stream.exchange is None:
            return
        stream.is_complete = event.stream_ended is not None
        stream.received += len(event.data or b"")
        self._held += len(event.data or b"")
        if self._held > MAX_HELD:
            self._reset(stream_id, ErrorCodes.ENHANCE_YOUR_CALM)
        else:
            stream.exchange.receive(event.data or b"")

    def _end(self, stream_id: int | None) -> None:
        stream = self.open.get(stream_id or 0)
        if stream is None or stream.exchange is None:
            return
        stream.is_complete = True
        self._held -= stream.received
        stream.received = 0
        exchange = stream.exchange
        exchange.end()
        lane = self._session.lane
        if stream.block and lane is not None and stream.version == lane.version:
            lane.learn(stream.block, exchange, has_content=not stream.has_no_content)

    def _forget(self, stream_id: int | None) -> None:
        """End a stream that the client or the server has reset."""
        stream = self.open.pop(stream_id or 0, None)
        if stream is not None:
            self._held -= stream.received
            self._blocked -= len(stream.rest)
            if stream.exchange is not None:
                stream.exchange.cancel()

    def _reset(self, stream_id: int, error: ErrorCodes) -> None:
        self._h2.reset_stream(stream_id, error)
        self._forget(stream_id)

    def _respond(
        self,
        stream_id: int,
        status: int,
        fields: Fields,
        content: bytes = b"",
        trailers: Fields = (),
    ) -> None:
        """See `Respond`."""
        stream = self.open.get(stream_id)
        if stream is None or stream.is_answered or self._session.has_ended:
            self._connection.flush_soon()  # a query has ended, so the next one may begin
            return
        try:
            self._start(stream_id, stream, status, fields, content, trailers)
        except Exception as error:
            self._session.break_off(error)

    def _start(
        self,
        stream_id: int,
        stream: Stream,
        status: int,
        fields: Fields,
        content: bytes,
        trailers: Fields,
    ) -> None:
        """Begin to send a response."""
        stream.is_answered = True
        content = b"" if stream.is_head else content
        self._session.credit.earn()
        now = monotonic()
        self._connection.note_request(now)
        head = ((":status", str(status)), *fields)
        self._h2.send_headers(stream_id, head, end_stream=not content and not trailers)
        stream.rest, stream.trailers, stream.blocked_since = content, trailers, now
        self._blocked += len(content)
        self._send_rest(stream_id, stream)
        if self._blocked > 4 * MAX_HELD:
            self._session.fail(ErrorCodes.ENHANCE_YOUR_CALM)
        self._session.emit()

    def _send_rest(self, stream_id: int, stream: Stream) -> None:
        """Send as much of a response as the client accepts."""
        while stream.rest:
            window = self._h2.local_flow_control_window(stream_id)
            if window <= 0:
                return
            piece = stream.rest[: min(window, self._h2.max_outbound_frame_size)]
            stream.rest = stream.rest[len(piece) :]
            self._blocked -= len(piece)
            is_last = not stream.rest and not stream.trailers
            self._h2.send_data(stream_id, piece, end_stream=is_last)
        if stream.trailers:
            self._h2.send_headers(stream_id, stream.trailers, end_stream=True)
        if not stream.is_complete:  # the client need not send the rest (section 8.1)
            self._h2.reset_stream(stream_id, ErrorCodes.NO_ERROR)
        self._held -= stream.received  # 0 after `_end`; a refusal may precede it
        del self.open[stream_id]

    def _unblock(self) -> None:
        if self._blocked:
            for stream_id, stream in list(self.open.items()):
                if stream.rest:
                    self._send_rest(stream_id, stream)

    def reset_late(self, now: float, timeouts: Timeouts) -> None:
        """Reset the streams of clients that take too long."""
        for stream_id, stream in list(self.open.items()):
            if stream.is_late(now, timeouts):
                self._reset(stream_id, ErrorCodes.CANCEL)

    def forget_incomplete(self) -> None:
        """Give up the streams for which the client would have to send something."""
        for stream_id, stream in list(self.open.items()):
            if not stream.is_complete or stream.rest:
                self._forget(stream_id)

    def forget_all(self) -> None:
        """Give up all streams."""
        for stream_id in list(self.open):
            self._forget(stream_id)
