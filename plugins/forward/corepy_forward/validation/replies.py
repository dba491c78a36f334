"""Validates a reply: each set of its answer, or the proof that there is none.

RFC 4035 section 5.3 and 5.4. The answer may be a chain of aliases across zones of differing
security: the reply is secure if all its parts are, and bogus if one of them is.
"""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING, Final

from corepy.dns import constants as c
from corepy.dns.edns import EDE_NSEC_MISSING, EDE_RRSIGS_MISSING
from corepy.dns.form_error import FormError
from corepy.dns.names import MAX_NAME, is_subdomain, parent_offsets
from corepy.dns.wire import read_name
from corepy_forward.validation.checking import signers_of
from corepy_forward.validation.entries import Kind, require_zone
from corepy_forward.validation.proofs import Proofs, denying_zones
from corepy_forward.validation.verdicts import INSECURE, SECURE, Bogus, Security, shown, weakest

if TYPE_CHECKING:
    from corepy.dns import Request
    from corepy_forward.validation.chain import Chain
    from corepy_forward.validation.checking import Proven
    from corepy_forward.validation.entries import Entry
    from corepy_forward.validation.record_sets import Message, RecordSet
    from corepy_forward.validation.work import Work

MOST_ALIASES: Final = 16
"""Aliases that are followed; unbound follows 11, BIND 16."""


class Validated:
    """The result for a reply that is not bogus."""

    def __init__(self) -> None:
        self.verdict = SECURE
        self.rcode: int | None = None
        """The response code that is proven, if it is not that of the reply."""
        self.answer: dict[tuple[bytes, int], int] = {}
        """The sets of the answer section that answer the query, and their TTLs in seconds."""
        self.authority: dict[tuple[bytes, int], int] = {}
        """The verified sets of the authority section, likewise."""
        self.zones: set[bytes] = set()
        """The zones whose keys were used."""

    def weaken(self, verdict: Security) -> None:
        """Take the verdict about a part."""
        self.verdict = weakest((self.verdict, verdict))


class Validation:
    """Validates one reply."""

    def __init__(self, chain: Chain, request: Request, message: Message, work: Work) -> None:
        """Take the client's query and the reply to it."""
        self._chain = chain
        self._request = request
        self._message = message
        self._work = work
        self._now = time()
        self._proofs: dict[bytes, Proofs] = {}
        self._insecure: dict[bytes, Security] = {}
        self.result = Validated()

    async def run(self) -> Validated:
        """Return the result; raises Bogus."""
        name, qtype = self._request.name_wire, self._request.qtype
        for _ in range(MOST_ALIASES + 1):
            if await self._ends(name, qtype):
                return self.result
            name = await self._follow(name)
            if qtype == c.TYPE_CNAME:  # the answer is made from a DNAME record
                return self.result
        raise Bogus(f"the answer has more than {MOST_ALIASES} aliases")

    async def _ends(self, name: bytes, qtype: int) -> bool:
        """Validate the end of the chain of aliases; return False if `name` is an alias."""
        found = self._final_sets(name, qtype)
        if not found:
            if self._alias(name) is not None:
                return False
            await self._negative(name, qtype)
            return True
        if self._message.rcode != c.NOERROR:
            rcode = c.rcode_name(self._message.rcode)
            raise Bogus(f"the answer for {shown(name)} has records, but also {rcode}")
        for each in found:
            await self._positive(each)
        return True

    def _final_sets(self, name: bytes, qtype: int) -> list[RecordSet]:
        """Return the sets that answer a query for a name that is no alias."""
        if qtype == c.TYPE_ANY or qtype == c.TYPE_RRSIG:
            of_name = [it for (owner, _), it in self._message.answer.items() if owner == name]
            wanted = (it for it in of_name if qtype == c.TYPE_ANY or it.signatures)
            return [it for it in wanted if not self._is_synthesized(it)]
        found = self._message.answer_set(name, qtype)
        return [] if found is None or self._is_synthesized(found) else [found]

    def _is_synthesized(self, found: RecordSet) -> bool:
        """Whether a set is the CNAME record that a DNAME record implies (RFC 6672 5.3.1)."""
        if found.rtype != c.TYPE_CNAME or found.signatures:
            return False
        return self._redirection(found.owner) is not None

    def _alias(self, name: bytes) -> RecordSet | None:
        """Return the CNAME or DNAME set that applies to a name."""
        alias = self._message.answer_set(name, c.TYPE_CNAME)
        if alias is not None and not self._is_synthesized(alias):
            return alias
        return self._redirection(name)

    def _redirection(self, name: bytes) -> RecordSet | None:
        """Return the DNAME set of an ancestor."""
        for offset in parent_offsets(name)[1:]:
            found = self._message.answer_set(name[offset:], c.TYPE_DNAME)
            if found is not None:
                return found
        return None

    async def _follow(self, name: bytes) -> bytes:
        """Validate the alias of a name, and return its target."""
        alias = self._alias(name)
        assert alias is not None
        if len(alias.rdatas) != 1:
            raise Bogus(f"{shown(alias.owner)} has several {alias.title} records")
        await self._positive(alias)
        target = _target(alias)
        if alias.rtype == c.TYPE_CNAME:
            return target
        prefix = name[: len(name) - len(alias.owner)]
        if len(prefix) + len(target) > MAX_NAME:
            raise Bogus(f"the name that the DNAME of {shown(alias.owner)} makes is too long")
        made = prefix + target
        synthesized = self._message.answer_set(name, c.TYPE_CNAME)
        if synthesized is not None:
            if len(synthesized.rdatas) != 1 or _target(synthesized) != made:
                raise Bogus(f"the CNAME of {shown(name)} differs from the DNAME above it")
            key = alias.owner, alias.rtype
            self.result.answer[name, c.TYPE_CNAME] = self.result.answer.get(key, synthesized.ttl)
        elif self.result.verdict.is_secure:  # RFC 6672 section 3.1: clients need it
            raise Bogus(f"the CNAME of {shown(name)} that a DNAME makes is missing")
        return made

    async def _positive(self, found: RecordSet) -> None:
        """Validate a set of the answer section."""
        key = found.owner, found.rtype
        self.result.answer[key] = found.ttl
        if not found.rdatas or self._chain.anchors.is_negative(found.owner):
            self.result.weaken(INSECURE)  # signatures alone prove nothing
            return
        signer = await self._signer(found)
        if signer is None:
            return
        zone, entry = signer
        proven = await self._prove(found, zone, entry)
        self.result.answer[key] = proven.ttl
        if proven.is_expanded(found.owner):
            if found.rtype in (c.TYPE_DNAME, *_NOT_EXPANDED):
                raise Bogus(f"{found.title} of {shown(found.owner)} is made from a wildcard")
            proofs = await self._proofs_of(zone, entry)
            self.result.weaken(proofs.no_closer(found.owner, proven.encloser))

    async def _signer(self, found: RecordSet) -> tuple[bytes, Entry] | None:
        """Return the zone that has signed a set, None if that is insecure."""
        is_ds = found.rtype == c.TYPE_DS
        zones = [it for it in signers_of(found) if not (is_ds and it == found.owner)]
        zone = self._trusted_zone(_above_cut(found.owner, found.rtype), zones)
        if zone is None:
            text = f"{found.title} of {shown(found.owner)} has no signature"
            await self._unsigned(found.owner, found.rtype, text, EDE_RRSIGS_MISSING)
            return None
        return await self._secure_zone(zone, found)

    def _trusted_zone(self, name: bytes, zones: list[bytes]) -> bytes | None:
        """Return the first zone that is not above the trust anchor of a name."""
        anchor = self._chain.anchors.closest(name)
        if anchor is None:
            return zones[0] if zones else None
        return next((it for it in zones if is_subdomain(it, anchor.zone)), None)

    async def _secure_zone(
        self, zone: bytes, found: RecordSet | None
    ) -> tuple[bytes, Entry] | None:
        """Return the facts about the signer of a set, or of a denial; None if it is insecure.

        Raises Bogus if no zone begins there.
        """
        entry = await self._chain.entry(zone, self._request, self._work)
        if entry.kind is Kind.INSECURE:
            self.result.weaken(entry.verdict)
            return None
        require_zone(zone, entry, found)
        self.result.zones.add(zone)
        return zone, entry

    async def _prove(self, found: RecordSet, zone: bytes, entry: Entry) -> Proven:
        checker = self._chain.checker
        return await checker.prove(found, zone, entry.keys, self._now, self._work)

    async def _unsigned(self, name: bytes, rtype: int, text: str, ede: int) -> None:
        """Accept data without signatures if it is insecure; raises Bogus else."""
        above = _above_cut(name, rtype)
        verdict = self._insecure.get(above)
        if verdict is None:
            require = self._chain.require_insecure
            verdict = await require(above, self._request, self._work, text, ede)
            self._insecure[above] = verdict
        self.result.weaken(verdict)

    async def _proofs_of(self, zone: bytes, entry: Entry) -> Proofs:
        proofs = self._proofs.get(zone)
        if proofs is None:
            checker = self._chain.checker
            proofs = self._proofs[zone] = await Proofs.read(
                self._message, zone, entry.keys, checker, self._now, self._work
            )
            for key, proven in proofs.sets.items():
                self.result.authority[key] = proven.ttl
        return proofs

    async def _negative(self, name: bytes, qtype: int) -> None:
        """Validate that a name does not exist, or has no records of a type."""
        if self._chain.anchors.is_negative(name):
            self.result.weaken(INSECURE)
            return
        fitting = [
            it
            for it in denying_zones(self._message)
            if is_subdomain(name, it) and not (qtype == c.TYPE_DS and it == name and len(it) > 1)
        ]
        zone = self._trusted_zone(_above_cut(name, qtype), fitting)
        if zone is None:
            text = f"the denial of {c.type_name(qtype)} of {shown(name)} has no signature"
            await self._unsigned(name, qtype, text, EDE_NSEC_MISSING)
            return
        signer = await self._secure_zone(zone, None)
        if signer is None:
            return
        proofs = await self._proofs_of(*signer)
        try:
            self.result.weaken(self._absence(proofs, name, qtype))
        except Bogus as problem:
            # The records may be for a wildcard alias to a name in an unsigned zone below.
            await self._unsigned(name, qtype, problem.text, problem.ede)
        else:
            await self._verify_soa(*signer)

    def _absence(self, proofs: Proofs, name: bytes, qtype: int) -> Security:
        """Return the verdict about a denial.

        Some servers answer NXDOMAIN for an empty non-terminal. Then the reply that their records
        prove is NODATA; unbound sends that as well. The opposite is corrected, too: otherwise a
        forger could turn one into the other.
        """

        def prove(*, is_absent: bool) -> Security:
            return proofs.no_name(name) if is_absent else proofs.no_data(name, qtype)

        is_absent = self._message.rcode == c.NXDOMAIN
        try:
            return prove(is_absent=is_absent)
        except Bogus as problem:
            try:
                verdict = prove(is_absent=not is_absent)
            except Bogus:
                raise problem from None
        self.result.rcode = c.NOERROR if is_absent else c.NXDOMAIN
        return verdict

    async def _verify_soa(self, zone: bytes, entry: Entry) -> None:
        """Verify the SOA record, which limits the TTL of a denial (RFC 2308 section 5)."""
        soa = self._message.authority.get((zone, c.TYPE_SOA))
        if soa is not None and soa.rdatas:
            proven = await self._prove(soa, zone, entry)
            self.result.authority[zone, c.TYPE_SOA] = proven.ttl


_NOT_EXPANDED: Final = (c.TYPE_NSEC, c.TYPE_NSEC3)


def _above_cut(name: bytes, rtype: int) -> bytes:
    """Return a name in the zone that has the records: DS records are in the parent zone."""
    return name[name[0] + 1 :] if rtype == c.TYPE_DS and len(name) > 1 else name


def _target(alias: RecordSet) -> bytes:
    try:
        return read_name(alias.rdatas[0], 0)[0].lower()
    except FormError as error:
        raise Bogus(f"{alias.title} of {shown(alias.owner)} is malformed: {error}") from None


async def validate(chain: Chain, request: Request, message: Message, work: Work) -> Validated:
    """Return the result for the reply to a client's query.

    Raises Bogus; then keys that are not new are fetched again, for the next attempt.
    """
    validation = Validation(chain, request, message, work)
    try:
        return await validation.run()
    except Bogus:
        for zone in validation.result.zones:
            chain.renew(zone)
        raise
