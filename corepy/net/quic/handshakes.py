"""Limits the handshakes in progress, and validates addresses when there are many.

A client's first packet can have a forged source address, and makes the server sign and keep a
connection. From `RETRY_FROM` handshakes in progress on, clients get a Retry packet, which costs the
server little and no memory, and begin again with the token in it (RFC 9000 section 8.1.2).
Validated clients share the places for handshakes (`corepy.net.connection_limit.Shares`).
"""

from __future__ import annotations

import hashlib
import socket
from typing import TYPE_CHECKING, Any, Final

from aioquic.quic.packet import encode_quic_retry
from aioquic.quic.retry import QuicRetryTokenHandler
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from corepy.net.connection_limit import Shares, client_of
from corepy.net.quic.server_connection import Origin

if TYPE_CHECKING:
    from aioquic.quic.packet import QuicHeader

    from corepy.net.quic.identifiers import Identifiers

RETRY_FROM: Final = 32
"""Handshakes in progress from which clients have to prove their address."""

MOST: Final = 256
"""Handshakes in progress beyond which new ones are ignored; clients repeat their first packet."""

_SOCKADDR_IN: Final = 16
"""Size of an IPv4 sockaddr in bytes."""


class RetryTokens(QuicRetryTokenHandler):
    """Tokens that every process of a server can check."""

    def __init__(self, secret: bytes) -> None:
        super().__init__()
        key = hashlib.blake2s(secret, person=b"retry", digest_size=16).digest()
        self._aead = AESGCM(key)


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
        self._tokens = RetryTokens(secret)

    @property
    def are_many(self) -> bool:
        """Whether the next client has to prove its address."""
        return self.count >= RETRY_FROM

    def origin(self, header: QuicHeader, peer: object, now: float) -> Origin | None:
        """Return the IDs of a client by its first packet; None if it has to prove its address."""
        if header.token:
            try:
                original = self._tokens.validate_token(
                    address=_address(peer),
                    destination_cid=header.destination_cid,
                    token=header.token,
                    now=now,
                )
                return Origin(original, header.destination_cid)
            except ValueError:  # as without a token (RFC 9000 section 8.1.3)
                pass
        return None if self.are_many else Origin(header.destination_cid)

    def retry(self, header: QuicHeader, peer: object, now: float) -> bytes:
        """Return the Retry packet that answers a client's first packet."""
        source = self._identifiers.new()
        token = self._tokens.create_token(
            address=_address(peer),
            original_destination_connection_id=header.destination_cid,
            retry_source_connection_id=source,
            now=now,
        )
        return encode_quic_retry(
            version=header.version or 0,
            source_cid=source,
            destination_cid=header.source_cid,
            original_destination_cid=header.destination_cid,
            retry_token=token,
        )

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


def _address(peer: Any) -> tuple[str, int]:
    """Return host and port of a socket address, a tuple or a raw sockaddr."""
    if type(peer) is not bytes:
        return peer[0], peer[1]
    port = int.from_bytes(peer[2:4], "big")
    if len(peer) == _SOCKADDR_IN:
        return socket.inet_ntop(socket.AF_INET, peer[4:8]), port
    return socket.inet_ntop(socket.AF_INET6, peer[8:24]), port
