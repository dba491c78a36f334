"""`SigningKey`: a DNSSEC key that signs, and the public keys in DNSKEY records.

This module imports the package `cryptography`, so only plugins that declare it import this one.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

if TYPE_CHECKING:
    from collections.abc import Callable

    PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | Ed25519PrivateKey

PROTOCOL: Final = 3
"""The value of the protocol field of every DNSKEY record (RFC 4034 section 2.1.2)."""

ZONE_FLAG: Final = 0x0100
SEP_FLAG: Final = 0x0001
REVOKE_FLAG: Final = 0x0080
"""Flags of a DNSKEY record: RFC 4034 section 2.1.1, RFC 5011 section 7."""

SHA256: Final = 2
"""The digest type of DS records (RFC 4509)."""

ED25519: Final = 15

MOST_RSA_BITS: Final = 4096
"""Bits of the longest RSA key (RFC 3110 section 2)."""


class BadKey(ValueError):
    """A key cannot sign; the message contains the reason, but no part of the key."""


class _RSA(NamedTuple):
    """An algorithm with RSA, PKCS #1 version 1.5 (RFC 3110, RFC 5702)."""

    hash: hashes.HashAlgorithm


class _ECDSA(NamedTuple):
    """An algorithm with ECDSA (RFC 6605)."""

    hash: hashes.HashAlgorithm
    curve: type[ec.EllipticCurve]
    size: int
    """Bytes of a coordinate, and of each half of a signature."""


RSA_ALGORITHMS: Final = {
    5: _RSA(hashes.SHA1()),  # noqa: S303 - RSASHA1: its use is the operator's decision
    7: _RSA(hashes.SHA1()),  # noqa: S303 - RSASHA1-NSEC3-SHA1, the same
    8: _RSA(hashes.SHA256()),
    10: _RSA(hashes.SHA512()),
}
EC_ALGORITHMS: Final = {
    13: _ECDSA(hashes.SHA256(), ec.SECP256R1, 32),
    14: _ECDSA(hashes.SHA384(), ec.SECP384R1, 48),
}
SHA1_ALGORITHMS: Final = frozenset((5, 7))
"""Algorithms whose signatures many validators ignore (RFC 9905)."""

_EC_COSTS: Final = {13: 60e-6, 14: 800e-6, ED25519: 90e-6}
_RSA_COST: Final = 800e-6
_RSA_BITS: Final = 2048
"""Seconds of a signature by algorithm, and those of an RSA key of 2048 bits, on slow machines."""


@dataclass(frozen=True, slots=True, eq=False)
class SigningKey:
    """One key pair."""

    owner: bytes
    """The owner of the DNSKEY record, in wire form and lower case."""

    rdata: bytes
    """The rdata of the DNSKEY record."""

    tag: int
    """The key tag, which signatures and DS records contain."""

    cost: float
    """A rough estimate of the seconds that a signature takes."""

    sign: Callable[[bytes], bytes] = field(repr=False)
    """Returns the signature of data, in the form of an RRSIG record."""

    @property
    def flags(self) -> int:
        """The flags of the DNSKEY record."""
        return self.rdata[0] << 8 | self.rdata[1]

    @property
    def algorithm(self) -> int:
        """The number of the algorithm."""
        return self.rdata[3]

    @property
    def is_ksk(self) -> bool:
        """Whether the SEP bit is set: the key is meant to sign keys (RFC 4034 section 2.1.1)."""
        return self.flags & SEP_FLAG != 0

    def ds(self, owner: bytes) -> bytes:
        """Return the rdata of the DS record with SHA-256 for a zone (RFC 4034 section 5.1).

        CDS records have the same (RFC 7344 section 3.1).
        """
        digest = hashlib.sha256(owner + self.rdata).digest()
        return self.tag.to_bytes(2, "big") + bytes((self.algorithm, SHA256)) + digest


def key_tag(rdata: bytes) -> int:
    """Return the key tag of a DNSKEY record's rdata (RFC 4034 appendix B)."""
    total = sum(rdata[::2]) * 256 + sum(rdata[1::2])
    total += total >> 16 & 0xFFFF
    return total & 0xFFFF


def signing_key(owner: bytes, rdata: bytes, private: object) -> SigningKey:
    """Return the key of a DNSKEY record with its private key, an object of `cryptography`.

    Raises BadKey if they do not fit, and for an algorithm that is not supported.
    """
    if len(rdata) < 5 or rdata[2] != PROTOCOL:
        raise BadKey("the DNSKEY record is malformed")
    flags, algorithm = rdata[0] << 8 | rdata[1], rdata[3]
    if not flags & ZONE_FLAG:
        raise BadKey("it is not a zone key: the flags are neither 256 nor 257")
    if flags & REVOKE_FLAG:
        raise BadKey("the key is revoked")
    sign, public, cost = _parts(algorithm, private)
    if public != rdata[4:]:
        raise BadKey("the private key is not that of the DNSKEY record")
    try:
        sign(b"")  # some keys and systems do not allow it, such as SHA-1 in Fedora
    except (ValueError, UnsupportedAlgorithm) as error:
        message = f"this system cannot sign with it: {error}"
        raise BadKey(f"{message}; use another key, such as ECDSAP256SHA256") from None
    return SigningKey(owner.lower(), rdata, key_tag(rdata), cost, sign)


def _parts(algorithm: int, private: object) -> tuple[Callable[[bytes], bytes], bytes, float]:
    """Return the function that signs, the public key in a DNSKEY record, and the cost."""
    if algorithm in RSA_ALGORITHMS and isinstance(private, rsa.RSAPrivateKey):
        return _rsa_parts(RSA_ALGORITHMS[algorithm], private)
    if algorithm in EC_ALGORITHMS and isinstance(private, ec.EllipticCurvePrivateKey):
        sign, public = _ecdsa_parts(EC_ALGORITHMS[algorithm], private)
        return sign, public, _EC_COSTS[algorithm]
    if algorithm == ED25519 and isinstance(private, Ed25519PrivateKey):
        public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return private.sign, public, _EC_COSTS[ED25519]
    if algorithm in (*RSA_ALGORITHMS, *EC_ALGORITHMS, ED25519):
        raise BadKey("the private key is of another algorithm than the DNSKEY record")
    raise unsupported(algorithm)


def unsupported(algorithm: int) -> BadKey:
    """Return the error for an algorithm that is not supported."""
    known = "RSA (5, 7, 8, 10), ECDSA (13, 14) and Ed25519 (15)"
    return BadKey(f"algorithm {algorithm} is not supported; {known} are")


def _rsa_parts(
    algorithm: _RSA, private: rsa.RSAPrivateKey
) -> tuple[Callable[[bytes], bytes], bytes, float]:
    if private.key_size > MOST_RSA_BITS:
        raise BadKey(f"the RSA key is longer than {MOST_RSA_BITS} bits")
    scheme, digest = padding.PKCS1v15(), algorithm.hash
    numbers = private.public_key().public_numbers()
    exponent, modulus = _number(numbers.e), _number(numbers.n)
    size = len(exponent)
    head = bytes((size,)) if size < 256 else b"\0" + size.to_bytes(2, "big")  # RFC 3110 section 2
    cost = _RSA_COST * (private.key_size / _RSA_BITS) ** 3
    return (lambda data: private.sign(data, scheme, digest)), head + exponent + modulus, cost


def _number(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def _ecdsa_parts(
    algorithm: _ECDSA, private: ec.EllipticCurvePrivateKey
) -> tuple[Callable[[bytes], bytes], bytes]:
    if not isinstance(private.curve, algorithm.curve):
        raise BadKey("the private key is on another curve than the DNSKEY record")
    scheme, size = ec.ECDSA(algorithm.hash), algorithm.size

    def sign(data: bytes) -> bytes:
        r, s = decode_dss_signature(private.sign(data, scheme))
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")

    point = private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return sign, point[1:]


def rsa_key(numbers: dict[str, int]) -> PrivateKey:
    """Return the RSA key with these numbers, named as in `key_files`; raises BadKey."""
    n, e, d, p, q, dp, dq, qi = numbers.values()
    if n.bit_length() > MOST_RSA_BITS:
        raise BadKey(f"the RSA key is longer than {MOST_RSA_BITS} bits")
    public = rsa.RSAPublicNumbers(e, n)
    try:
        return rsa.RSAPrivateNumbers(p, q, d, dp, dq, qi, public).private_key()
    except (ValueError, UnsupportedAlgorithm, OverflowError):
        raise BadKey("the numbers of the RSA key do not fit together") from None


def elliptic_key(algorithm: int, secret: bytes) -> PrivateKey:
    """Return the key of ECDSA or Ed25519 with these bytes; raises BadKey."""
    try:
        if algorithm == ED25519:
            return Ed25519PrivateKey.from_private_bytes(secret)
        known = EC_ALGORITHMS[algorithm]
        if len(secret) > known.size:
            raise ValueError
        return ec.derive_private_key(int.from_bytes(secret, "big"), known.curve())
    except (ValueError, UnsupportedAlgorithm, OverflowError):
        raise BadKey("the private key is invalid for its algorithm") from None
