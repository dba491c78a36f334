"""`ZoneBuilder`: collects the records of a zone, checks them, and builds a `Zone`."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Final

from corepy.dns import constants as c
from corepy.dns.names import is_subdomain, to_text
from corepy.zone.canonical import canonical_key, in_canonical_order
from corepy.zone.denial import MOST_ITERATIONS, NSEC3Denial, denial_of
from corepy.zone.rrset import (
    EMPTY,
    LARGEST_RDATA,
    Node,
    count_of,
    covered_by,
    find_set,
    key_of,
    node_of,
    pack_one,
    pack_set,
    rdatas_of,
    sets_of,
    ttl_of,
    type_of,
    with_rdata,
    with_ttl,
)  # fmt: skip
from corepy.zone.zone import NS_KEY, SOA_KEY, Zone
from corepy.zone.zone_errors import OutOfZone, RecordRefused, ZoneError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from corepy.dns.presentation import Record

_DNAME_KEY: Final = key_of(c.TYPE_DNAME)

_BESIDE_CNAME: Final = frozenset((c.TYPE_CNAME, c.TYPE_RRSIG, c.TYPE_NSEC, c.TYPE_SIG, 25, 30))
"""Types that a name may own beside CNAME; 25 and 30 are KEY and NXT.

RFC 2181 section 10.1, RFC 4035 section 2.5.
"""

_SINGLE: Final = {c.TYPE_CNAME: "RFC 2181 section 10.1", c.TYPE_DNAME: "RFC 6672 section 2.4"}
"""Types of which a name may own one record, and the source of the rule."""

MOST_SETS: Final = 256
"""Maximum record sets of a name; sets of signatures count by the type covered.

Each query for a name searches its sets. BIND's max-types-per-name is 100 (CVE-2024-1737).
"""

_MIN_RRSIG: Final = 18
_MANY: Final = 16
"""Records of a set from which a dictionary detects duplicates."""

_FEW_CHANGES: Final = 1000
"""Changed names up to which the canonical order of the other names is kept."""


class ZoneBuilder:
    """A zone under construction: add and remove records, then call `build` once.

    The rules that each record must keep are checked by `add`, so that a reader of a file knows the
    line at fault; those of the whole zone by `build`.
    """

    def __init__(self, origin: bytes, base: Zone | None = None) -> None:
        """Begin with an empty zone, or with the records of `base`, which is not changed.

        `origin` is a name in wire form.
        """
        self.origin = origin.lower()
        self._nodes: dict[bytes, Node] = {} if base is None else base.nodes.copy()
        self._hashed: dict[bytes, Node] = {} if base is None else base.hashed_nodes.copy()
        self._base = base
        self._touched: set[bytes] | None = None if base is None else set()
        self._long: dict[tuple[bytes, bytes], set[bytes]] = {}

    def add_all(self, records: Iterable[Record]) -> None:
        """Add records, except those whose owner is not in the zone; raises `RecordRefused`."""
        for owner, ttl, _, rtype, rdata in records:
            try:
                self.add(owner, ttl, rtype, rdata)
            except OutOfZone:
                continue

    def add(self, owner: bytes, ttl: int, rtype: int, rdata: bytes) -> bool:
        """Add a record of class IN; return False if the zone has it already.

        `owner` may have capitals, `ttl` is in seconds, and `rdata` must be valid for its type. If
        the TTLs of a set differ, the lowest applies to all its records (RFC 2181 section 5.2).
        Raises `RecordRefused`.
        """
        name = owner.lower()
        covered = 0
        nodes = self._nodes
        if len(rdata) > LARGEST_RDATA:
            raise RecordRefused("the record does not fit into a message", name, rtype)
        if rtype == c.TYPE_RRSIG:
            covered = self._check_signature(name, rdata)
        if rtype == c.TYPE_NSEC3 or covered == c.TYPE_NSEC3:
            nodes = self._hashed
        node = nodes.get(name)
        if not node:
            if not is_subdomain(name, self.origin):
                raise OutOfZone(name, rtype, self.origin)
            if rtype == c.TYPE_SOA and name != self.origin:
                raise RecordRefused(
                    f"the SOA record belongs to the origin, {to_text(self.origin)}", name, rtype
                )
            nodes[name] = pack_one(rtype, covered, ttl, rdata)
            if self._touched is not None:
                self._touched.add(name)
            return True
        return self._add_to(nodes, name, node, key_of(rtype, covered), ttl, rdata)

    def _check_signature(self, name: bytes, rdata: bytes) -> int:
        if len(rdata) < _MIN_RRSIG:
            raise RecordRefused("the signature is cut off", name, c.TYPE_RRSIG)
        return covered_by(c.TYPE_RRSIG, rdata)

    def _add_to(
        self,
        nodes: dict[bytes, Node],
        name: bytes,
        node: Node,
        key: bytes,
        ttl: int,
        rdata: bytes,
    ) -> bool:
        """Add a record to a node that has some."""
        rtype = key[0] << 8 | key[1]
        old = find_set(node, key)
        if old is None:
            self._check_company(name, node, rtype)
            if len(sets_of(node)) >= MOST_SETS:
                problem = f"a name owns more than {MOST_SETS} record sets"
                raise RecordRefused(problem, name, rtype)
            nodes[name] = (*sets_of(node), pack_one(rtype, key[2] << 8 | key[3], ttl, rdata))
        else:
            new = self._extended(name, key, old, ttl, rdata)
            if new is None:
                return False
            nodes[name] = node_of([new if it is old else it for it in sets_of(node)])
        if self._touched is not None:
            self._touched.add(name)
        return True

    def _check_company(self, name: bytes, node: Node, rtype: int) -> None:
        """Raise `RecordRefused` if a name must not own `rtype` beside what it owns."""
        if rtype == c.TYPE_SOA and name != self.origin:
            raise RecordRefused(
                f"the SOA record belongs to the origin, {to_text(self.origin)}", name, rtype
            )
        types = {type_of(it) for it in sets_of(node)}
        if (rtype == c.TYPE_CNAME and not types <= _BESIDE_CNAME) or (
            c.TYPE_CNAME in types and rtype not in _BESIDE_CNAME
        ):
            others = sorted((types | {rtype}) - _BESIDE_CNAME)
            names = ", ".join(c.type_name(it) for it in others)
            problem = (
                f"a name with a CNAME record owns other data ({names}): RFC 1034 section 3.6.2"
            )
            raise RecordRefused(problem, name, rtype)
        if name != self.origin and {rtype, *types} >= {c.TYPE_NS, c.TYPE_DNAME}:
            problem = "a delegated name owns a DNAME record: RFC 6672 section 2.3"
            raise RecordRefused(problem, name, rtype)

    def _extended(
        self, name: bytes, key: bytes, old: bytes, ttl: int, rdata: bytes
    ) -> bytes | None:
        """Return a set with one more record, None if the record is in it already."""
        rtype = key[0] << 8 | key[1]
        is_lower = ttl < ttl_of(old)
        if self._has(name, key, old, rdata):
            return with_ttl(old, ttl) if is_lower else None
        if rtype == c.TYPE_SOA:
            raise RecordRefused("a zone has one SOA record: RFC 1035 section 5.2", name, rtype)
        if rtype in _SINGLE:
            problem = f"a name owns one {c.type_name(rtype)} record: {_SINGLE[rtype]}"
            raise RecordRefused(problem, name, rtype)
        try:
            new = with_rdata(old, rdata)
        except ValueError as error:
            raise RecordRefused(str(error), name, rtype) from None
        known = self._long.get((name, key))
        if known is not None:
            known.add(rdata)
        return with_ttl(new, ttl) if is_lower else new

    def _has(self, name: bytes, key: bytes, packed: bytes, rdata: bytes) -> bool:
        """Return whether a set has a record; a long one is unpacked once."""
        if count_of(packed) < _MANY:
            return rdata in rdatas_of(packed)
        known = self._long.get((name, key))
        if known is None:
            known = self._long[name, key] = set(rdatas_of(packed))
        return rdata in known

    def remove(self, owner: bytes, rtype: int, rdata: bytes) -> bool:
        """Remove a record, whatever its TTL; return False if the zone does not have it."""
        name, covered = owner.lower(), covered_by(rtype, rdata)
        nodes = self._hashed if c.TYPE_NSEC3 in (rtype, covered) else self._nodes
        node = nodes.get(name, EMPTY)
        old = find_set(node, key_of(rtype, covered))
        rdatas = [] if old is None else rdatas_of(old)
        if old is None or rdata not in rdatas:
            return False
        rdatas.remove(rdata)
        self._long.pop((name, key_of(rtype, covered)), None)
        new = [pack_set(rtype, covered, ttl_of(old), rdatas)] if rdatas else []
        sets = [part for it in sets_of(node) for part in (new if it is old else [it])]
        nodes[name] = node_of(sets)
        if self._touched is not None:
            self._touched.add(name)
        return True

    def build(self) -> Zone:
        """Return the zone; raises `ZoneError` if it has no SOA record, or a chain cannot be used.

        The builder is empty afterwards. This may run in a thread beside an event loop.
        """
        if find_set(self._nodes.get(self.origin, EMPTY), SOA_KEY) is None:
            raise ZoneError(f"the zone {to_text(self.origin)} has no SOA record")
        for name in [name for name, node in self._hashed.items() if not node]:
            del self._hashed[name]
        names = self._ordered_names()
        self._set_empty_non_terminals(names)
        nodes = self._nodes
        denial = denial_of(self.origin, nodes, self._hashed, names)
        if isinstance(denial, NSEC3Denial) and denial.parameters.iterations > MOST_ITERATIONS:
            problem = f"NSEC3 with {denial.parameters.iterations} iterations is too expensive"
            raise ZoneError(f"{problem}; the limit is {MOST_ITERATIONS} (RFC 9276)")
        zone = Zone(
            self.origin, nodes, self._hashed, names, self._cuts(names), denial, self._count()
        )
        self._nodes, self._hashed = {}, {}  # the zone empties them when it is released
        return zone

    def _ordered_names(self) -> list[bytes]:
        """Return the names that own records in canonical order."""
        base, touched, nodes = self._base, self._touched, self._nodes
        if base is None or touched is None or len(touched) > _FEW_CHANGES:
            return in_canonical_order([name for name, node in nodes.items() if node])
        names = base.names.copy()
        for name in touched:
            at = bisect_left(names, canonical_key(name), key=canonical_key)
            is_there = at < len(names) and names[at] == name
            owns = bool(nodes.get(name))
            if owns and not is_there:
                names.insert(at, name)
            elif is_there and not owns:
                del names[at]
        return names

    def _set_empty_non_terminals(self, names: list[bytes]) -> None:
        """Give each ancestor of a name in the zone a node (RFC 4592 section 2.2.2)."""
        nodes, shortest = self._nodes, len(self.origin)
        if self._base is not None:
            for name in [name for name, node in nodes.items() if not node]:
                del nodes[name]
        for name in names:
            while len(name) > shortest:
                name = name[name[0] + 1 :]
                if name in nodes:
                    break
                nodes[name] = EMPTY

    def _cuts(self, names: list[bytes]) -> tuple[frozenset[bytes], frozenset[bytes]]:
        """Return the cuts, and the delegations with the names below any cut; see `Zone.cuts`."""
        nodes, cuts, below = self._nodes, [], []
        cut: bytes | None = None
        for name in names:
            if cut is not None and is_subdomain(name, cut):
                below.append(name)
            is_delegation = name != self.origin and find_set(nodes[name], NS_KEY) is not None
            if is_delegation or find_set(nodes[name], _DNAME_KEY) is not None:
                cuts.append(name)
                if is_delegation:
                    below.append(name)
                if cut is None or not is_subdomain(name, cut):
                    cut = name
        return frozenset(cuts), frozenset(below)

    def _count(self) -> int:
        return sum(
            count_of(packed)
            for nodes in (self._nodes, self._hashed)
            for node in nodes.values()
            for packed in sets_of(node)
        )
