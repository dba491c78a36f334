"""The denial records in the authority section of a reply, verified for one zone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corepy.dns import constants as c
from corepy.dns.edns import EDE_NSEC_MISSING
from corepy.dns.form_error import FormError
from corepy_forward.validation.checking import signers_of
from corepy_forward.validation.denials import NSECDenial
from corepy_forward.validation.hashed_denials import NSEC3Denial
from corepy_forward.validation.verdicts import Bogus, Security, shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from corepy_forward.validation.checking import Checker, Proven
    from corepy_forward.validation.denials import Cut, Denial
    from corepy_forward.validation.public_keys import ZoneKey
    from corepy_forward.validation.record_sets import Message, RecordSet
    from corepy_forward.validation.work import Work

DENIALS: Final = (c.TYPE_NSEC, c.TYPE_NSEC3)
_MOST_OF_ONE_NAME: Final = 4
"""Denial records of one name: one, or one for each of several parameters of NSEC3."""

MOST_SETS: Final = 12
"""Sets of denial records of one zone that are verified; a proof takes at most four."""


class Proofs:
    """Proofs by NSEC and NSEC3 records of one zone.

    The methods return a verdict, or raise Bogus if the records do not prove it.
    """

    def __init__(self, zone: bytes) -> None:
        self.zone = zone
        self.sets: dict[tuple[bytes, int], Proven] = {}
        """The verified sets of the authority section."""
        self._denials: list[Denial] = []
        self._costly: Security | None = None

    @classmethod
    async def read(
        cls,
        message: Message,
        zone: bytes,
        keys: tuple[ZoneKey, ...],
        checker: Checker,
        now: float,
        work: Work,
    ) -> Proofs:
        """Verify the denial records that a zone has signed; raises Bogus for an invalid one."""
        proofs = cls(zone)
        records: dict[int, list[tuple[bytes, bytes]]] = {rtype: [] for rtype in DENIALS}
        for found in _sets(message, zone):
            proven = await checker.prove(found, zone, keys, now, work)
            if proven.is_expanded(found.owner):
                continue  # the record of a wildcard, repeated for another name
            proofs.sets[found.owner, found.rtype] = proven
            records[found.rtype] += [(found.owner, it) for it in found.rdatas[:_MOST_OF_ONE_NAME]]
        try:
            proofs._use(records, work)
        except FormError as error:
            raise Bogus(f"a denial record of {shown(zone)} is malformed: {error}") from None
        return proofs

    def _use(self, records: dict[int, list[tuple[bytes, bytes]]], work: Work) -> None:
        if records[c.TYPE_NSEC]:
            self._denials.append(NSECDenial(self.zone, records[c.TYPE_NSEC]))
        if records[c.TYPE_NSEC3]:
            hashed = NSEC3Denial(self.zone, records[c.TYPE_NSEC3], work.count_hash)
            self._costly = hashed.is_too_costly
            if self._costly is None:
                self._denials.append(hashed)

    def _proven(self, prove: Callable[[Denial], Security | None], claim: str) -> Security:
        for denial in self._denials:
            verdict = prove(denial)
            if verdict is not None:
                return verdict
        if self._costly is not None:
            return self._costly
        raise self._unproven(claim)

    def _unproven(self, claim: str) -> Bogus:
        if not self._denials:
            text = f"no NSEC or NSEC3 record of {shown(self.zone)} proves that {claim}"
            return Bogus(text, EDE_NSEC_MISSING)
        text = f"the denial records of {shown(self.zone)} do not prove that {claim}"
        return Bogus(text, EDE_NSEC_MISSING)

    def no_name(self, name: bytes) -> Security:
        """Prove NXDOMAIN."""
        return self._proven(lambda it: it.no_name(name), f"{shown(name)} does not exist")

    def no_data(self, name: bytes, rtype: int) -> Security:
        """Prove that a name exists without records of a type."""
        return self._proven(
            lambda it: it.no_data(name, rtype), f"{shown(name)} has no {c.type_name(rtype)}"
        )

    def no_closer(self, name: bytes, encloser: bytes) -> Security:
        """Prove that a wildcard below `encloser` is the closest match of a name."""
        claim = f"no name is closer to {shown(name)} than the wildcard"
        return self._proven(lambda it: it.no_closer(name, encloser), claim)

    def no_ds(self, name: bytes) -> Cut | Security:
        """Prove that a name has no DS records; the result is a `Security` if it is too costly."""
        for denial in self._denials:
            cut = denial.no_ds(name)
            if cut is not None:
                return cut
        if self._costly is not None:
            return self._costly
        raise self._unproven(f"{shown(name)} has no DS")


def _sets(message: Message, zone: bytes) -> list[RecordSet]:
    """Return the denial sets of a zone."""
    found = [
        it
        for it in message.authority.values()
        if it.rtype in DENIALS and it.rdatas and zone in signers_of(it)
    ]
    return found[:MOST_SETS]


def denying_zones(message: Message) -> list[bytes]:
    """Return the zones that have signed the negative part of a reply, the deepest first."""
    found = {
        zone
        for it in message.authority.values()
        if it.rtype in (c.TYPE_SOA, *DENIALS) and it.rdatas
        for zone in signers_of(it)
    }
    return sorted(found, key=len, reverse=True)
