"""The tickets and tokens that an upstream over QUIC has given, for the next connection."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from corepy_forward.sessions import FULL_HANDSHAKE

if TYPE_CHECKING:
    from aioquic.tls import SessionTicket


class Memory:
    """The ticket for the next connection to an upstream, and the token for its address check."""

    def __init__(self) -> None:
        self.ticket: SessionTicket | None = None
        self.token = b""
        self.verified = float("-inf")
        """Monotonic time in seconds of the last handshake with a certificate."""

    def take_ticket(self) -> SessionTicket | None:
        """Return the ticket, once, if the last verification is not too long ago."""
        ticket, self.ticket = self.ticket, None
        return ticket if monotonic() - self.verified < FULL_HANDSHAKE else None

    def keep_ticket(self, ticket: SessionTicket) -> None:
        """Keep a ticket that the server has sent."""
        self.ticket = ticket

    def take_token(self) -> bytes:
        """Return the token, once (RFC 9000 section 8.1.3)."""
        token, self.token = self.token, b""
        return token

    def keep_token(self, token: bytes) -> None:
        """Keep a token that the server has sent."""
        self.token = token
