"""Reads private keys in PEM files (RFC 5958), as Knot DNS stores them.

This module imports the package `cryptography`, so only plugins that declare it import this one.
"""

from __future__ import annotations

import base64
import re
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from corepy.zone.signing_keys import EC_ALGORITHMS, BadKey, elliptic_key

_KEY: Final = re.compile(
    rb"-----BEGIN PRIVATE KEY-----([A-Za-z0-9+/=\s]*)-----END PRIVATE KEY-----"
)
_INTEGER: Final = 0x02
_OCTETS: Final = 0x04
_SEQUENCE: Final = 0x30
"""Tags of ASN.1 (X.690 section 8)."""


def read_pem(content: bytes, algorithm: int) -> object:
    """Return the private key in a file, an object of `cryptography`; raises BadKey.

    `algorithm` is that of the public key.
    """
    try:
        return load_pem_private_key(content, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it is encrypted
        if algorithm in EC_ALGORITHMS and (found := _KEY.search(content)):
            secret = _elliptic_secret(found[1])
            if secret:
                return elliptic_key(algorithm, secret)
        message = "the PEM file has no private key that is readable without password"
        raise BadKey(message) from None


def _elliptic_secret(text: bytes) -> bytes:
    """Return the secret of an elliptic key (RFC 5915) without leading zeros, b"" if it has none.

    GnuTLS, and so Knot DNS, writes it like an integer: half of the keys for P-256 have 33 bytes,
    which `cryptography` refuses.
    """
    try:
        info, _ = _element(base64.b64decode(text), _SEQUENCE)
        _, info = _element(info, _INTEGER)  # the version
        _, info = _element(info, _SEQUENCE)  # the curve: the public key must fit anyway
        inner, _ = _element(info, _OCTETS)
        key, _ = _element(inner, _SEQUENCE)
        _, key = _element(key, _INTEGER)
        return _element(key, _OCTETS)[0].lstrip(b"\0")
    except (ValueError, IndexError):
        return b""


def _element(data: bytes, tag: int) -> tuple[bytes, bytes]:
    """Return the content of the first element, and what follows; raises ValueError, IndexError."""
    if data[0] != tag:
        raise ValueError("another tag")
    size, at = data[1], 2
    if size & 0x80:
        at += size & 0x7F
        size = int.from_bytes(data[2:at], "big")
    return data[at : at + size], data[at + size :]
