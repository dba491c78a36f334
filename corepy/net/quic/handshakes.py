"""Limits the handshakes in progress, and validates addresses when there are many.

A client's first packet can have a forged source address, and makes the server sign and keep a
connection. From `RETRY_FROM` handshakes in progress on, clients get a Retry packet, which costs the
server little and no memory, and begin again with the token in it (RFC 9000 section 8.1.2).
Validated clients share the places for handshakes (`corepy.net.connection_limit.Shares`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from corepy.net.connection_limit import Shares, client_of
from corepy.net.quic import retry
from corepy.net.quic.server_connection import Origin

if TYPE_CHECKING:
    from aioquic.quic.packet import QuicHeader

    from corepy.net.quic.identifiers import Identifiers

RETRY_FROM: Final = 32
"""Handshakes in progress from which clients have to prove their address."""

MOST: Final = 256
"""Handshakes in progress beyond which new ones are ignored; clients repeat their first packet."""


class Handshakes:
    """The handshakes in progress at one listener."""

    def __init__(self, identifiers: Identifiers, secret: bytes) -> None:
        """`secret` as for `Identifiers`."""
        self._identifiers = identifiers
        self.use(secret)
        self._shares = Shares()
        self.count = 0

    def use(self, secret: bytes) -> None:
        """Make and accept tokens with another secret from now on."""
        self._tokens = retry.RetryTokens(secret)

    @property
    def are_many(self) -> bool:
        """Whether the next client has to prove its address."""
        return self.count >= RETRY_FROM

    def proven(self, to: bytes, token: bytes, peer: object, now: float) -> Origin | None:
        """Return the IDs of a client whose token proves its address; None for any other token.

        `to` is the destination ID of the packet.
        """
        original = self._tokens.original(peer, token, to, now) if token else None
        return None if original is None else Origin(original, to)

    def origin(self, header: QuicHeader, peer: object, now: float) -> Origin | None:
        """Return the IDs of a client by its first packet; None if it has to prove its address.

        A token that is not valid is as none (RFC 9000 section 8.1.3).
        """
        to = header.destination_cid
        proven = self.proven(to, header.token, peer, now)
        return proven or (None if self.are_many else Origin(to))

    def retry(self, header: QuicHeader, peer: object, now: float) -> bytes:
        """Return the Retry packet that answers a client's first packet."""
        source, original = self._identifiers.new(), header.destination_cid
        token = self._tokens.create(peer, original, source, now)
        return retry.packet(header.version or 0, original, header.source_cid, source, token)

    def begin(self, peer: Any) -> bytes | None:
        """Take a place for a handshake; return its client for `end`, None without a free one."""
        client = client_of(peer)
        if not self._shares.take(client, MOST - self.count):
            return None
        self.count += 1
        return client

    def end(self, client: bytes) -> None:
        """Give the place of a handshake back."""
        self.count -= 1
        self._shares.give_back(client)
