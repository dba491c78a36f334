"""`Anchor`: the keys that validation of a zone begins with, and how a key is named."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final, NamedTuple

from corepy.dns.names import ROOT, parent_offsets, to_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ZONE_FLAG: Final = 0x0100
REVOKE_FLAG: Final = 0x0080
SEP_FLAG: Final = 0x0001
"""Flags of a DNSKEY record: RFC 4034 section 2.1.1, RFC 5011 section 7."""

DIGESTS: Final = {1: hashlib.sha1, 2: hashlib.sha256, 4: hashlib.sha384}
"""Hash functions of DS records by digest type (RFC 4034, RFC 4509, RFC 6605)."""

BUILT_IN: Final = tuple(
    bytes.fromhex(rdata)
    for rdata in (
        "4f660802e06d44b80b8f1d39a95c0b0d7c65d08458e880409bbc683457104237c7f8ec8d",
        "97280802683d2d0acb8c9b712a1948b27f741219298d0a450d612c483af444a4c0fb2b16",
    )
)
"""DS records of the root's keys 20326 (KSK-2017) and 38696 (KSK-2024).

Source: https://data.iana.org/root-anchors/root-anchors.xml. Compared with the copies in unbound
(smallapp/unbound-anchor.c), Knot Resolver (etc/root.keys) and Debian (dns-root-data).
"""


class Anchor(NamedTuple):
    """The trust anchors of one zone.

    Both tuples are empty while no anchor of the zone is valid: all names below it are bogus then.
    """

    zone: bytes
    """In wire form and lower case."""

    ds: tuple[bytes, ...] = ()
    """The rdata of DS records: a DNSKEY record that matches one of them is trusted."""

    dnskeys: tuple[bytes, ...] = ()
    """The rdata of DNSKEY records."""


class Period(NamedTuple):
    """The time for which an anchor is valid, in seconds since 1970."""

    begins: float = float("-inf")
    ends: float = float("inf")


ALWAYS: Final = Period()


class Configured(NamedTuple):
    """One configured trust anchor: a DS or a DNSKEY record of a zone."""

    zone: bytes
    rdata: bytes
    is_ds: bool
    period: Period = ALWAYS

    @property
    def identity(self) -> bytes:
        """The anchor as a DS record, which names it in the state file."""
        return self.rdata if self.is_ds else ds_of(self.zone, self.rdata)

    @property
    def algorithm(self) -> int:
        """The number of the key's algorithm."""
        return self.rdata[2 if self.is_ds else 3]

    def matches(self, key: bytes) -> bool:
        """Return whether a DNSKEY record of the zone is the key of this anchor."""
        return matches(self.zone, self.rdata, key) if self.is_ds else key == self.rdata

    @property
    def name(self) -> str:
        """The zone and the key tag, for messages."""
        tag = int.from_bytes(self.rdata[:2], "big") if self.is_ds else key_tag(self.rdata)
        return f"{to_text(self.zone)} {tag}"


ROOT_ANCHORS: Final = tuple(Configured(ROOT, rdata, True) for rdata in BUILT_IN)


class NegativeAnchor(NamedTuple):
    """A zone whose names are not validated (RFC 7646)."""

    zone: bytes
    """In wire form and lower case."""

    until: float = float("inf")
    """The time from which it has no effect, in seconds since 1970."""


class SeenKeys(NamedTuple):
    """A DNSKEY set that was received from an upstream."""

    keys: tuple[bytes, ...]
    """The rdata of its records."""

    signers: frozenset[bytes]
    """The rdata of the keys in the set whose signature of the set was verified.

    A revoked key is among them if it has signed its own revocation (RFC 5011 section 2.1).
    """

    ttl: int
    """The original TTL in a verified signature."""

    expires: int
    """The end of that signature's validity, in seconds since 1970."""


def flags_of(key: bytes) -> int:
    """Return the flags of a DNSKEY record."""
    return key[0] << 8 | key[1]


def key_tag(rdata: bytes) -> int:
    """Return the key tag of a DNSKEY record (RFC 4034 appendix B)."""
    total = sum(rdata[::2]) * 256 + sum(rdata[1::2])
    total += total >> 16 & 0xFFFF
    return total & 0xFFFF


def ds_of(zone: bytes, key: bytes, digest_type: int = 2) -> bytes:
    """Return the DS record of a DNSKEY record (RFC 4034 section 5.1.4)."""
    digest = DIGESTS[digest_type](zone + key).digest()
    return key_tag(key).to_bytes(2, "big") + bytes((key[3], digest_type)) + digest


def matches(zone: bytes, ds: bytes, key: bytes) -> bool:
    """Return whether a DS record is that of a DNSKEY record; False for an unknown digest type."""
    return ds[3] in DIGESTS and ds == ds_of(zone, key, ds[3])


def without_revocation(key: bytes) -> bytes:
    """Return a DNSKEY record as it was before its key was revoked."""
    return key[:1] + bytes((key[1] & ~REVOKE_FLAG & 0xFF,)) + key[2:]


def deepest(anchors: Mapping[bytes, Anchor], name: bytes) -> bytes | None:
    """Return the zone of the deepest anchor at or above a name; None if there is none."""
    for offset in parent_offsets(name):
        if name[offset:] in anchors:
            return name[offset:]
    return None


def zones_of(anchors: Iterable[Configured]) -> dict[bytes, list[Configured]]:
    """Return anchors by zone."""
    found: dict[bytes, list[Configured]] = {}
    for anchor in anchors:
        found.setdefault(anchor.zone, []).append(anchor)
    return found
