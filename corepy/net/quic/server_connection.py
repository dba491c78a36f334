"""`ServerConnection`: a connection of aioquic whose memory is bounded, whatever the client sends.

A stream's window never grows, and the connection's window follows the data delivered
(`bounded_connection`).

The overridden methods are private, so the version of aioquic is bounded in plugin.toml, and tests
check each of these limits.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from aioquic.quic.connection import (
    END_STATES,
    QuicConnectionError,
    QuicConnectionId,
    QuicConnectionState,
)
from aioquic.quic.packet import QuicErrorCode

from corepy.net.quic.bounded_connection import BoundedConnection, set_limit

if TYPE_CHECKING:
    from aioquic.buffer import Buffer  # type: ignore[attr-defined]  # documented, without __all__
    from aioquic.quic.configuration import QuicConfiguration
    from aioquic.quic.connection import QuicReceiveContext
    from aioquic.quic.packet_builder import QuicPacketBuilder
    from aioquic.quic.recovery import QuicPacketSpace
    from aioquic.quic.stream import QuicStream

    from corepy.net.quic.identifiers import Identifiers
    from corepy.net.quic.tickets import Tickets

ACTIVE_IDS: Final = 4
"""Connection IDs that a client has at a time: it needs a new one when its address changes."""

MAX_HELLO: Final = 16 * 1024
"""Bytes of a client's handshake; one with post-quantum keys has about two thousand."""

MOST_UNPROVEN: Final = 64
"""Datagrams that a client may send before it uses an ID of ours, with early data in most."""

# The library logs each fault of a client, at a level that Python prints by default.
for _name in ("quic", "http3"):
    logging.getLogger(_name).disabled = True


class Windows(NamedTuple):
    """The limits that a client is told."""

    streams: int
    """Bidirectional streams that are open at a time."""

    unidirectional: int
    """Unidirectional streams that are open at a time."""

    stream: int
    """Bytes that a stream may carry altogether."""

    data: int
    """Bytes that were received and not delivered yet, because something before them is missing."""


class Origin(NamedTuple):
    """The connection IDs of a client's first packets."""

    original: bytes
    """The destination that the client chose itself."""

    retried: bytes | None = None
    """The source of the Retry packet with which the client's address was validated, if any."""


class ServerConnection(BoundedConnection):
    """The server's side of one connection."""

    def __init__(
        self,
        configuration: QuicConfiguration,
        identifiers: Identifiers,
        windows: Windows,
        origin: Origin,
        tickets: Tickets,
    ) -> None:
        super().__init__(
            configuration=configuration,
            original_destination_connection_id=origin.original,
            retry_source_connection_id=origin.retried,
            session_ticket_fetcher=tickets.take,
            session_ticket_handler=tickets.keep,
        )
        self._identifiers = identifiers
        first = self._host_cids[0]
        first.cid = identifiers.new()
        first.stateless_reset_token = identifiers.reset_token(first.cid)
        self.host_cid = self._local_initial_source_connection_id = first.cid
        self.limit_streams(windows.streams, windows.unidirectional)
        set_limit(self._local_max_data, windows.data)
        self._local_max_stream_data_bidi_remote = windows.stream
        self._local_max_stream_data_uni = windows.stream
        self._window = windows.data
        self._unproven = 1

    @property
    def is_over(self) -> bool:
        """Whether one side has closed the connection, or will with the next packet."""
        return self._close_event is not None

    @property
    def has_ended(self) -> bool:
        """Whether nothing more is sent or received."""
        return self._state in END_STATES

    @property
    def is_established(self) -> bool:
        """Whether the handshake is complete, so that nothing received now can be a replay."""
        return self._handshake_complete

    @property
    def client_address(self) -> Any:
        """The address of the client that was validated last, else the one it sends from."""
        for path in self._network_paths:
            if path.is_validated:
                return path.addr
        return self._network_paths[0].addr

    @property
    def cipher(self) -> str:
        """The name of the cipher suite."""
        schedule = self.tls.key_schedule
        return "" if schedule is None else f"TLS_{schedule.cipher_suite.name}"

    def take(self, data: bytes, path: Any, now: float) -> bool:
        """Process a datagram; return whether it contained a packet of this client."""
        before = self._close_at
        self.receive_datagram(data, path, now)
        return self._close_at is not before

    def takes_unproven(self) -> bool:
        """Count a datagram to the ID that the client chose; return whether to process it.

        The source of such a datagram can be forged. A connection whose first datagram was none of
        QUIC processes no other one, since aioquic would derive its keys anew for each.
        """
        self._unproven += 1
        has_begun = self._state is not QuicConnectionState.FIRSTFLIGHT
        return has_begun and self._unproven <= MOST_UNPROVEN

    def unacknowledged(self, stream_id: int | None = None) -> int:
        """Return the bytes that the client has not acknowledged, of one stream or of all."""
        if stream_id is None:
            return sum(len(stream.sender._buffer) for stream in self._streams.values())
        stream = self._streams.get(stream_id)
        return 0 if stream is None else len(stream.sender._buffer)

    def accepts(self, stream_id: int) -> bool:
        """Return whether the client still wants to receive something over a stream."""
        stream = self._streams.get(stream_id)
        return stream is not None and stream.sender._reset_error_code is None

    def end_stream(self, stream_id: int, data: bytes) -> None:
        """Send the last `data` of a stream, unless the client has cancelled it."""
        if self.accepts(stream_id):
            self.send_stream_data(stream_id, data, end_stream=True)

    def stop_reading(self, stream_id: int, error_code: int) -> None:
        """Ask the client not to send the rest of a stream."""
        stream = self._streams.get(stream_id)
        if stream is not None and not stream.receiver.is_finished:
            stream.receiver.stop(error_code)

    def abandon(self, stream_id: int, error_code: int) -> None:
        """End both directions of a stream with an error."""
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        stream.sender.reset(error_code)
        self.stop_reading(stream_id, error_code)

    def _replenish_connection_ids(self) -> None:
        """Make IDs of our own form."""
        while len(self._host_cids) < min(ACTIVE_IDS, self._remote_active_connection_id_limit):
            made = self._identifiers.new()
            token = self._identifiers.reset_token(made)
            self._host_cids.append(QuicConnectionId(made, self._host_cid_seq, token))
            self._host_cid_seq += 1

    def _confirm_handshake(self) -> None:
        """Release the buffers of the handshake, 48 KiB."""
        super()._confirm_handshake()
        self._crypto_buffers = {}

    def _handle_crypto_frame(
        self, context: QuicReceiveContext, frame_type: int, buf: Buffer
    ) -> None:
        """Refuse a handshake that is too long, and one after the handshake."""
        start = buf.tell()
        end = buf.pull_uint_var() + buf.pull_uint_var()
        if end > MAX_HELLO or self._handshake_confirmed:
            code = QuicErrorCode.CRYPTO_BUFFER_EXCEEDED
            raise QuicConnectionError(code, frame_type, "unexpected handshake data")
        buf.seek(start)
        super()._handle_crypto_frame(context, frame_type, buf)

    def _write_stream_limits(
        self, builder: QuicPacketBuilder, space: QuicPacketSpace, stream: QuicStream
    ) -> None:
        """Leave the windows of streams as they are: each is large enough for a whole request."""
