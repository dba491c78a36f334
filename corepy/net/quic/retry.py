"""Retry packets, with which a client proves its address (RFC 9000 section 8.1.2).

They answer floods of packets with forged addresses, so they have to be cheap: a token consists of a
time, the ID that the client chose first, and a keyed hash of these, of the client's address and of
the ID that the server chose. The ID is in clear text in the client's packets, too.
"""

from __future__ import annotations

import hashlib
import hmac
from functools import lru_cache
from typing import Any, Final

from aioquic.quic.packet import (
    CONNECTION_ID_MAX_SIZE,
    RETRY_AEAD_KEY_VERSION_1,
    RETRY_AEAD_KEY_VERSION_2,
    RETRY_AEAD_NONCE_VERSION_1,
    RETRY_AEAD_NONCE_VERSION_2,
    QuicPacketType,
    QuicProtocolVersion,
    encode_long_header_first_byte,
)
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

LIFETIME: Final = 30
"""Seconds for which a token is valid: clients send it at once (RFC 9000 section 8.1.4)."""

_TIME_SIZE: Final = 8
_PROOF_SIZE: Final = 16
SMALLEST: Final = _TIME_SIZE + _PROOF_SIZE
"""Bytes of a token without an ID."""

_SOCKADDR_IN: Final = 16
"""Size of an IPv4 sockaddr in bytes."""


class RetryTokens:
    """Tokens that every process with the same secret can check."""

    def __init__(self, secret: bytes) -> None:
        self._key = hashlib.blake2s(secret, person=b"retry").digest()

    def create(self, peer: Any, original: bytes, source: bytes, now: float) -> bytes:
        """Return a token for a client that began with the ID `original`, and now uses `source`.

        `peer` is a raw sockaddr or a tuple; `now` is a time in seconds that all processes share.
        """
        issued = int(now).to_bytes(_TIME_SIZE, "big")
        return issued + original + self._proof(peer, issued, original, source)

    def original(self, peer: Any, token: bytes, source: bytes, now: float) -> bytes | None:
        """Return the ID that a client with `token` began with; None if the token is not valid."""
        if not SMALLEST <= len(token) <= SMALLEST + CONNECTION_ID_MAX_SIZE:
            return None
        issued, original = token[:_TIME_SIZE], token[_TIME_SIZE:-_PROOF_SIZE]
        proof = token[-_PROOF_SIZE:]
        if not hmac.compare_digest(proof, self._proof(peer, issued, original, source)):
            return None
        return original if int(now) - int.from_bytes(issued, "big") <= LIFETIME else None

    def _proof(self, peer: Any, issued: bytes, original: bytes, source: bytes) -> bytes:
        """Return the keyed hash; the sizes make each input unique."""
        sizes = bytes((len(original), len(source)))
        content = b"".join((issued, sizes, original, source, address(peer)))
        return hashlib.blake2s(content, key=self._key, digest_size=_PROOF_SIZE).digest()


def address(peer: Any) -> bytes:
    """Return port and host of a socket address, a tuple or a raw sockaddr, without the rest."""
    if type(peer) is not bytes:
        port: int = peer[1]
        host: str = peer[0]
        return port.to_bytes(2, "big") + host.encode()
    if len(peer) == _SOCKADDR_IN:
        return peer[2:8]
    return peer[2:4] + peer[8:24]


def packet(version: int, original: bytes, client: bytes, source: bytes, token: bytes) -> bytes:
    """Return a Retry packet.

    `original` is the destination ID of the client's packet, `client` the ID of the client, and
    `source` the ID that the client shall use from now on.
    """
    first = encode_long_header_first_byte(version, QuicPacketType.RETRY, 0)
    content = b"".join(
        (
            bytes((first,)),
            version.to_bytes(4, "big"),
            bytes((len(client),)),
            client,
            bytes((len(source),)),
            source,
            token,
        )
    )
    cipher, nonce = _integrity(version)
    return content + cipher.encrypt(nonce, b"", bytes((len(original),)) + original + content)


@lru_cache(maxsize=2)
def _integrity(version: int) -> tuple[AESGCM, bytes]:
    """Return cipher and nonce of the integrity tag (RFC 9001 section 5.8, RFC 9369)."""
    if version == QuicProtocolVersion.VERSION_2:
        return AESGCM(RETRY_AEAD_KEY_VERSION_2), RETRY_AEAD_NONCE_VERSION_2
    return AESGCM(RETRY_AEAD_KEY_VERSION_1), RETRY_AEAD_NONCE_VERSION_1
