"""Checks a master file for `corepy zone check`: errors, and legal data that resolvers stumble over.

Errors are those of the reader and of `ZoneBuilder`, which a server refuses too. Warnings have the
source that advises against the data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corepy.corefile import Diagnostic
from corepy.dns import constants as c
from corepy.dns.names import is_subdomain, to_text
from corepy.zone.additional import name_at
from corepy.zone.denial import NSEC3Denial
from corepy.zone.master_file import MasterFileReader
from corepy.zone.rrset import covered_by, covered_type_of, rdatas_of, sets_of, type_of
from corepy.zone.serial import is_newer
from corepy.zone.zone_builder import ZoneBuilder
from corepy.zone.zone_errors import ZoneError
from corepy.zone.zone_lookup import Lookup, Match

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from corepy.corefile import Token
    from corepy.dns.presentation import Record
    from corepy.zone.master_file import Place
    from corepy.zone.rrset import Node
    from corepy.zone.zone import Zone

_DAY: Final = 86_400
_HOSTS: Final = {c.TYPE_MX: 2, c.TYPE_SRV: 6}
"""Types whose targets must have addresses, and the offset of the target in rdata."""

_NULL_TARGET: Final = b"\0"
"""The target of a record that declares that there is no service (RFC 2782, RFC 7505)."""

_UNSIGNED: Final = frozenset((c.TYPE_RRSIG,))
_SIGNED_AT_CUT: Final = frozenset((c.TYPE_DS, c.TYPE_NSEC))


class ZoneCheck:
    """The check of one file; `problems` is the result, in the order of the checks."""

    def __init__(self, path: Path, origin: bytes, now: float) -> None:
        """Check the zone `origin` in a file; `now` is the time in seconds since the epoch.

        Raises `OSError` if the file cannot be read.
        """
        self.problems: list[Diagnostic] = []
        self.zone: Zone | None = None
        """The zone, None if the file has errors."""
        self._places: dict[tuple[bytes, int, bytes], Place] = {}
        """The entry of each record, and with b"" in place of rdata that of a set's first."""
        self._ttls: dict[tuple[bytes, int, int], int] = {}
        self._now = int(now)
        self._builder = ZoneBuilder(origin)
        reader = MasterFileReader(self._builder, self.problems.append, self._on_record)
        reader.read(path)
        if self.is_valid:
            self._check_zone()

    @property
    def is_valid(self) -> bool:
        """Whether there are no errors."""
        return all(it.severity != "error" for it in self.problems)

    def _on_record(self, record: Record, place: Place, is_new: bool) -> None:
        """Remember the position of a record, and check it against those before."""
        covered = covered_by(record.rtype, record.rdata)
        for rdata in (b"", record.rdata):
            self._places.setdefault((record.owner.lower(), record.rtype, rdata), place)
        kind = f"{to_text(record.owner)} {c.type_name(record.rtype)}"
        key = record.owner.lower(), record.rtype, covered
        first = self._ttls.setdefault(key, record.ttl)
        if not is_new:
            self._warn(f"{kind} is in the zone twice", place.token(0))
        elif record.ttl != first:
            self._warn(
                f"{kind} has the TTL {record.ttl}, another record of the set has {first}",
                place.token(0),
                "all records of a set get the lowest TTL (RFC 2181 section 5.2)",
            )

    def _warn(self, message: str, token: Token | None = None, hint: str | None = None) -> None:
        self.problems.append(Diagnostic(message, token, hint, "warning"))

    def _token(self, name: bytes, rtype: int, rdata: bytes = b"") -> Token | None:
        place = self._places.get((name, rtype, rdata))
        return None if place is None else place.token(0)

    def _check_zone(self) -> None:
        try:
            zone = self._builder.build()
        except ZoneError as error:
            self.problems.append(Diagnostic(str(error)))
            return
        self.zone = zone
        self._check_soa(zone)
        for name, node in zone.owners():
            self._check_node(zone, name, node)
        if zone.is_signed:
            self._check_signatures(zone)

    def _check_soa(self, zone: Zone) -> None:
        """RFC 1912 section 2.2, RFC 2308 section 5."""
        soa, token = zone.soa, self._token(zone.origin, c.TYPE_SOA)
        if zone.ns is None:
            self.problems.append(
                Diagnostic("the zone has no NS records", token, "RFC 1912 section 2.8")
            )
        if soa.retry >= soa.refresh:
            message = f"retry ({soa.retry}s) is not shorter than refresh ({soa.refresh}s)"
            self._warn(message, token, "RFC 1912 section 2.2")
        if soa.expire <= soa.refresh + soa.retry:
            message = f"expire ({soa.expire}s) is not longer than refresh and retry together"
            self._warn(message, token, "RFC 1912 section 2.2")
        if soa.minimum > _DAY:
            message = f"minimum ({soa.minimum}s) keeps denials in caches for more than a day"
            self._warn(message, token, "RFC 2308 section 5")
        if not soa.serial:
            self._warn("the serial is 0", token, "some secondary servers never transfer it")

    def _check_node(self, zone: Zone, name: bytes, node: Node) -> None:
        if name in zone.below_cuts and name not in zone.cuts:
            self._check_occluded(zone, name, node)
            return
        types = {type_of(packed) for packed in sets_of(node)}
        if c.TYPE_DS in types and c.TYPE_NS not in types:
            message = f"{to_text(name)} has DS records, but is not delegated"
            self._warn(message, self._token(name, c.TYPE_DS), "RFC 4035 section 2.4")
        if c.TYPE_NS in types and name.startswith(b"\1*"):
            message = f"{to_text(name)}: the meaning of a wildcard NS record is not defined"
            self._warn(message, self._token(name, c.TYPE_NS), "RFC 4592 section 4.2")
        for packed in sets_of(node):
            rtype = type_of(packed)
            if rtype == c.TYPE_NS:
                self._check_servers(zone, name, packed)
            elif rtype in _HOSTS:
                self._check_hosts(zone, name, packed)

    def _check_occluded(self, zone: Zone, name: bytes, node: Node) -> None:
        """Names below a cut are not in the zone; addresses of its servers are glue."""
        types = {type_of(packed) for packed in sets_of(node)}
        cut = next(it for it in _ancestors(name, zone.origin) if it in zone.cuts)
        glue = {c.TYPE_A, c.TYPE_AAAA}
        if types <= glue and zone.rrset(cut, c.TYPE_NS) is not None:
            return
        rtype = min(types - glue, default=c.TYPE_A)
        message = f"{to_text(name)} {c.type_name(rtype)} is never answered: it is below a cut"
        hint = f"{to_text(cut)} is delegated, or has a DNAME record"
        self._warn(message, self._token(name, rtype), hint)

    def _check_servers(self, zone: Zone, name: bytes, packed: bytes) -> None:
        """Check that servers in the zone have addresses, and those in a child glue.

        RFC 1034 section 4.2.1.
        """
        for rdata in rdatas_of(packed):
            target, token = rdata.lower(), self._token(name, c.TYPE_NS, rdata)
            if not zone.contains(target):
                continue
            is_glue = name != zone.origin and is_subdomain(target, name)
            if is_glue and not _has_addresses(zone, target):
                message = f"{to_text(name)} NS: there is no glue for {to_text(target)}"
                self._warn(message, token, "add its A or AAAA record")
            elif not is_glue:
                self._check_target(zone, name, c.TYPE_NS, target, token)

    def _check_hosts(self, zone: Zone, name: bytes, packed: bytes) -> None:
        rtype = type_of(packed)
        for rdata in rdatas_of(packed):
            target = name_at(rdata, _HOSTS[rtype]).lower()
            if target != _NULL_TARGET and zone.contains(target):
                token = self._token(name, rtype, rdata)
                self._check_target(zone, name, rtype, target, token)

    def _check_target(
        self, zone: Zone, name: bytes, rtype: int, target: bytes, token: Token | None
    ) -> None:
        """Warn about a target in the zone without addresses, or that is an alias."""
        subject = f"{to_text(name)} {c.type_name(rtype)}: {to_text(target)}"
        results = [Lookup(zone, target, it, do=False) for it in (c.TYPE_A, c.TYPE_AAAA)]
        if zone.rrset(target, c.TYPE_CNAME) is not None:
            self._warn(f"{subject} is an alias", token, "RFC 2181 section 10.3")
        elif results[0].match is Match.DELEGATION:
            if rtype == c.TYPE_NS and not _has_addresses(zone, target):
                hint = "resolvers may not find it while they resolve the zone (RFC 9471)"
                self._warn(f"{subject} is in a child zone and has no glue", token, hint)
        elif not any(it.answer.count for it in results):
            state = "does not exist" if results[0].rcode else "has no address"
            lame = "RFC 1912 section 2.8: such a server is lame"
            self._warn(f"{subject} {state}", token, lame if rtype == c.TYPE_NS else None)

    def _check_signatures(self, zone: Zone) -> None:
        """Signatures that a validator refuses (RFC 4035 sections 2.2 and 5.3.1)."""
        if isinstance(zone.denial, NSEC3Denial) and zone.denial.parameters.iterations:
            token = self._token(zone.origin, 51)
            self._warn("NSEC3 uses more than 0 iterations", token, "RFC 9276 section 3.1")
        if zone.denial is None:
            self._warn("the zone is signed, but has no NSEC or NSEC3 records to deny names")
        for name, node in zone.owners():
            if name in zone.below_cuts and (name not in zone.cuts):
                continue
            is_cut = name in zone.below_cuts
            for rtype in _unsigned_types(node, _SIGNED_AT_CUT if is_cut else None):
                message = f"{to_text(name)} {c.type_name(rtype)} has no signature"
                self._warn(message, self._token(name, rtype), "RFC 4035 section 2.2")
            for packed in sets_of(node):
                if type_of(packed) == c.TYPE_RRSIG:
                    self._check_times(name, packed)

    def _check_times(self, name: bytes, packed: bytes) -> None:
        for rdata in rdatas_of(packed):
            expiration, inception = (int.from_bytes(rdata[at : at + 4], "big") for at in (8, 12))
            subject = f"{to_text(name)} RRSIG {c.type_name(covered_type_of(packed))}"
            token = self._token(name, c.TYPE_RRSIG)
            if is_newer(self._now & 0xFFFFFFFF, expiration):
                self._warn(f"{subject} has expired", token, "RFC 4035 section 5.3.1")
            elif is_newer(inception, self._now & 0xFFFFFFFF):
                self._warn(f"{subject} is not valid yet", token, "RFC 4035 section 5.3.1")


def _unsigned_types(node: Node, only: frozenset[int] | None) -> Iterator[int]:
    """Yield the types of a node without signatures; `only` are those that need one."""
    signed = {covered_type_of(it) for it in sets_of(node) if type_of(it) == c.TYPE_RRSIG}
    for packed in sets_of(node):
        rtype = type_of(packed)
        if rtype not in signed and rtype not in _UNSIGNED and (only is None or rtype in only):
            yield rtype


def _has_addresses(zone: Zone, name: bytes) -> bool:
    return any(zone.rrset(name, rtype) is not None for rtype in (c.TYPE_A, c.TYPE_AAAA))


def _ancestors(name: bytes, origin: bytes) -> Iterator[bytes]:
    """Yield the names above `name`, up to `origin`."""
    while len(name) > len(origin):
        name = name[name[0] + 1 :]
        yield name
