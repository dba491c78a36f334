"""Replies to datagrams that belong to no connection (RFC 9000 sections 6.1 and 10.3)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from aioquic.quic.packet import QuicProtocolVersion, encode_quic_version_negotiation

from corepy.net.quic.identifiers import RESET_TOKEN_SIZE

if TYPE_CHECKING:
    from aioquic.quic.packet import QuicHeader

    from corepy.net.quic.identifiers import Identifiers

VERSIONS: Final = [QuicProtocolVersion.VERSION_1, QuicProtocolVersion.VERSION_2]
"""RFC 9000 and RFC 9369."""

SMALLEST_TRIGGER: Final = 43
"""Bytes of a datagram that is answered with a reset, which has to be smaller."""

PER_SECOND: Final = 100
"""Resets a second."""


def version_negotiation(header: QuicHeader) -> bytes:
    """Return the packet that lists our versions, for a client that begins with another one."""
    return encode_quic_version_negotiation(
        source_cid=header.destination_cid,
        destination_cid=header.source_cid,
        supported_versions=[int(version) for version in VERSIONS],
    )


class Resets:
    """Ends connections that the server does not know, such as those of an earlier process."""

    def __init__(self, identifiers: Identifiers) -> None:
        self._identifiers = identifiers
        self._left = float(PER_SECOND)
        self._since = 0.0

    def answer(self, datagram: bytes, connection_id: bytes, now: float) -> bytes | None:
        """Return a stateless reset for an unknown connection; None if none is sent now.

        It looks like a packet with a short header, and is smaller than the datagram, so that two
        servers cannot keep each other busy.
        """
        if len(datagram) < SMALLEST_TRIGGER:
            return None
        self._left = min(float(PER_SECOND), self._left + (now - self._since) * PER_SECOND)
        self._since = now
        if self._left < 1:
            return None
        self._left -= 1
        head = bytearray(os.urandom(SMALLEST_TRIGGER - 1 - RESET_TOKEN_SIZE))
        head[0] = head[0] & 0x3F | 0x40
        return bytes(head) + self._identifiers.reset_token(connection_id)
