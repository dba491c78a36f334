"""Session tickets of a server, for resumption and early data (RFC 8446 section 4.6.1).

A ticket of aioquic is a random number, so its session is stored. Each ticket can be used once,
which is the first defence against replayed early data (RFC 8446 section 8.1). Clients get a new
ticket with each connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from aioquic.tls import SessionTicket

MOST: Final = 2000
"""Stored sessions, of about one kilobyte each; the oldest is forgotten first."""


class Tickets:
    """The sessions that clients of one listener can resume."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._sessions: dict[bytes, SessionTicket] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def keep(self, session: SessionTicket) -> None:
        """Store a session that a client was given a ticket for."""
        if len(self._sessions) >= self._most:
            del self._sessions[next(iter(self._sessions))]
        self._sessions[session.ticket] = session

    def take(self, ticket: bytes) -> SessionTicket | None:
        """Return the session of a ticket, which is then used up; None for an unknown one."""
        return self._sessions.pop(ticket, None)
