"""`ServerH3`: HTTP/3 of aioquic without a dynamic table, and with an orderly end (RFC 9114)."""

from __future__ import annotations

from typing import Any, Final

import pylsqpack
from aioquic.buffer import encode_uint_var
from aioquic.h3.connection import FrameType, H3Connection, Setting, encode_frame

MAX_HEADER: Final = 16 * 1024
"""Bytes of the header of a request, as it is sent and as RFC 9114 section 4.2.2 counts it."""

_LAST_STREAM: Final = (1 << 62) - 4
"""Announces the end without refusing a request that is on the way (RFC 9114 section 5.2)."""

_FIELD_OVERHEAD: Final = 32


class ServerH3(H3Connection):
    """The server's side of one HTTP/3 connection.

    A dynamic table would let a short header refer to a long field thousands of times, and takes
    memory for each connection.
    """

    def _init_connection(self) -> None:
        self._max_table_capacity = self._blocked_streams = 0
        self._decoder = pylsqpack.Decoder(0, 0)
        super()._init_connection()

    def _get_local_settings(self) -> dict[int, int]:
        settings = super()._get_local_settings()
        del settings[Setting.ENABLE_CONNECT_PROTOCOL]
        return {**settings, Setting.MAX_FIELD_SECTION_SIZE: MAX_HEADER}

    def _validate_settings(self, settings: dict[int, int]) -> None:
        """Encode without a dynamic table, too, so that no reply waits for the client's decoder."""
        super()._validate_settings(settings)
        settings[Setting.QPACK_MAX_TABLE_CAPACITY] = 0

    def announce_end(self) -> None:
        """Ask the client to send further requests over another connection."""
        data = encode_frame(FrameType.GOAWAY, encode_uint_var(_LAST_STREAM))
        control: Any = self._local_control_stream_id
        self._quic.send_stream_data(control, data)

    def forget(self, stream_id: int) -> None:
        """Release the state of a stream that ends without a response."""
        stream = self._stream.get(stream_id)
        if stream is not None:
            stream.sending_ended = True
            if stream.is_ended():
                del self._stream[stream_id]


def size_of(headers: list[tuple[bytes, bytes]]) -> int:
    """Return the size of a header as the client has to count it."""
    return sum(len(name) + len(value) + _FIELD_OVERHEAD for name, value in headers)
