"""HTTP/2 (RFC 9113) on one connection of the server: h2 implements the protocol.

The input is split into frames before h2 gets it, because h2 has no limits of these kinds:

* the size of a frame whose rest has not arrived, and of a header block in several frames;
* frames that cause work but carry no request: PING, SETTINGS, RST_STREAM and so on cost credit,
  which answered requests and time restore (CVE-2023-44487, CVE-2019-9512 to 9518);
* the requests that are processed in a turn of the event loop.

An `ExpressLane` answers the requests that repeat, without h2.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Final, final

from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings
from hyperframe.frame import (
    ContinuationFrame,
    GoAwayFrame,
    HeadersFrame,
    RstStreamFrame,
    SettingsFrame,
)

from corepy.plugin.errors import describe
from corepy.plugin.log import server_logger
from corepy.server.listen.http.credit import Credit
from corepy.server.listen.http.express_lane import WAIT, ExpressLane
from corepy.server.listen.http.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from corepy.server.listen.http.connection import HTTPConnection
    from corepy.server.listen.http.exchange import Application, Fields

MAX_FRAME: Final = 16_384
"""Bytes of a received frame without its header: the least that HTTP/2 allows."""

MAX_HEAD: Final = 32_768
"""Bytes of the header fields of a request, compressed as well as not."""

MAX_HELD: Final = 256 * 1024
"""Bytes of incomplete requests, and of responses that the client does not accept, in a connection.

For responses only: beyond four times as much, the connection is closed.
"""

LARGEST_STREAM_LIMIT: Final = 1000
"""Open streams of a connection for which no limit is configured."""

COST: Final = 8
"""The cost of a request that h2 processes, in queries of a turn of the event loop."""

HEADER_SIZE: Final = 9
_PREFACE: Final = 24
_LAST_ID: Final = 2**31 - 1
_END_HEADERS: Final = 4
_PADDED: Final = 8
_PRIORITY: Final = 32
_PRIORITY_SIZE: Final = 5
_CONFIG: Final = H2Configuration(
    client_side=False,
    header_encoding=None,
    validate_outbound_headers=False,
    normalize_outbound_headers=False,
)
_BLOCKS: Final = (HeadersFrame.type, ContinuationFrame.type)


@final
class HTTP2Session:
    """The server's side of one connection."""

    def __init__(
        self,
        connection: HTTPConnection,
        application: Application,
        max_streams: int,
        count: Callable[[], None] | None = None,
    ) -> None:
        """Send the settings; `max_streams` is 0 for no limit of the operator.

        With `count`, an `ExpressLane` answers repeated requests of DNS over HTTPS, and calls it.
        """
        self._connection, self._application = connection, application
        self._max_streams = max_streams or LARGEST_STREAM_LIMIT
        self._h2 = _new(self._max_streams)
        self._lane = ExpressLane(connection, self._h2, count) if count else None
        self._credit = Credit(monotonic())
        self._streams: dict[int, Stream] = {}
        self._buffer = b""
        self._since = 0.0  # the time when an incomplete frame began
        self._preface_left = _PREFACE
        self._block_size = 0  # of a header block that is not complete
        self._held = self._blocked = 0  # bytes of requests, and of responses
        self.is_behind = self._has_ended = False
        connection.send(_settings(self._max_streams))

    @property
    def is_idle(self) -> bool:
        """Whether no request is being received or answered."""
        return not self._streams and not self._buffer

    def receive(self, data: bytes) -> None:
        """Process frames, up to the limits of the connection."""
        if self._has_ended:
            return
        self._buffer = self._buffer + data if self._buffer else data
        with self._contained():
            self._process()

    @contextmanager
    def _contained(self) -> Iterator[None]:
        """End the connection if an exception shows a fault of this module or of h2."""
        try:
            yield
        except Exception as error:
            label = self._connection.listener.label
            server_logger().error("HTTP/2 at %s: %s", label, describe(error))
            self._fail(ErrorCodes.INTERNAL_ERROR)

    def _process(self) -> None:
        buffer, at, now = self._buffer, self._take_preface(), monotonic()
        turns = self._connection.turns
        most = left = turns.step()
        self.is_behind = False
        while len(buffer) - at >= HEADER_SIZE and not self._has_ended:
            if left <= 0 or self._connection.is_full:
                self.is_behind = True
                break
            if buffer[at + 3] == HeadersFrame.type and self._lane is not None:
                after = self._lane.answer(buffer, at, now)
                if after == WAIT:
                    break
                if after:
                    at = after
                    left -= 1
                    self._credit.earn()
                    continue
            stop = at + HEADER_SIZE + int.from_bytes(buffer[at : at + 3], "big")
            if stop - at > MAX_FRAME + HEADER_SIZE:
                self._fail(ErrorCodes.FRAME_SIZE_ERROR)
                break
            if stop > len(buffer):
                break
            frame = buffer[at:stop]
            at = stop
            left -= COST if frame[3] in _BLOCKS else 1
            self._take(frame, now)
        if at or not self._since:
            self._since = now
        self._buffer = buffer[at:]
        turns.count(most - left)
        if self.is_behind:
            self._connection.turns.wait(self._connection)

    def _take_preface(self) -> int:
        """Pass the bytes before the first frame to h2, and return their number."""
        if not self._preface_left:
            return 0
        start = self._buffer[: self._preface_left]
        self._preface_left -= len(start)
        self._pass(start)
        return len(start)

    def _pass(self, data: bytes) -> list[events.Event]:
        """Return the events of received data; end the connection if it breaks the protocol."""
        try:
            return self._h2.receive_data(data)
        except ProtocolError as error:
            self._h2.clear_outbound_data_buffer()  # GOAWAY, but not for each error
            self._fail(error.error_code)
            return []

    def _take(self, frame: bytes, now: float) -> None:
        """Process one frame within the limits."""
        kind = frame[3]
        stream_id = int.from_bytes(frame[5:9], "big") & _LAST_ID
        if not self._credit.spend(now) or (kind in _BLOCKS and self._is_block_too_large(frame)):
            self._fail(ErrorCodes.ENHANCE_YOUR_CALM)
        elif kind == GoAwayFrame.type and not stream_id and not self._block_size:
            # h2 would send nothing after it, but the client waits for the open streams.
            self._connection.close_when_done()
        elif kind == RstStreamFrame.type and stream_id > self._h2.highest_inbound_stream_id:
            self._fail(ErrorCodes.PROTOCOL_ERROR)  # idle (section 6.4); h2 ignores it
        else:
            self._feed(frame, now)

    def _is_block_too_large(self, frame: bytes) -> bool:
        self._block_size += len(frame)
        is_too_large = self._block_size > MAX_HEAD
        if frame[4] & _END_HEADERS:
            self._block_size = 0
        return is_too_large

    def _feed(self, frame: bytes, now: float) -> None:
        """Pass a frame to h2, and act on its events."""
        lane = self._lane
        version = 0 if lane is None else lane.version
        found = self._pass(frame)
        if lane is not None and frame[3] in _BLOCKS:
            lane.look_at_table()
        for event in found:
            if isinstance(event, events.RequestReceived):
                is_neutral = lane is not None and lane.version == version
                self._open(event, now, _block_of(frame) if is_neutral else b"")
            elif isinstance(event, events.DataReceived):
                self._receive(event)
            elif isinstance(event, events.StreamEnded):
                self._end(event.stream_id)
            elif isinstance(event, events.StreamReset):
                self._forget(event.stream_id)
            elif isinstance(event, events.WindowUpdated | events.RemoteSettingsChanged):
                self._unblock()
        self._emit()

    def _emit(self) -> None:
        data = self._h2.data_to_send()
        if data:
            self._connection.send(data)

    # Requests.

    def _open(self, event: events.RequestReceived, now: float, block: bytes) -> None:
        stream_id = event.stream_id
        assert stream_id is not None
        if len(self._streams) >= self._max_streams:
            self._h2.reset_stream(stream_id, ErrorCodes.REFUSED_STREAM)
            return
        stream = self._streams[stream_id] = Stream(now, block)
        stream.version = 0 if self._lane is None else self._lane.version
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
        stream = self._streams.get(stream_id)
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
        stream = self._streams.get(stream_id or 0)
        if stream is None or stream.exchange is None:
            return
        stream.is_complete = True
        self._held -= stream.received
        stream.received = 0
        exchange = stream.exchange
        exchange.end()
        lane = self._lane
        if stream.block and lane is not None and stream.version == lane.version:
            lane.learn(stream.block, exchange, has_content=not stream.has_no_content)

    def _forget(self, stream_id: int | None) -> None:
        """End a stream that the client or the server has reset."""
        stream = self._streams.pop(stream_id or 0, None)
        if stream is not None:
            self._held -= stream.received
            self._blocked -= len(stream.rest)
            if stream.exchange is not None:
                stream.exchange.cancel()

    def _reset(self, stream_id: int, error: ErrorCodes) -> None:
        self._h2.reset_stream(stream_id, error)
        self._forget(stream_id)

    # Responses.

    def _respond(
        self,
        stream_id: int,
        status: int,
        fields: Fields,
        content: bytes = b"",
        trailers: Fields = (),
    ) -> None:
        """See `Respond`."""
        stream = self._streams.get(stream_id)
        if stream is not None and not stream.is_answered and not self._has_ended:
            with self._contained():
                self._start(stream_id, stream, status, fields, content, trailers)

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
        self._credit.earn()
        now = monotonic()
        self._connection.note_request(now)
        head = ((":status", str(status)), *fields)
        self._h2.send_headers(stream_id, head, end_stream=not content and not trailers)
        stream.rest, stream.trailers, stream.blocked_since = content, trailers, now
        self._blocked += len(content)
        self._send_rest(stream_id, stream)
        if self._blocked > 4 * MAX_HELD:
            self._fail(ErrorCodes.ENHANCE_YOUR_CALM)
        self._emit()

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
            self._held -= stream.received
        del self._streams[stream_id]

    def _unblock(self) -> None:
        if self._lane is not None:
            self._lane.read_settings()
        if self._blocked:
            for stream_id, stream in list(self._streams.items()):
                if stream.rest:
                    self._send_rest(stream_id, stream)

    # The end.

    def end_input(self) -> None:
        """Give up incomplete requests, and responses that wait for a window."""
        if not self.is_behind:
            self._buffer = b""
        for stream_id, stream in list(self._streams.items()):
            if not stream.is_complete or stream.rest:
                self._forget(stream_id)

    def expire(self, now: float) -> None:
        """Reset the streams of slow clients; end a connection whose frame does not arrive."""
        timeouts = self._connection.listener.timeouts
        if self._buffer and not self.is_behind and now - self._since > timeouts.read:
            self._fail(ErrorCodes.ENHANCE_YOUR_CALM)
            return
        for stream_id, stream in list(self._streams.items()):
            if stream.is_late(now, timeouts):
                self._reset(stream_id, ErrorCodes.CANCEL)
        self._emit()

    def begin_drain(self) -> None:
        """Ask the client for no new streams; those that it opens meanwhile are answered."""
        self._send_goaway(_LAST_ID, ErrorCodes.NO_ERROR)

    def end(self) -> None:
        """Tell the client which streams are processed."""
        if not self._has_ended:
            self._has_ended = True
            self._send_goaway(self._h2.highest_inbound_stream_id, ErrorCodes.NO_ERROR)

    def _send_goaway(self, last: int, error: ErrorCodes) -> None:
        frame = GoAwayFrame(0, last_stream_id=last, error_code=error)
        self._connection.send(frame.serialize())

    def _fail(self, error: ErrorCodes) -> None:
        """End the connection because of the client."""
        self._send_goaway(self._h2.highest_inbound_stream_id, error)
        self._stop()

    def _stop(self) -> None:
        self._has_ended = True
        self._buffer = b""
        self.is_behind = False
        for stream_id in list(self._streams):
            self._forget(stream_id)
        self._connection.end()


def _block_of(frame: bytes) -> bytes:
    """Return the header block in a HEADERS frame; empty if it is not whole, or has padding."""
    flags = frame[4]
    if frame[3] != HeadersFrame.type or flags & (_END_HEADERS | _PADDED) != _END_HEADERS:
        return b""
    return frame[HEADER_SIZE + (_PRIORITY_SIZE if flags & _PRIORITY else 0) :]


def _settings(max_streams: int) -> bytes:
    values = {
        SettingCodes.MAX_CONCURRENT_STREAMS: max_streams,
        SettingCodes.MAX_HEADER_LIST_SIZE: MAX_HEAD,
    }
    return SettingsFrame(
        0, settings={int(code): value for code, value in values.items()}
    ).serialize()


def _new(max_streams: int) -> H2Connection:
    """Return the state of a connection; the caller sends the settings.

    h2 would end the connection at a stream too many. A client may not have seen the limit yet, so
    the session resets such a stream, and h2 has a higher limit.
    """
    connection = H2Connection(_CONFIG)
    values = {
        SettingCodes.MAX_CONCURRENT_STREAMS: 2 * max_streams + 100,
        SettingCodes.MAX_HEADER_LIST_SIZE: MAX_HEAD,
    }
    connection.local_settings = Settings(client=False, initial_values=values)
    connection.decoder.max_header_list_size = MAX_HEAD
    connection.initiate_connection()
    connection.clear_outbound_data_buffer()
    return connection
