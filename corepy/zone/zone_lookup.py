"""The look-up algorithm: finds the records of a reply in one zone.

RFC 1034 section 4.3.2, with wildcards by RFC 4592, DNAME by RFC 6672, negative replies by RFC 2308,
and signatures and denial by RFC 4035 section 3.1 and RFC 5155 section 7.2.
"""

from __future__ import annotations

from enum import Enum
from struct import Struct
from typing import TYPE_CHECKING, Final

from corepy.dns import constants as c
from corepy.dns.names import MAX_NAME, is_subdomain
from corepy.zone.additional import SERVICE_TYPES, targets_of
from corepy.zone.rrset import (
    EMPTY,
    QNAME,
    Node,
    count_of,
    find_set,
    first_rdata_of,
    key_of,
    sets_of,
    sets_with_type,
    ttl_of,
    type_of,
    with_owner,
)  # fmt: skip
from corepy.zone.zone import NS_KEY

if TYPE_CHECKING:
    from collections.abc import Iterable

    from corepy.zone.denial import Proof
    from corepy.zone.zone import Zone

LONGEST_CHAIN: Final = 16
"""Maximum CNAME records of one reply; a longer chain ends there, without the target's records."""

_RRSIG: Final = c.TYPE_RRSIG.to_bytes(2, "big")
"""The beginning of the key of signatures, which the type covered follows."""

_A: Final = key_of(c.TYPE_A)
_AAAA: Final = key_of(c.TYPE_AAAA)
_CNAME: Final = key_of(c.TYPE_CNAME)
_DNAME: Final = key_of(c.TYPE_DNAME)
_DS: Final = key_of(c.TYPE_DS)

_ALIAS_OWN: Final = frozenset((c.TYPE_NSEC, c.TYPE_RRSIG))
"""Types that the owner of a CNAME record has itself (RFC 4035 section 2.5)."""

_POINTER: Final = 0xC000
_pack_record = Struct("!HHIH").pack


class Match(Enum):
    """The way in which the last name of a look-up was found."""

    EXACT = "exact"
    WILDCARD = "wildcard"
    EMPTY_NON_TERMINAL = "empty non-terminal"
    DELEGATION = "delegation"
    DNAME = "DNAME"
    NO_NAME = "no such name"
    OUTSIDE = "alias out of the zone"


class Section:
    """The records of one section, as bytes, and their number."""

    __slots__ = ("count", "parts")

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.count = 0

    def add(self, records: bytes, count: int) -> None:
        """Append records in wire form."""
        self.parts.append(records)
        self.count += count


class Lookup:
    """One look-up in a zone; the attributes are the result.

    Owners of records are compressed with pointers to the question, so the records are only usable
    in a reply to a query for this name, right after its question.
    """

    __slots__ = (
        "_before_denial",
        "_do", "_pointer", "_qname", "_qtype", "_sets", "_zone", "additional", "answer",
        "authority", "is_authoritative", "last", "match", "outside", "rcode", "source", "wildcard",
    )  # fmt: skip

    def __init__(self, zone: Zone, name: bytes, qtype: int, do: bool) -> None:
        """Look up a name, in lower case, in the zone that contains it.

        With `do`, signatures and proofs are included if the zone has them.
        """
        self._zone = zone
        self._qname = name
        self._qtype = qtype
        self._do = do and zone.is_signed
        self._pointer = (_POINTER | 12 + len(name) - len(zone.origin)).to_bytes(2, "big")
        self._sets: set[tuple[bytes, bytes]] = set()
        self._before_denial = 0, 0
        self.answer = Section()
        self.authority = Section()
        self.additional = Section()
        self.rcode = c.NOERROR
        self.is_authoritative = True
        self.match = Match.EXACT
        self.source = name
        """The name in the zone that has determined the reply: a node, a wildcard or a cut."""
        self.wildcard: bytes | None = None
        """The last wildcard that matched, None if none did."""
        self.outside: bytes | None = None
        """The target of an alias out of the zone, whose records complete the answer."""
        self.last = name
        """The name that was looked up last: the target of the last alias, or the name."""
        self._follow(name)

    def _follow(self, name: bytes) -> None:
        """Look up a name and the targets of aliases, each once."""
        seen = {name}
        target = self._step(name)
        while target is not None and target not in seen and len(seen) <= LONGEST_CHAIN:
            if not is_subdomain(target, self._zone.origin):
                self.outside, self.match, self.source = target, Match.OUTSIDE, target
                return
            seen.add(target)
            self.last = target
            target = self._step(target)
        if target is not None:  # an endless or a long chain
            self._add_apex_ns()

    def _step(self, name: bytes) -> bytes | None:
        """Look up one name; return the name to continue with if it is an alias."""
        zone = self._zone
        found = zone.nodes.get(name)
        if zone.cuts and (not found or name in zone.below_cuts):
            cut = self._cut_above(name)
            if cut is not None:
                return self._at_cut(name, cut)
        self.source = name
        if found is not None:
            self.match = Match.EXACT if found else Match.EMPTY_NON_TERMINAL
            return self._at_node(name, found, None)
        ancestor = name[name[0] + 1 :]
        while ancestor not in zone.nodes:
            ancestor = ancestor[ancestor[0] + 1 :]
        wildcard = b"\1*" + ancestor
        found = zone.nodes.get(wildcard)
        if found is None:
            self.match, self.source = Match.NO_NAME, ancestor
            self._no_name(name, ancestor)
            return None
        # RFC 4592 section 3.3.1: the source of synthesis
        self.match, self.source, self.wildcard = Match.WILDCARD, wildcard, wildcard
        return self._at_node(name, found, ancestor)

    def _at_cut(self, name: bytes, cut: bytes) -> bytes | None:
        """Refer to the servers of a child zone, or substitute by a DNAME record."""
        node = self._zone.nodes[cut]
        dname = find_set(node, _DNAME)
        if dname is not None:
            return self._substitute(name, cut, node, dname)
        self._refer(cut, node)
        return None

    def _cut_above(self, name: bytes) -> bytes | None:
        """Return the highest cut at or above a name: a delegation, or a DNAME above the name."""
        zone, cuts, found = self._zone, self._zone.cuts, None
        end = len(name) - len(zone.origin)
        at = 0
        while at <= end:
            suffix = name[at:] if at else name
            if suffix in cuts and (at or self._is_cut_for_itself(name)):
                found = suffix
            at += name[at] + 1
        return found

    def _is_cut_for_itself(self, name: bytes) -> bool:
        """Return whether a name with a cut is answered by a referral.

        DS records belong to the parent zone (RFC 4035 section 3.1.4.1), and a DNAME record does not
        apply to its owner (RFC 6672 section 2.3).
        """
        node = self._zone.nodes[name]
        return (
            self._qtype != c.TYPE_DS
            and name != self._zone.origin
            and find_set(node, NS_KEY) is not None
        )

    def _at_node(self, name: bytes, node: Node, ancestor: bytes | None) -> bytes | None:
        """Answer with the records of a node; `ancestor` is set if it is a wildcard."""
        qtype = self._qtype
        sets = self._matching_sets(node, qtype)
        if sets:
            for packed in sets:
                self._answer(name, node, packed)
            self._prove_no_closer(name, ancestor)
            self._add_apex_ns()
            for packed in sets:
                self._add_targets(packed, name)
            return None
        alias = find_set(node, _CNAME)
        if alias is not None and qtype not in _ALIAS_OWN:
            self._answer(name, node, alias)
            self._prove_no_closer(name, ancestor)
            return first_rdata_of(alias).lower()
        self._no_data(name, ancestor)
        return None

    def _matching_sets(self, node: Node, qtype: int) -> list[bytes]:
        """Return the sets of a node that answer a type.

        For ANY and RRSIG it is one of several, because all of them might be a large reply (RFC 8482
        sections 4.1 and 7).
        """
        if qtype == c.TYPE_ANY:
            return [it for it in sets_of(node) if type_of(it) != c.TYPE_RRSIG][:1]
        if qtype == c.TYPE_RRSIG:
            return list(sets_with_type(node, qtype))[:1]
        found = find_set(node, key_of(qtype))
        return [] if found is None else [found]

    def _answer(self, name: bytes, node: Node, packed: bytes) -> None:
        self._add(self.answer, name, packed)
        self._sign(self.answer, name, node, packed)

    def _add(self, section: Section, name: bytes, packed: bytes) -> None:
        """Add a set to a section, once (RFC 2181 section 5.5)."""
        key = name, packed[:4]
        if key not in self._sets:
            self._sets.add(key)
            section.add(with_owner(packed, self._compressed(name)), count_of(packed))

    def _sign(self, section: Section, name: bytes, node: Node, packed: bytes) -> None:
        """Add the signatures of a set, if the client wants them."""
        if self._do:
            signatures = find_set(node, _RRSIG + packed[:2])
            if signatures is not None:
                self._add(section, name, signatures)

    def _compressed(self, name: bytes) -> bytes:
        """Return a name in the zone with a pointer to its suffix in the question."""
        if name == self._qname:
            return QNAME
        return name[: -len(self._zone.origin)] + self._pointer

    def _substitute(self, name: bytes, cut: bytes, node: Node, dname: bytes) -> bytes | None:
        """Answer for a name below a DNAME record (RFC 6672 section 3.2)."""
        self.match, self.source = Match.DNAME, cut
        self._answer(cut, node, dname)
        target = name[: -len(cut)] + first_rdata_of(dname)
        if len(target) > MAX_NAME:
            self.rcode = c.YXDOMAIN
            return None
        fixed = _pack_record(c.TYPE_CNAME, c.CLASS_IN, ttl_of(dname), len(target))
        self.answer.add(self._compressed(name) + fixed + target, 1)
        if self._qtype in (c.TYPE_CNAME, c.TYPE_ANY):
            self._add_apex_ns()
            return None
        return target.lower()

    def _refer(self, cut: bytes, node: Node) -> None:
        """Refer to the servers of a child zone (RFC 1034 section 4.3.2, step 3b)."""
        self.match, self.source = Match.DELEGATION, cut
        # A partial answer before the referral is authoritative (RFC 1035 section 4.1.1).
        self.is_authoritative = self.answer.count > 0
        servers = find_set(node, NS_KEY)
        assert servers is not None
        self._add(self.authority, cut, servers)
        if self._do:
            keys = find_set(node, _DS)
            if keys is not None:
                self._add(self.authority, cut, keys)
                self._sign(self.authority, cut, node, keys)
            elif self._zone.denial is not None:
                self._prove(self._zone.denial.no_ds(cut))
        self._add_glue(servers, cut)

    def _no_name(self, name: bytes, ancestor: bytes) -> None:
        """Deny a name (RFC 2308 section 2.1)."""
        self.rcode = c.NXDOMAIN
        self._before_denial = len(self.authority.parts), self.authority.count
        self._add_soa()
        if self._do and self._zone.denial is not None:
            self._prove(self._zone.denial.no_name(name, ancestor))

    def drop_denial(self) -> None:
        """Remove the denial of the target of an alias, but keep the proofs for the alias itself."""
        parts, count = self._before_denial
        del self.authority.parts[parts:]
        self.authority.count = count

    def _no_data(self, name: bytes, ancestor: bytes | None) -> None:
        """Deny a type (RFC 2308 section 2.2)."""
        self._add_soa()
        denial = self._zone.denial
        if not self._do or denial is None:
            return
        if ancestor is not None:
            self._prove(denial.no_wildcard_data(name, ancestor))
        elif self._is_insecure_cut(name):
            self._prove(denial.no_ds(name))
        else:
            self._prove(denial.no_data(name))

    def _is_insecure_cut(self, name: bytes) -> bool:
        return self._qtype == c.TYPE_DS and name in self._zone.cuts

    def _prove_no_closer(self, name: bytes, ancestor: bytes | None) -> None:
        if ancestor is not None and self._do and self._zone.denial is not None:
            self._prove(self._zone.denial.no_closer(name, ancestor))

    def _prove(self, proofs: Iterable[Proof]) -> None:
        denial = self._zone.denial
        assert denial is not None
        for name, node in proofs:
            packed = find_set(node, denial.key)
            if packed is not None:
                self._add(self.authority, name, packed)
                self._sign(self.authority, name, node, packed)

    def _add_soa(self) -> None:
        """Add the SOA record, which a denial has once at its end (RFC 2308 section 3)."""
        origin = self._zone.origin
        self.authority.add(*self._zone.denial_soa(self._compressed(origin), self._do))

    def _add_apex_ns(self) -> None:
        """Add the zone's servers to a positive answer, as CoreDNS does."""
        zone, origin = self._zone, self._zone.origin
        if zone.ns is not None and (origin, NS_KEY) not in self._sets:
            self._sets.add((origin, NS_KEY))
            self.authority.add(zone.servers(self._compressed(origin)), count_of(zone.ns))
            self._sign(self.authority, origin, zone.nodes[origin], zone.ns)

    def _add_targets(self, packed: bytes, owner: bytes) -> None:
        """Add what the records of an answer refer to (RFC 1034 section 4.3.2, step 6)."""
        extra = key_of(type_of(packed)) if type_of(packed) in SERVICE_TYPES else None
        for target in targets_of(packed, owner):
            if extra is not None:
                self._add_additional(target, (extra,))
            self._add_additional(target, (_A, _AAAA))

    def _add_glue(self, servers: bytes, cut: bytes) -> None:
        """Add the addresses of a child's servers, those in the child first (RFC 9471)."""
        targets = list(targets_of(servers, cut))
        targets.sort(key=lambda target: not is_subdomain(target, cut))
        for target in targets:
            self._add_additional(target, (_A, _AAAA))

    def _add_additional(self, target: bytes, keys: tuple[bytes, ...]) -> None:
        zone = self._zone
        if not is_subdomain(target, zone.origin):
            return
        node = zone.nodes.get(target, EMPTY)
        for key in keys:
            packed = find_set(node, key)
            if packed is not None:
                self._add(self.additional, target, packed)
                self._sign(self.additional, target, node, packed)
