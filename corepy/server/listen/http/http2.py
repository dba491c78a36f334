"""HTTP/2 (RFC 9113) on one connection of the server: h2 implements the protocol.

The input is split into frames before h2 gets it, because h2 has no limits of these kinds:

* the size of a frame whose rest has not arrived, and of a header block in several frames;
* frames that cause work but carry no request: PING, SETTINGS, RST_STREAM and so on cost credit,
  which answered requests and time restore (CVE-2023-44487, CVE-2019-9512 to 9518);
* the requests that are processed in a turn of the event loop.

An `ExpressLane` answers the requests that repeat, without h2.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final, final

from h2 import events
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError
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
from corepy.server.listen.http.h2_state import MAX_HEAD, new_state, settings_frame
from corepy.server.listen.http.streams import Streams

if TYPE_CHECKING:
    from collections.abc import Callable

    from corepy.server.listen.http.http_exchange import Application, Carrier

MAX_FRAME: Final = 16_384
"""Bytes of a received frame without its header: the least that HTTP/2 allows."""

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
_BLOCKS: Final = (HeadersFrame.type, ContinuationFrame.type)


@final
class HTTP2Session:
    """The server's side of one connection."""

    def __init__(
        self,
        connection: Carrier,
        application: Application,
        max_streams: int,
        count: Callable[[], None] | None = None,
    ) -> None:
        """Send the settings; `max_streams` is 0 for no limit of the operator.

        With `count`, an `ExpressLane` answers repeated requests of DNS over HTTPS, and calls it.
        """
        self._connection = connection
        most = max_streams or LARGEST_STREAM_LIMIT
        self._h2 = new_state(most)
        self.lane = ExpressLane(connection, self._h2, count) if count else None
        self.credit = Credit(monotonic())
        self._streams = Streams(connection, application, self._h2, self, most)
        self._buffer = b""
        self._since = 0.0  # the time when an incomplete frame began
        self._preface_left = _PREFACE
        self._block_size = 0  # of a header block that is not complete
        self.is_behind = self.has_ended = False
        connection.send(settings_frame(most))

    @property
    def is_idle(self) -> bool:
        """Whether no request is being received or answered."""
        return not self._streams.open and not self._buffer

    def receive(self, data: bytes) -> None:
        """Process frames, up to the limits of the connection."""
        if self.has_ended:
            return
        self._buffer = self._buffer + data if self._buffer else data
        try:
            self._process()
        except Exception as error:
            self.break_off(error)

    def break_off(self, error: Exception) -> None:
        """End the connection after an exception that shows a fault of this module or of h2."""
        server_logger().error("HTTP/2 at %s: %s", self._connection.label, describe(error))
        self.fail(ErrorCodes.INTERNAL_ERROR)

    def _process(self) -> None:
        buffer, at, now = self._buffer, self._take_preface(), monotonic()
        turns = self._connection.turns
        most = left = turns.step()
        self.is_behind = False
        while len(buffer) - at >= HEADER_SIZE and not self.has_ended:
            if left <= 0 or self._connection.is_full:
                self.is_behind = True
                break
            if (
                buffer[at + 3] == HeadersFrame.type
                and self.lane is not None
                and not self._block_size
            ):
                after = self.lane.answer(buffer, at, now)
                if after == WAIT:
                    break
                if after:
                    at = after
                    left -= 1
                    self.credit.earn()
                    continue
            stop = at + HEADER_SIZE + int.from_bytes(buffer[at : at + 3], "big")
            if stop - at > MAX_FRAME + HEADER_SIZE:
                self.fail(ErrorCodes.FRAME_SIZE_ERROR)
                break
            if stop > len(buffer):
                break
            frame = buffer[at:stop]
            at = stop
            left -= COST if frame[3] in _BLOCKS else 1
            self._take(frame, now)
        if at or not self._since:
            self._since = now
        self._buffer = b"" if self.has_ended else buffer[at:]
        turns.count(most - left)

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
            self.fail(error.error_code)
            return []

    def _take(self, frame: bytes, now: float) -> None:
        """Process one frame within the limits."""
        kind = frame[3]
        stream_id = int.from_bytes(frame[5:9], "big") & _LAST_ID
        if not self.credit.spend(now) or (kind in _BLOCKS and self._is_block_too_large(frame)):
            self.fail(ErrorCodes.ENHANCE_YOUR_CALM)
        elif kind == GoAwayFrame.type and not stream_id and not self._block_size:
            # h2 would send nothing after it, but the client waits for the open streams.
            self._connection.close_when_done()
        elif kind == RstStreamFrame.type and stream_id > self._h2.highest_inbound_stream_id:
            self.fail(ErrorCodes.PROTOCOL_ERROR)  # idle (section 6.4); h2 ignores it
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
        lane = self.lane
        version = 0 if lane is None else lane.version
        found = self._pass(frame)
        if lane is not None and frame[3] in _BLOCKS:
            lane.look_at_table()
        is_neutral = lane is not None and lane.version == version
        block = _block_of(frame) if is_neutral else b""
        for event in found:
            self._streams.take(event, now, block)
        if lane is not None and frame[3] == SettingsFrame.type:
            lane.read_settings()
        self.emit()

    def emit(self) -> None:
        """Send the frames that h2 has made."""
        data = self._h2.data_to_send()
        if data:
            self._connection.send(data)

    # The end.

    def end_input(self) -> None:
        """Give up incomplete requests, and responses that wait for a window."""
        if not self.is_behind:
            self._buffer = b""
        self._streams.forget_incomplete()

    def expire(self, now: float) -> None:
        """Reset the streams of slow clients; end a connection whose frame does not arrive."""
        try:
            self._expire(now)
        except Exception as error:
            self.break_off(error)

    def _expire(self, now: float) -> None:
        timeouts = self._connection.timeouts
        if self._buffer and not self.is_behind:
            self._pass_waiting(now)
            if self._buffer and now - self._since > timeouts.read:
                self.fail(ErrorCodes.ENHANCE_YOUR_CALM)
                return
        self._streams.reset_late(now, timeouts)
        self.emit()

    def _pass_waiting(self, now: float) -> None:
        """Pass a request to h2 whose content the lane awaits: then only its stream is slow."""
        stop = HEADER_SIZE + int.from_bytes(self._buffer[:3], "big")
        if len(self._buffer) >= stop:
            frame, self._buffer = self._buffer[:stop], self._buffer[stop:]
            self._take(frame, now)

    def begin_drain(self) -> None:
        """Ask the client for no new streams; those that it opens meanwhile are answered."""
        self._send_goaway(_LAST_ID, ErrorCodes.NO_ERROR)

    def end(self) -> None:
        """Tell the client which streams are processed."""
        if not self.has_ended:
            self.has_ended = True
            self._send_goaway(self._h2.highest_inbound_stream_id, ErrorCodes.NO_ERROR)

    def _send_goaway(self, last: int, error: ErrorCodes) -> None:
        frame = GoAwayFrame(0, last_stream_id=last, error_code=error)
        self._connection.send(frame.serialize())

    def fail(self, error: ErrorCodes) -> None:
        """End the connection because of the client."""
        self._send_goaway(self._h2.highest_inbound_stream_id, error)
        self._stop()

    def _stop(self) -> None:
        self.has_ended = True
        self._buffer = b""
        self.is_behind = False
        self._streams.forget_all()
        self._connection.end()


def _block_of(frame: bytes) -> bytes:
    """Return the header block in a HEADERS frame; empty if it is not whole, or has padding."""
    flags = frame[4]
    if frame[3] != HeadersFrame.type or flags & (_END_HEADERS | _PADDED) != _END_HEADERS:
        return b""
    return frame[HEADER_SIZE + (_PRIORITY_SIZE if flags & _PRIORITY else 0) :]
