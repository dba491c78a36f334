"""Resumes the TLS sessions of one upstream, which saves both sides the certificate (RFC 8446 2.2).

The sessions belong to one upstream, so they are never used for another server or name. A resumed
connection does not verify the certificate again, so a full handshake is due after some time.
"""

from __future__ import annotations

from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import ssl

FULL_HANDSHAKE: Final = 3600.0
"""Seconds after a full handshake during which connections resume its session.

So a certificate that has expired, or was replaced because its key is known, is noticed.
"""

_REMEMBERED: Final = 8
"""Number of tickets that are remembered as used; more than there are connections."""

_TICKETS_ONCE: Final = "TLSv1.3"


class Sessions:
    """The last session, and what asyncio needs of an `ssl.SSLContext` to connect with it.

    A ticket of TLS 1.3 is used once, so that an observer cannot tell that two connections belong
    together (RFC 8446 appendix C.4).
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self._session: ssl.SSLSession | None = None
        self._verified = float("-inf")
        self._used: deque[bytes] = deque(maxlen=_REMEMBERED)

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | None = None,
    ) -> ssl.SSLObject:
        """Begin a connection, see `ssl.SSLContext.wrap_bio`; resume the session if there is one."""
        session = None
        if monotonic() - self._verified < FULL_HANDSHAKE:
            session, self._session = self._session, None
        if session is not None:
            self._used.append(session.id)
        return self._context.wrap_bio(
            incoming, outgoing, server_side, server_hostname, session=session
        )

    def connected(self, secure: ssl.SSLObject) -> None:
        """Record a handshake that has succeeded."""
        if not secure.session_reused:
            self._verified = monotonic()

    def keep(self, secure: ssl.SSLObject) -> None:
        """Keep the session of a connection for the next one.

        With TLS 1.3 it has a ticket once the server has sent data.
        """
        session = secure.session
        if session is None or not (session.has_ticket or session.id):
            return
        if secure.version() != _TICKETS_ONCE or (
            session.has_ticket and session.id not in self._used
        ):
            self._session = session
