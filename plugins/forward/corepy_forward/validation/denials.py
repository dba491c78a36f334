"""Proofs by NSEC records that names and types do not exist (RFC 4035 section 5.4, RFC 6840 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from corepy.dns import constants as c
from corepy.dns.form_error import FormError
from corepy.dns.names import ROOT, is_subdomain, parent_offsets
from corepy.dns.wire import read_name
from corepy.zone.canonical import canonical_key
from corepy_forward.validation.verdicts import SECURE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from corepy_forward.validation.verdicts import Security

_TYPE_NXNAME: Final = 128
_WINDOW_HEAD: Final = 2


class Cut(NamedTuple):
    """The facts about a name that has no DS records."""

    is_insecure: bool
    """Whether an insecure zone may begin there."""
    exists: bool = True


class Denial(Protocol):
    """The verified denial records of one zone in one reply; None: they do not prove it."""

    def no_name(self, name: bytes) -> Security | None:
        """Whether a name, and a wildcard for it, are proven not to exist."""

    def no_data(self, name: bytes, rtype: int) -> Security | None:
        """Whether a name, or the wildcard for it, is proven to exist without a type."""

    def no_closer(self, name: bytes, encloser: bytes) -> Security | None:
        """Whether no name between a name and `encloser` exists, that a wildcard is below."""

    def no_ds(self, name: bytes) -> Cut | None:
        """Return the facts about a name without DS records."""


class Types:
    """The types in a bitmap (RFC 4034 section 4.1.2), which is read up to the type in question."""

    __slots__ = ("_bitmap",)

    def __init__(self, bitmap: bytes) -> None:
        self._bitmap = bitmap

    def __contains__(self, rtype: int) -> bool:
        window, bit = rtype >> 8, rtype & 0xFF
        bitmap, at = self._bitmap, 0
        while at + _WINDOW_HEAD <= len(bitmap):
            size = bitmap[at + 1]
            if bitmap[at] == window:
                byte = bitmap[at + 2 : at + 2 + size][bit >> 3 : (bit >> 3) + 1]
                return bool(byte and byte[0] & 0x80 >> (bit & 7))
            at += _WINDOW_HEAD + size
        return False

    @property
    def is_delegation(self) -> bool:
        """Whether the record is from the parent's side of a zone cut."""
        return c.TYPE_NS in self and c.TYPE_SOA not in self

    @property
    def hides_children(self) -> bool:
        """Whether the zone has no say about names below (RFC 6840 section 4.1)."""
        return self.is_delegation or c.TYPE_DNAME in self

    @property
    def has_no_name(self) -> bool:
        """Whether the record is for a name that exists only to be denied (RFC 9824)."""
        return _TYPE_NXNAME in self

    def lacks(self, rtype: int, *, is_root: bool = False) -> bool:
        """Whether the name has neither this type nor an alias, for this zone (RFC 6840 4.1, 4.3).

        The DS records of a zone are in its parent; the root has none.
        """
        if rtype in self or c.TYPE_CNAME in self:
            return False
        if rtype == c.TYPE_DS:
            return is_root or c.TYPE_SOA not in self
        return not self.is_delegation

    def cut(self) -> Cut | None:
        """Return the facts about a name with these types, if it has no DS records."""
        if c.TYPE_DS in self or c.TYPE_SOA in self:
            return None
        return Cut(c.TYPE_NS in self)


class NSEC:
    """One NSEC record."""

    __slots__ = ("key", "next", "next_key", "owner", "types")

    def __init__(self, owner: bytes, rdata: bytes) -> None:
        """Parse rdata; raises FormError."""
        following, end = read_name(rdata, 0)
        self.owner = owner
        self.key = canonical_key(owner)
        self.next = following.lower()
        self.next_key = canonical_key(self.next)
        self.types = Types(rdata[end:])

    def covers(self, name: bytes, key: bytes) -> bool:
        """Whether a name in the zone is between the owner and the next name.

        It is not proven by a record whose owner hides it.
        """
        if not self.key < key:
            return False
        if self.key < self.next_key and not key < self.next_key:
            return False
        return not (self.types.hides_children and is_subdomain(name, self.owner))


def _common(name: bytes, other: bytes) -> bytes:
    """Return the longest common ancestor of two names."""
    for offset in parent_offsets(name):
        if is_subdomain(other, name[offset:]):
            return name[offset:]
    raise AssertionError("all names are below the root")


class NSECDenial:
    """See `Denial`."""

    def __init__(self, zone: bytes, records: Iterable[tuple[bytes, bytes]]) -> None:
        """Take the owners and rdata of verified NSEC records of a zone; raises FormError."""
        self._zone = zone
        self._records = [NSEC(owner, rdata) for owner, rdata in records]
        if not all(is_subdomain(it.next, zone) for it in self._records):
            raise FormError("the next name of an NSEC record is outside the zone")

    def _matching(self, name: bytes) -> NSEC | None:
        return next((it for it in self._records if it.owner == name), None)

    def _covering(self, name: bytes) -> NSEC | None:
        """Return the record that proves that a name has no records."""
        key = canonical_key(name)
        return next((it for it in self._records if it.covers(name, key)), None)

    def _is_empty(self, name: bytes) -> bool:
        """Whether a name is proven to be an empty non-terminal."""
        covering = self._covering(name)
        return covering is not None and is_subdomain(covering.next, name)

    def _missing(self, name: bytes) -> bytes | None:
        """Return the closest encloser of a name that is proven not to exist."""
        if name == self._zone or not is_subdomain(name, self._zone):
            return None
        found = self._covering(name)
        if found is None or is_subdomain(found.next, name):  # else it is an empty non-terminal
            return None
        return max(_common(name, found.owner), _common(name, found.next), key=len)

    def no_name(self, name: bytes) -> Security | None:
        """See `Denial`; also a name that exists only for this purpose (RFC 9824)."""
        exact = self._matching(name)
        if exact is not None:
            return SECURE if exact.types.has_no_name else None
        encloser = self._missing(name)
        if encloser is None:
            return None
        # As an empty non-terminal, the wildcard would match the name.
        return SECURE if self._missing(b"\1*" + encloser) is not None else None

    def no_data(self, name: bytes, rtype: int) -> Security | None:
        """See `Denial`."""
        exact = self._matching(name)
        if exact is not None:
            return SECURE if exact.types.lacks(rtype, is_root=name == ROOT) else None
        if self._is_empty(name):
            return SECURE
        encloser = self._missing(name)
        if encloser is None:
            return None
        wildcard = b"\1*" + encloser
        at_wildcard = self._matching(wildcard)
        if at_wildcard is None:
            return SECURE if self._is_empty(wildcard) else None
        return SECURE if at_wildcard.types.lacks(rtype) else None

    def no_closer(self, name: bytes, encloser: bytes) -> Security | None:
        """See `Denial`."""
        return SECURE if self._missing(name) == encloser else None

    def no_ds(self, name: bytes) -> Cut | None:
        """See `Denial`."""
        exact = self._matching(name)
        if exact is not None:
            return exact.types.cut()
        return inside(self, name)


def inside(denial: Denial, name: bytes) -> Cut | None:
    """Return the facts about a name without a record of its own, where no zone begins."""
    if denial.no_name(name) is not None:
        return Cut(is_insecure=False, exists=False)
    return None if denial.no_data(name, c.TYPE_DS) is None else Cut(is_insecure=False)
