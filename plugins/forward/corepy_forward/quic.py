"""DNS over QUIC to one upstream (RFC 9250).

A server that has given a ticket gets the first queries with the first packet (0-RTT). Whoever
copies this packet can repeat these queries, so only transactions without an effect are allowed
(section 4.5): *forward* sends no others than plain queries. A ticket is used once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aioquic.quic import events

from corepy_forward.doh_requests import MOST_MESSAGE, take_message
from corepy_forward.failures import CLOSED, MALFORMED, TOO_LARGE
from corepy_forward.forms import padded
from corepy_forward.quic_link import QUICLink

if TYPE_CHECKING:
    from corepy.net.quic.bounded_connection import BoundedConnection
    from corepy_forward.attempt import Attempt

NO_ERROR: Final = 0x0
PROTOCOL_ERROR: Final = 0x2
REQUEST_CANCELLED: Final = 0x3
"""Error codes (section 4.3)."""


class QUICStream(QUICLink):
    """One connection of DNS over QUIC."""

    no_error = NO_ERROR
    cancelled = REQUEST_CANCELLED

    def _request(self, connection: BoundedConnection, number: int, attempt: Attempt) -> None:
        """Send a query on its stream, padded because its size could tell the name (section 5.4)."""
        wire = b"\0\0" + padded(attempt.body, attempt.owner.question)
        framed = len(wire).to_bytes(2, "big") + wire
        connection.send_stream_data(number, framed, end_stream=True)

    def _take_from_stream(self, event: events.QuicEvent) -> None:
        if isinstance(event, events.StreamDataReceived):
            self._collect(event.stream_id, event.data, event.end_stream)

    def _collect(self, number: int, data: bytes, is_end: bool) -> None:
        """Add to a reply: two bytes with its length, the message, and the end of the stream."""
        reply = self._reply(number)
        if reply is None:
            return
        reply += data
        if len(reply) > 2 + MOST_MESSAGE:
            self._violation(number, TOO_LARGE)
        elif is_end:
            self._finish(number)

    def _finish(self, number: int) -> None:
        """Process a complete reply."""
        reply = self._replies.pop(number)
        if len(reply) < 2 or int.from_bytes(reply[:2], "big") != len(reply) - 2:
            self._violation(number, MALFORMED)
            return
        attempt = self._take_pending(number)
        if attempt is not None:
            take_message(attempt, bytes(reply[2:]), self._heard)

    def _violation(self, number: int, reason: str) -> None:
        """Fail a query, and close the connection as the protocol requires (section 4.3.3)."""
        self._broke(number, reason)
        self._close(PROTOCOL_ERROR)
        self._end(CLOSED)
