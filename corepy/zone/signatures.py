"""Makes RRSIG records (RFC 4034 section 3)."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

from corepy.dns import constants as c
from corepy.dns.rdata import LAYOUTS, split

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from corepy.zone.signing_keys import SigningKey

_KEEP_CASE: Final = frozenset((c.TYPE_NSEC, c.TYPE_SVCB, c.TYPE_HTTPS, c.TYPE_TSIG))
_LOWERED: Final = frozenset(
    rtype for rtype, layout in LAYOUTS.items() if layout.names and rtype not in _KEEP_CASE
)
"""Types whose names are lower case in the canonical form (RFC 4034 6.2, RFC 6840 section 5.1)."""

_TIME: Final = 0xFFFFFFFF
"""Times are modulo 2 ** 32 (RFC 4034 section 3.1.5)."""

_WILDCARD: Final = b"\1*"
_pack_head: Final = Struct("!HBBIIIH").pack
_pack_fixed: Final = Struct("!HHI").pack


class Validity(NamedTuple):
    """The period in which a signature is valid, in seconds since 1970."""

    inception: int
    expiration: int


class SignedData(NamedTuple):
    """A record set as it is signed: all that is signed except the RRSIG record itself."""

    rtype: int
    labels: int
    ttl: int
    """The original TTL in seconds."""
    records: bytes
    """The records in canonical form and order, each once (RFC 4034 section 6)."""


def signed_data(owner: bytes, rtype: int, ttl: int, rdatas: Iterable[bytes]) -> SignedData:
    """Return what is signed of a set; the owner is in wire form, and `ttl` the original TTL.

    Raises FormError for rdata with capital letters that is malformed for its type.
    """
    owner = owner.lower()
    if rtype in _LOWERED:
        rdatas = [it if it == it.lower() else _lowered(it, rtype) for it in rdatas]
    head = owner + _pack_fixed(rtype, c.CLASS_IN, ttl)
    joined = [head + len(it).to_bytes(2, "big") + it for it in sorted(set(rdatas))]
    return SignedData(rtype, _labels(owner), ttl, b"".join(joined))


def _labels(owner: bytes) -> int:
    """Return the number of labels without the root's and that of a wildcard."""
    number, at = -1 if owner.startswith(_WILDCARD) else 0, 0
    while size := owner[at]:
        number += 1
        at += size + 1
    return number


def _lowered(rdata: bytes, rtype: int) -> bytes:
    """Return rdata with its names in lower case."""
    prefix, names, tail, _ = split(rdata, rtype, 0, len(rdata))
    return b"".join((prefix, *(name.lower() for name in names), tail))


def signatures(
    data: SignedData, keys: Sequence[SigningKey], signer: bytes, validity: Validity
) -> tuple[bytes, ...]:
    """Return the rdata of the RRSIG records by some keys; `signer` is the zone, in lower case."""
    return tuple(_signature(data, key, signer, validity) for key in keys)


def _signature(data: SignedData, key: SigningKey, signer: bytes, validity: Validity) -> bytes:
    rtype, labels, ttl, records = data
    inception, expiration = validity[0] & _TIME, validity[1] & _TIME
    head = _pack_head(rtype, key.algorithm, labels, ttl, expiration, inception, key.tag) + signer
    return head + key.sign(head + records)
