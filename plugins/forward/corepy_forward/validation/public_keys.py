"""Public keys of zones: DNSKEY records that verify signatures, and DS records that match them.

The package `cryptography` verifies; this module decides which keys and sizes it gets.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from corepy.zone.signing_keys import (
    EC_ALGORITHMS,
    ED25519,
    MOST_RSA_BITS,
    PROTOCOL,
    REVOKE_FLAG,
    RSA_ALGORITHMS,
    ZONE_FLAG,
    key_tag,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

ED448: Final = 16
ALGORITHMS: Final = frozenset((*RSA_ALGORITHMS, *EC_ALGORITHMS, ED25519, ED448))
"""The algorithms of signatures that are verified; others count as unsigned (RFC 4035 5.2)."""

MOST_LOADED: Final = 512
"""Keys that are kept as objects of OpenSSL, which take 3 KB each, for their next signature."""

MOST_DS: Final = 32
"""DS records of a zone that are compared with its keys."""

_MOST_EXPONENT_BITS: Final = 35
"""A larger RSA exponent makes each check slow; BIND has the same limit."""

_SHA1: Final = 1
_DIGESTS: Final = {_SHA1: hashlib.sha1, 2: hashlib.sha256, 4: hashlib.sha384}
_MIN_DNSKEY: Final = 5
_MIN_DS: Final = 5

_PKCS1: Final = padding.PKCS1v15()


class ZoneKey:
    """One DNSKEY record of a zone that may verify signatures."""

    __slots__ = ("algorithm", "rdata", "tag")

    def __init__(self, rdata: bytes) -> None:
        """Take rdata for which `flaw` is None."""
        self.rdata = rdata
        self.algorithm = rdata[3]
        self.tag = key_tag(rdata)

    def has_signed(self, data: bytes, signature: bytes) -> bool:
        """Whether the signature, in the form of an RRSIG record, is that of this key for `data`."""
        try:
            _verifier(self.algorithm, self.rdata[4:])(signature, data)
        except (InvalidSignature, UnsupportedAlgorithm, ValueError, OverflowError):
            return False
        return True


def flaw(rdata: bytes, *, revoked: bool = False) -> str | None:
    """Return why a DNSKEY record cannot verify signatures of zone data; None if it can.

    `revoked`: accept a revoked key, which may only sign its own revocation (RFC 5011 2.1).
    """
    if len(rdata) < _MIN_DNSKEY:
        return "the DNSKEY record is too short"
    flags = rdata[0] << 8 | rdata[1]
    if not flags & ZONE_FLAG:
        return "the zone key bit is not set"
    if rdata[2] != PROTOCOL:
        return f"protocol {rdata[2]} in place of {PROTOCOL}"
    if flags & REVOKE_FLAG and not revoked:
        return "the key is revoked"
    return None if rdata[3] in ALGORITHMS else f"algorithm {rdata[3]} is not supported"


def usable_keys(rdatas: Iterable[bytes], *, revoked: bool = False) -> list[ZoneKey]:
    """Return the keys of a DNSKEY set that may verify signatures; see `flaw`."""
    each = dict.fromkeys(rdatas)
    return [ZoneKey(rdata) for rdata in each if flaw(rdata, revoked=revoked) is None]


class Delegation(NamedTuple):
    """The DS records of a zone."""

    usable: tuple[bytes, ...]
    """Those with known algorithms and digests, without SHA-1 if there is another (RFC 4509 3)."""

    has_known_algorithm: bool
    """Whether one has a known algorithm, perhaps with an unknown digest."""

    @classmethod
    def of(cls, rdatas: Sequence[bytes]) -> Delegation:
        """Take the rdata of the records."""
        known = [it for it in rdatas if len(it) >= _MIN_DS and it[2] in ALGORITHMS]
        usable = [it for it in known if it[3] in _DIGESTS and len(it) == 4 + _size(it[3])]
        stronger = [it for it in usable if it[3] != _SHA1]
        return cls(tuple(dict.fromkeys(stronger or usable))[:MOST_DS], bool(known))


def _size(digest_type: int) -> int:
    return _DIGESTS[digest_type](usedforsecurity=False).digest_size


def matches(owner: bytes, delegations: Iterable[bytes], rdata: bytes) -> bool:
    """Whether a DNSKEY record is that of one of some usable DS records (RFC 4034 5.1.4)."""
    if len(rdata) < _MIN_DNSKEY:
        return False
    head = key_tag(rdata).to_bytes(2, "big") + rdata[3:4]
    fitting = (it for it in delegations if it[:3] == head)
    return any(
        _DIGESTS[it[3]](owner + rdata, usedforsecurity=False).digest() == it[4:] for it in fitting
    )


@lru_cache(maxsize=MOST_LOADED)
def _verifier(algorithm: int, public: bytes) -> Callable[[bytes, bytes], None]:
    """Return the function that checks a signature of data; raises ValueError for a bad key."""
    if algorithm in RSA_ALGORITHMS:
        return _rsa_verifier(algorithm, public)
    if algorithm in EC_ALGORITHMS:
        return _ecdsa_verifier(algorithm, public)
    if algorithm == ED25519:
        return Ed25519PublicKey.from_public_bytes(public).verify
    return Ed448PublicKey.from_public_bytes(public).verify


def _rsa_verifier(algorithm: int, public: bytes) -> Callable[[bytes, bytes], None]:
    """Read the exponent and the modulus (RFC 3110 section 2)."""
    at, size = (1, public[0]) if public[:1] != b"\0" else (3, int.from_bytes(public[1:3], "big"))
    exponent = int.from_bytes(public[at : at + size], "big")
    modulus = int.from_bytes(public[at + size :], "big")
    if exponent.bit_length() > _MOST_EXPONENT_BITS or modulus.bit_length() > MOST_RSA_BITS:
        raise ValueError("the numbers of the RSA key are too large")
    key, digest = rsa.RSAPublicNumbers(exponent, modulus).public_key(), RSA_ALGORITHMS[algorithm]
    return lambda signature, data: key.verify(signature, data, _PKCS1, digest.hash)


def _ecdsa_verifier(algorithm: int, public: bytes) -> Callable[[bytes, bytes], None]:
    known = EC_ALGORITHMS[algorithm]
    key = ec.EllipticCurvePublicKey.from_encoded_point(known.curve(), b"\4" + public)
    scheme, size = ec.ECDSA(known.hash), known.size

    def verify(signature: bytes, data: bytes) -> None:
        if len(signature) != 2 * size:
            raise ValueError("the signature has the wrong length")
        numbers = (int.from_bytes(it, "big") for it in (signature[:size], signature[size:]))
        key.verify(encode_dss_signature(*numbers), data, scheme)

    return verify
