"""`BoundedConnection`: a connection of aioquic with a bounded receive buffer.

aioquic's receive windows double whenever half of one is used, counted by the highest offset seen. A
peer that sends single bytes at ever higher offsets would make it reserve any amount of memory. Here
the windows follow the data that was delivered.

The overridden methods are private, so the version of aioquic is bounded in plugin.toml, and tests
check each of these limits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aioquic.quic.connection import (
    CONNECTION_LIMIT_FRAME_CAPACITY,
    MAX_STREAM_DATA_FRAME_CAPACITY,
    QuicConnection,
)
from aioquic.quic.packet import QuicFrameType

if TYPE_CHECKING:
    from aioquic.quic.configuration import QuicConfiguration
    from aioquic.quic.connection import Limit
    from aioquic.quic.packet_builder import QuicPacketBuilder
    from aioquic.quic.recovery import QuicPacketSpace
    from aioquic.quic.stream import QuicStream


class BoundedConnection(QuicConnection):
    """A connection, of either side, that grants no more than its configuration."""

    def __init__(self, *, configuration: QuicConfiguration, **options: Any) -> None:
        """`options` are those of `QuicConnection`."""
        super().__init__(configuration=configuration, **options)
        self._window = configuration.max_data
        self._stream_window = configuration.max_stream_data

    def limit_streams(self, bidirectional: int, unidirectional: int) -> None:
        """Let the peer open so many streams at a time; call it before the handshake."""
        set_limit(self._local_max_streams_bidi, bidirectional)
        set_limit(self._local_max_streams_uni, unidirectional)

    def _write_stream_limits(
        self, builder: QuicPacketBuilder, space: QuicPacketSpace, stream: QuicStream
    ) -> None:
        """Announce that the peer may send more on a stream, when half of its window is used."""
        delivered, number = stream.receiver.starting_offset(), stream.stream_id
        if not stream.max_stream_data_local or stream.receiver.is_finished or number is None:
            return
        if stream.max_stream_data_local - delivered < self._stream_window // 2:
            stream.max_stream_data_local = delivered + self._stream_window
        if stream.max_stream_data_local_sent != stream.max_stream_data_local:
            buffer = builder.start_frame(
                QuicFrameType.MAX_STREAM_DATA,
                capacity=MAX_STREAM_DATA_FRAME_CAPACITY,
                handler=self._on_max_stream_data_delivery,
                handler_args=(stream,),
            )
            buffer.push_uint_var(number)
            buffer.push_uint_var(stream.max_stream_data_local)
            stream.max_stream_data_local_sent = stream.max_stream_data_local

    def _write_connection_limits(self, builder: QuicPacketBuilder, space: QuicPacketSpace) -> None:
        """Announce that the peer may send more, or open more streams, if it needs to know."""
        data = self._local_max_data
        if data.value - data.used < self._window // 2:
            data.value = data.used - self._undelivered() + self._window
        for limit in (data, self._local_max_streams_bidi, self._local_max_streams_uni):
            if limit.value > limit.sent and (
                limit is data or limit.sent - limit.used < limit.value - limit.sent
            ):
                buffer = builder.start_frame(
                    limit.frame_type,
                    capacity=CONNECTION_LIMIT_FRAME_CAPACITY,
                    handler=self._on_connection_limit_delivery,
                    handler_args=(limit,),
                )
                buffer.push_uint_var(limit.value)
                limit.sent = limit.value

    def _undelivered(self) -> int:
        """Return the bytes up to the highest offset of each stream that were not delivered yet."""
        receivers = [stream.receiver for stream in self._streams.values()]
        return sum(
            it.highest_offset - it.starting_offset() for it in receivers if not it.is_finished
        )


def set_limit(limit: Limit, value: int) -> None:
    """Set a limit that the peer is told during the handshake."""
    limit.value = limit.sent = value
