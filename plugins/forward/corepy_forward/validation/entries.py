"""The facts about one name that the chain of trust is made of."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

from corepy.dns.edns import (
    EDE_DNSKEY_MISSING,
    EDE_NO_ZONE_KEY_BIT_SET,
    EDE_UNSUPPORTED_DNSKEY_ALGORITHM,
    EDE_UNSUPPORTED_DS_DIGEST_TYPE,
)
from corepy_forward.validation.public_keys import ZoneKey, flaw
from corepy_forward.validation.verdicts import INSECURE, Bogus, Security, shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from corepy_forward.validation.public_keys import Delegation
    from corepy_forward.validation.record_sets import RecordSet

MOST_DNSKEYS: Final = 64
"""Keys of a zone; zones have two to six."""

_MOST_KEYS: Final = 8
"""Keys that match the DS records or the anchor, and are tried for the DNSKEY set."""

_ZONE_BIT: Final = 0x01
"""The zone key bit in the first byte of a DNSKEY record."""


class Kind(Enum):
    """The facts about a name."""

    SECURE = "a secure zone begins there"
    INSECURE = "it is in an insecure zone"
    INSIDE = "no zone begins there"
    ABSENT = "it does not exist"


class Entry(NamedTuple):
    """The facts about a name, for the cache."""

    kind: Kind
    ttl: float
    """Seconds for which they are valid."""
    keys: tuple[ZoneKey, ...] = ()
    verdict: Security = INSECURE


def require_zone(zone: bytes, entry: Entry, found: RecordSet | None) -> None:
    """Raise Bogus unless a signer is a secure zone; `found` is its set, None for a denial."""
    if entry.kind is not Kind.SECURE:
        title = "the denial" if found is None else f"{found.title} of {shown(found.owner)}"
        raise Bogus(f"{title} is signed by {shown(zone)}, where no zone begins")


def trusted_keys(
    zone: bytes, found: RecordSet, is_trusted: Callable[[bytes], bool]
) -> tuple[ZoneKey, ...]:
    """Return the usable keys of a DNSKEY set that are trusted; raises Bogus without any."""
    if len(found.rdatas) > MOST_DNSKEYS:
        raise Bogus(f"{shown(zone)} has more than {MOST_DNSKEYS} DNSKEY records")
    matching = [it for it in dict.fromkeys(found.rdatas) if is_trusted(it)][:_MOST_KEYS]
    if not matching:
        raise Bogus(
            f"no DNSKEY of {shown(zone)} matches the DS or trust anchor", EDE_DNSKEY_MISSING
        )
    flaws = [flaw(it) for it in matching]
    keys = tuple(ZoneKey(it) for it, why in zip(matching, flaws, strict=True) if why is None)
    if not keys:
        has_no_bit = not any(it[0] & _ZONE_BIT for it in matching)
        ede = EDE_NO_ZONE_KEY_BIT_SET if has_no_bit else EDE_DNSKEY_MISSING
        raise Bogus(f"the DNSKEY of {shown(zone)} is not usable: {flaws[0]}", ede)
    return keys


def unsupported(zone: bytes, delegation: Delegation) -> Security:
    """Return the verdict about a zone without DS records that can be used (RFC 4035 5.2)."""
    if delegation.has_known_algorithm:
        text = f"no digest type of the DS of {shown(zone)} is supported"
        return Security(False, EDE_UNSUPPORTED_DS_DIGEST_TYPE, text)
    text = f"no algorithm of the DS of {shown(zone)} is supported"
    return Security(False, EDE_UNSUPPORTED_DNSKEY_ALGORITHM, text)
