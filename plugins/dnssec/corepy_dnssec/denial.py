"""Denies names and types that do not exist, without knowing the names of the zone.

*Black lies* are NSEC records of the name itself, which deny only the type (RFC 9824 has a later
form of them). *White lies* are NSEC3 records that cover one hash each (RFC 7129 appendix B).
"""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Final, Protocol

from corepy.dns import constants as c
from corepy.dns.names import MAX_LABEL, MAX_NAME
from corepy.dns.wire import AUTHORITY
from corepy.zone.denial import next_closer
from corepy.zone.type_bitmaps import type_bitmap
from corepy_dnssec.records import RecordSet

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_NAMES: Final = (
    "A HINFO MX TXT AAAA LOC SRV CERT SSHFP TLSA HIP OPENPGPKEY SPF RRSIG"
    " PTR RP AFSDB X25 ISDN RT PX GPOS NAPTR KX DNAME APL IPSECKEY DHCID SMIMEA NINFO RKEY TALINK"
    " SVCB HTTPS URI CAA AVC AMTRELAY RESINFO"
)
DATA_TYPES: Final = frozenset(c.TYPES[name] for name in _NAMES.split())
"""Types that a name may have as far as a denial is concerned.

A validator may use a denial for all types that it lacks (RFC 8198), so it lacks only the type that
was asked for, and those that would make the bitmap longer. CoreDNS's list has neither MX, PTR nor
the types after RRSIG. CNAME would make the denial of any other type invalid.
"""

_APEX_NAMES: Final = "NS SOA DNSKEY CDS CDNSKEY CSYNC"
APEX_TYPES: Final = DATA_TYPES | {c.TYPES[name] for name in _APEX_NAMES.split()}
"""Those of the origin of a zone; a denied CDS record would stop the change of a key (RFC 7344)."""

CUT_TYPES: Final = frozenset((c.TYPE_NS,))
"""Those of a delegation without DS records, which has no signatures."""

_CNAME: Final = frozenset((c.TYPE_CNAME,))
_DNAME: Final = frozenset((c.TYPE_DNAME,))
"""An ancestor of a denied name may be an alias, but nothing is below a DNAME (RFC 5155 8.3)."""

_HASH_HEAD: Final = bytes((1, 0, 0, 0, 0))
"""SHA-1, no flags, no iterations, no salt (RFC 9276 section 3.1)."""

_HASHES: Final = 1 << 160
_HASH_SIZE: Final = 20
_HASH_LABEL: Final = 33
"""Bytes of the first label of an NSEC3 record's name, with its length."""


class Denial(Protocol):
    """How names and types are denied."""

    denies_names: bool
    """Whether it proves NXDOMAIN; otherwise the reply becomes NOERROR without data."""

    longest_zone: int
    """Maximum bytes of a zone's name in wire form."""

    def no_data(
        self, name: bytes, zone: bytes, types: Iterable[int], ttl: int, *, is_cut: bool = False
    ) -> Iterator[RecordSet]:
        """Yield the proof that a name has only some types; all names are in lower case."""

    def no_name(self, name: bytes, zone: bytes, encloser: bytes, ttl: int) -> Iterator[RecordSet]:
        """Yield the proof that a name does not exist, whose closest encloser is `encloser`."""


class BlackLies:
    """Denial by NSEC records of the names themselves (CoreDNS: black_lies.go)."""

    denies_names = False
    longest_zone = MAX_NAME

    def no_data(
        self, name: bytes, zone: bytes, types: Iterable[int], ttl: int, *, is_cut: bool = False
    ) -> Iterator[RecordSet]:
        """See `Denial`. Below a cut there are no names of the zone, so the record covers them."""
        after = name_after_all_below(name, zone) if is_cut else name_after(name, zone)
        bitmap = type_bitmap((*types, c.TYPE_RRSIG, c.TYPE_NSEC))
        yield RecordSet(AUTHORITY, name, c.TYPE_NSEC, ttl, [after + bitmap])

    def no_name(self, name: bytes, zone: bytes, encloser: bytes, ttl: int) -> Iterator[RecordSet]:
        """See `Denial`; not called, since `denies_names` is False."""
        raise NotImplementedError("black lies deny only types")


def name_after(name: bytes, zone: bytes) -> bytes:
    r"""Return the first name after another one in canonical order: that with a label \000 before.

    A name that is too long has no such child; the result is the next name on the same level or
    above, or the zone after its last name.
    """
    return b"\1\0" + name if len(name) + 2 <= MAX_NAME else name_after_all_below(name, zone)


def name_after_all_below(name: bytes, zone: bytes) -> bytes:
    """Return the first name after another one and all names below it, in canonical order.

    RFC 4471 section 3.1.2 has the cases. The result is the zone if it has no such name.
    """
    while name != zone:
        label, rest = name[1 : 1 + name[0]], name[1 + name[0] :]
        if len(label) < MAX_LABEL and len(name) < MAX_NAME:
            return bytes((len(label) + 1,)) + label + b"\0" + rest
        label = label.rstrip(b"\xff")
        if label:
            last = label[-1] + 1
            if chr(last).isupper() and last < 0x80:
                last = ord("Z") + 1  # capital letters sort as small ones
            return bytes((len(label),)) + label[:-1] + bytes((last,)) + rest
        name = rest
    return zone


class WhiteLies:
    """Denial by NSEC3 records that cover or match one hash each (RFC 5155 section 7.2)."""

    denies_names = True
    longest_zone = MAX_NAME - _HASH_LABEL

    def no_data(
        self, name: bytes, zone: bytes, types: Iterable[int], ttl: int, *, is_cut: bool = False
    ) -> Iterator[RecordSet]:
        """See `Denial`."""
        yield _matching(name, zone, types, ttl)

    def no_name(self, name: bytes, zone: bytes, encloser: bytes, ttl: int) -> Iterator[RecordSet]:
        """See `Denial`: closest encloser, next closer name, wildcard (RFC 5155 section 7.2.2)."""
        types = APEX_TYPES - _DNAME if encloser == zone else DATA_TYPES - _DNAME | _CNAME
        yield _matching(encloser, zone, types, ttl)
        yield _covering(next_closer(name, encloser), zone, ttl)
        yield _covering(b"\1*" + encloser, zone, ttl)


def _hash(name: bytes) -> int:
    return int.from_bytes(hashlib.sha1(name, usedforsecurity=False).digest(), "big")


def _bytes(number: int) -> bytes:
    return (number % _HASHES).to_bytes(_HASH_SIZE, "big")


def _matching(name: bytes, zone: bytes, types: Iterable[int], ttl: int) -> RecordSet:
    number = _hash(name)
    return _nsec3(number, number + 1, zone, type_bitmap(types), ttl)


def _covering(name: bytes, zone: bytes, ttl: int) -> RecordSet:
    number = _hash(name)
    return _nsec3(number - 1, number + 1, zone, b"", ttl)


def _nsec3(first: int, after: int, zone: bytes, bitmap: bytes, ttl: int) -> RecordSet:
    """Return the record with these hashes (RFC 5155 section 3)."""
    label = base64.b32hexencode(_bytes(first)).lower()
    rdata = _HASH_HEAD + bytes((_HASH_SIZE,)) + _bytes(after) + bitmap
    return RecordSet(AUTHORITY, bytes((len(label),)) + label + zone, c.TYPE_NSEC3, ttl, [rdata])
