"""Adds to a reply the records that prove what is not there, and the DS records of a delegation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from corepy.dns import Reply
from corepy.dns import constants as c
from corepy.dns.names import MAX_NAME, is_subdomain, parent_offsets
from corepy.dns.wire import ANSWER, AUTHORITY
from corepy_dnssec.denial import APEX_TYPES, CUT_TYPES, DATA_TYPES
from corepy_dnssec.records import RecordSet, ReplyRecords, is_signable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from corepy.dns import Request
    from corepy.plugin import Handler
    from corepy_dnssec.denial import Denial

TTL_WITHOUT_SOA: Final = 30
"""Seconds: the TTL of the SOA record that is made for a zone without one, and of its denials."""

_MINIMUM_SIZE: Final = 4
_SOA_NUMBERS: Final = (1, 7200, 1800, 86400, TTL_WITHOUT_SOA)
"""Serial, refresh, retry, expire, minimum; all but serial and minimum are those of *kubernetes*."""

_OF_EACH_NAME: Final = frozenset((c.TYPE_NSEC, c.TYPE_RRSIG))
"""Types that each name with an NSEC record has (RFC 4035 section 2.3)."""


class Zones(Protocol):
    """The zones that are signed."""

    denial: Denial

    def signer_zone(self, name: bytes, rtype: int) -> bytes | None:
        """Return the zone that signs records of a name, in lower case, or None."""


class Unproven(Exception):
    """The handlers below could not answer a query on which a proof depends."""

    def __init__(self, reply: Reply) -> None:
        super().__init__("no proof: a query for it has failed")
        self.is_momentary = reply.is_momentary or reply.is_dropped


class Prover:
    """Finds out what one reply has to prove."""

    def __init__(
        self, zones: Zones, below: Handler, request: Request, records: ReplyRecords
    ) -> None:
        """`below` is the handler that has answered, with `records`. Raises FormError."""
        self.records = records
        self._zones = zones
        self._below = below
        self._request = request
        self._deadlines: list[float | None] = []
        self._zone: bytes | None = None
        self._name = records.target(request.name_wire)
        """The name whose records are missing, if any are."""
        self._is_denied = False
        self._is_name_denied = False
        self._lacks_ds = False
        self._classify()

    def _classify(self) -> None:
        records, request = self.records, self._request
        if self._has_answer():
            return
        cut = records.cut = self._delegation()
        if records.has_proofs:  # of a signed zone below
            return
        zone = self._zone = self._zones.signer_zone(self._name, request.qtype)
        if cut is not None:
            self._zone = self._zones.signer_zone(cut, c.TYPE_DS)
            self._lacks_ds = records.find(AUTHORITY, cut, c.TYPE_DS) is None
            return
        if zone is None:
            return
        has_soa = records.of_type(AUTHORITY, c.TYPE_SOA) is not None
        # Without a SOA, an alias without records of its target may only be incomplete.
        is_empty = not records.sections[0] and not self._refers_above(zone)
        self._is_denied = has_soa or records.rcode == c.NXDOMAIN or is_empty
        is_unknown = records.rcode == c.NXDOMAIN and self._name != zone
        self._is_name_denied = is_unknown and self._zones.denial.denies_names

    def _has_answer(self) -> bool:
        qtype, name = self._request.qtype, self._name
        if qtype == c.TYPE_ANY:
            return any(it.name == name for it in self.records.in_section(ANSWER))
        return self.records.find(ANSWER, name, qtype) is not None

    def _refers_above(self, zone: bytes) -> bool:
        """Return whether the reply refers to a zone above: its server does not have this zone."""
        found = self.records.of_type(AUTHORITY, c.TYPE_NS)
        return found is not None and found.name != zone and is_subdomain(zone, found.name)

    def _delegation(self) -> bytes | None:
        """Return the zone cut that the reply refers to, or None."""
        found = self.records.of_type(AUTHORITY, c.TYPE_NS)
        if found is None:
            return None
        cut = found.name
        zone = self._zones.signer_zone(cut, c.TYPE_NS)
        is_cut = zone is not None and cut != zone and is_subdomain(self._name, cut)
        return cut if is_cut else None

    @property
    def needs_queries(self) -> bool:
        """Whether `add_proofs_with_queries` is needed."""
        if self._lacks_ds or self._is_name_denied:
            return True
        return self._is_denied and self._request.qtype == c.TYPE_DS and self._name != self._zone

    def add_proofs(self) -> None:
        """Add the proofs of a reply that needs no queries."""
        if self._is_denied:
            self._deny_type(is_cut=False)

    async def add_proofs_with_queries(self) -> float | None:
        """Add the proofs; return the earliest deadline of the replies used, None if one has none.

        Raises FormError, and Unproven.
        """
        if self._lacks_ds:
            await self._add_ds()
        elif self._is_name_denied:
            encloser = await self._closest_encloser()
            if encloser == self._name:
                self._deny_type(is_cut=False)
            else:
                self._deny_name(encloser)
        else:
            self._deny_type(is_cut=await self._is_cut())
        deadlines = [it for it in self._deadlines if it is not None]
        return min(deadlines) if deadlines and len(deadlines) == len(self._deadlines) else None

    async def _ask(self, name: bytes, qtype: int) -> ReplyRecords:
        """Return the reply of the handlers below to another question; raises Unproven.

        A failure must not become a proof: without DS records, a zone is insecure.
        """
        asked = self._request.derive(name_wire=name, qtype=qtype, do=False)
        answer = self._below.begin_dns(asked)
        reply = answer if type(answer) is Reply else await answer
        if not is_signable(reply):
            raise Unproven(reply)
        self._deadlines.append(reply.deadline)
        return ReplyRecords(reply)

    async def _add_ds(self) -> None:
        """Add the DS records of a delegation, or the proof that it has none."""
        cut = self.records.cut
        assert cut is not None
        asked = await self._ask(cut, c.TYPE_DS)
        found = asked.find(ANSWER, cut, c.TYPE_DS)
        if found is not None:
            self.records.add(RecordSet(AUTHORITY, cut, c.TYPE_DS, found.ttl, found.rdatas))
            return
        servers = self.records.find(AUTHORITY, cut, c.TYPE_NS)
        assert servers is not None
        self._add(self._zones.denial.no_data(cut, self._apex, CUT_TYPES, servers.ttl, is_cut=True))

    async def _is_cut(self) -> bool:
        """Return whether the name without DS records is a delegation.

        A denial that states NS without SOA makes all below it insecure (RFC 4035 section 5.2), so
        it must not be given for other names.
        """
        records = await self._ask(self._name, c.TYPE_NS)
        return any(it.rtype == c.TYPE_NS and it.name == self._name for it in records.sets)

    async def _closest_encloser(self) -> bytes:
        """Return the longest ancestor of the name that exists, or the name itself if it exists.

        All ancestors of a name that exists exist, too (RFC 8020), so bisection finds it. The
        queries are for addresses: a handler that has these may pass other types on to one that does
        not know the name, as *hosts* does with PTR, and the proof would deny its addresses, too.
        """
        name = self._name
        first = len(name) - len(self._apex)
        names = [name[at:] for at in parent_offsets(name) if at <= first]
        low = 1 if self._request.qtype == c.TYPE_A else 0  # the reply for the name is NXDOMAIN
        high = len(names) - 1  # the apex exists
        while low < high:
            middle = (low + high) // 2
            asked = await self._ask(names[middle], c.TYPE_A)
            is_alias = asked.find(ANSWER, names[middle], c.TYPE_CNAME) is not None
            if asked.rcode == c.NXDOMAIN and not is_alias:  # that of an alias is of its target
                low = middle + 1
            else:
                high = middle
        return names[low]

    @property
    def _apex(self) -> bytes:
        assert self._zone is not None
        return self._zone

    def _deny_type(self, *, is_cut: bool) -> None:
        """Add the proof that a name has no records of the type; NXDOMAIN becomes NOERROR."""
        records, qtype, name = self.records, self._request.qtype, self._name
        if qtype == c.TYPE_SOA and name == self._apex:  # a zone without SOA record
            records.add(_made_soa(self._apex, ANSWER))
            records.rcode = c.NOERROR
            return
        ttl = self._settle_soa()
        types = APEX_TYPES if name == self._apex else CUT_TYPES if is_cut else DATA_TYPES
        types -= frozenset((qtype,))
        self._add(self._zones.denial.no_data(name, self._apex, types, ttl, is_cut=is_cut))
        records.rcode = c.NOERROR
        if qtype in _OF_EACH_NAME:
            self._answer_with_nsec()

    def _answer_with_nsec(self) -> None:
        """Answer with the NSEC record (CoreDNS: dnssec.go), or with its signature alone."""
        records = self.records
        found = records.find(AUTHORITY, self._name, c.TYPE_NSEC)
        if found is None:
            return
        for it in [*records.in_section(AUTHORITY)]:
            records.remove(it)
        answer = RecordSet(ANSWER, found.owner, found.rtype, found.ttl, found.rdatas)
        if self._request.qtype == c.TYPE_NSEC:
            records.add(answer)
        else:
            records.sets.append(answer)  # its signature is added to the section

    def _deny_name(self, encloser: bytes) -> None:
        ttl = self._settle_soa()
        self._add(self._zones.denial.no_name(self._name, self._apex, encloser, ttl))

    def _settle_soa(self) -> int:
        """Make sure that the authority section has a SOA record of the zone.

        Returns the time in seconds for which the denial is valid (RFC 2308 section 3, RFC 9077).
        """
        records = self.records
        soa = records.of_type(AUTHORITY, c.TYPE_SOA)
        ttl = TTL_WITHOUT_SOA
        if soa is not None:
            ttl = min(soa.ttl, int.from_bytes(soa.rdatas[0][-_MINIMUM_SIZE:], "big"))
            if soa.name == self._apex:
                return ttl
            records.remove(soa)  # of another zone, or as that of *hosts* of no zone
        records.add(_made_soa(self._apex, AUTHORITY, ttl))
        return ttl

    def _add(self, proofs: Iterable[RecordSet]) -> None:
        for proof in proofs:
            self.records.add(proof)


def _made_soa(zone: bytes, section: int, ttl: int = TTL_WITHOUT_SOA) -> RecordSet:
    """Return the SOA record of a zone without one, such as that of *hosts*."""
    names = _prefixed(b"\2ns\3dns", zone) + _prefixed(b"\x0ahostmaster", zone)
    numbers = b"".join(number.to_bytes(4, "big") for number in _SOA_NUMBERS)
    return RecordSet(section, zone, c.TYPE_SOA, ttl, [names + numbers])


def _prefixed(labels: bytes, zone: bytes) -> bytes:
    name = labels + zone
    return name if len(name) <= MAX_NAME else zone
