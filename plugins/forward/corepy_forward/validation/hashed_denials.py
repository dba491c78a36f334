"""Proofs by NSEC3 records that names and types do not exist (RFC 5155 section 8)."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Final, NamedTuple

from corepy.dns.form_error import FormError
from corepy.dns.names import ROOT, is_subdomain, parent_offsets
from corepy.zone.denial import NSEC3Parameters, next_closer
from corepy_forward.validation.denials import Cut, Types, inside
from corepy_forward.validation.verdicts import (
    EDE_UNSUPPORTED_NSEC3_ITERATIONS,
    INSECURE,
    SECURE,
    Security,
    shown,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MOST_ITERATIONS: Final = 50
"""More make a zone insecure (RFC 9276 section 3.2); BIND and Knot Resolver have this limit, too."""

_OPT_OUT: Final = 1
_FIXED: Final = 5
_TO_LABEL: Final = bytes.maketrans(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", b"0123456789abcdefghijklmnopqrstuv"
)


class NSEC3(NamedTuple):
    """One NSEC3 record; hashes are labels in lower case, whose order is that of the hashes."""

    hash: bytes
    next: bytes
    is_opt_out: bool
    types: Types
    parameters: NSEC3Parameters

    @classmethod
    def read(cls, owner: bytes, rdata: bytes) -> NSEC3 | None:
        """Parse rdata; None for an unknown algorithm or flag (RFC 5155 8.1, 8.2).

        Raises FormError.
        """
        parameters = NSEC3Parameters.from_rdata(rdata)
        if parameters is None or rdata[1] & ~_OPT_OUT:
            return None
        at = _FIXED + rdata[4]
        following = rdata[at + 1 : at + 1 + (rdata[at] if at < len(rdata) else 0)]
        if not following or len(following) != rdata[at]:
            raise FormError("an NSEC3 record is cut off")
        label = base64.b32encode(following).translate(_TO_LABEL).rstrip(b"=")
        types = Types(rdata[at + 1 + len(following) :])
        return cls(owner[1 : 1 + owner[0]], label, bool(rdata[1] & _OPT_OUT), types, parameters)

    def covers(self, digest: bytes) -> bool:
        """Whether a hash is between this record's and the next one, which may be the first."""
        if self.hash < self.next:
            return self.hash < digest < self.next
        return digest > self.hash or digest < self.next


class _Encloser(NamedTuple):
    """The closest encloser of a name that does not exist (RFC 5155 section 8.3)."""

    name: bytes
    covering: NSEC3
    """The record that covers the next closer name."""

    @property
    def security(self) -> Security:
        """With opt-out, an insecure delegation may exist there (RFC 5155 section 9.2)."""
        return INSECURE if self.covering.is_opt_out else SECURE


class NSEC3Denial:
    """See `denials.Denial`."""

    def __init__(
        self, zone: bytes, records: Iterable[tuple[bytes, bytes]], count_hash: Callable[[], None]
    ) -> None:
        """Take the owners and rdata of verified records; raises FormError.

        Records whose parameters differ from those of the first one are ignored. `count_hash` is
        called for each hash that is computed.
        """
        self._zone = zone
        self._count_hash = count_hash
        known = [NSEC3.read(*it) for it in records if it[0][1 + it[0][0] :] == zone]
        usable = [it for it in known if it is not None]
        self._parameters = usable[0].parameters if usable else NSEC3Parameters(0, b"")
        self._records = [it for it in usable if it.parameters == self._parameters]
        self._hashes: dict[bytes, bytes] = {}

    @property
    def is_too_costly(self) -> Security | None:
        """The verdict about the zone if its names have too many hash iterations."""
        count = self._parameters.iterations
        if count <= MOST_ITERATIONS:
            return None
        text = f"NSEC3 of {shown(self._zone)} has {count} iterations, more than {MOST_ITERATIONS}"
        return Security(False, EDE_UNSUPPORTED_NSEC3_ITERATIONS, text)

    def _hash(self, name: bytes) -> bytes:
        known = self._hashes.get(name)
        if known is None:
            self._count_hash()
            known = self._hashes[name] = self._parameters.hash(name)
        return known

    def _matching(self, name: bytes) -> NSEC3 | None:
        if not self._records:
            return None
        digest = self._hash(name)
        return next((it for it in self._records if it.hash == digest), None)

    def _covering(self, name: bytes) -> NSEC3 | None:
        if not self._records:
            return None
        digest = self._hash(name)
        return next((it for it in self._records if it.covers(digest)), None)

    def _encloser(self, name: bytes) -> _Encloser | None:
        """Return the closest encloser of a name that has no record (RFC 5155 section 8.3)."""
        if not is_subdomain(name, self._zone):
            return None
        last = len(name) - len(self._zone)
        for offset in parent_offsets(name)[1:]:
            if offset > last:
                break
            ancestor = name[offset:]
            found = self._matching(ancestor)
            if found is None:
                continue
            if found.types.hides_children:
                return None
            covering = self._covering(next_closer(name, ancestor))
            return None if covering is None else _Encloser(ancestor, covering)
        return None

    def no_name(self, name: bytes) -> Security | None:
        """See `Denial` (RFC 5155 section 8.4); also RFC 9824, as for NSEC."""
        exact = self._matching(name)
        if exact is not None:
            return SECURE if exact.types.has_no_name else None
        encloser = self._encloser(name)
        if encloser is None or self._covering(b"\1*" + encloser.name) is None:
            return None
        return encloser.security

    def no_data(self, name: bytes, rtype: int) -> Security | None:
        """See `Denial` (RFC 5155 sections 8.5 to 8.7)."""
        exact = self._matching(name)
        if exact is not None:
            return SECURE if exact.types.lacks(rtype, is_root=name == ROOT) else None
        encloser = self._encloser(name)
        if encloser is None:
            return None
        if encloser.covering.is_opt_out:
            return INSECURE
        wildcard = b"\1*" + encloser.name
        at_wildcard = self._matching(wildcard)
        return SECURE if at_wildcard is not None and at_wildcard.types.lacks(rtype) else None

    def no_closer(self, name: bytes, encloser: bytes) -> Security | None:
        """See `Denial` (RFC 5155 section 8.8)."""
        covering = self._covering(next_closer(name, encloser))
        if covering is None:
            return None
        return INSECURE if covering.is_opt_out else SECURE

    def no_ds(self, name: bytes) -> Cut | None:
        """See `Denial` (RFC 5155 section 8.9)."""
        exact = self._matching(name)
        if exact is not None:
            return exact.types.cut()
        encloser = self._encloser(name)
        if encloser is None:
            return None
        if encloser.covering.is_opt_out:
            return Cut(is_insecure=True)
        return inside(self, name)
