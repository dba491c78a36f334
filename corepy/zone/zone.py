"""`Zone`: one immutable version of a zone.

A changed zone is a new object, which a `ServedZone` replaces between two queries. Names in here are
in wire form and lower case; names in rdata keep their case (RFC 4343 section 4.1).
"""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from corepy.dns import constants as c
from corepy.dns.names import is_subdomain, to_text
from corepy.dns.presentation import Record
from corepy.zone.rrset import (
    EMPTY,
    Node,
    count_of,
    find_set,
    key_of,
    rdatas_of,
    records_of,
    sets_of,
    ttl_of,
    type_of,
    with_owner,
    with_ttl,
)  # fmt: skip

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from corepy.zone.denial import Denial

SOA_KEY: Final = key_of(c.TYPE_SOA)
NS_KEY: Final = key_of(c.TYPE_NS)

_LARGE: Final = 2000
"""Names from which the memory of a zone is released in a thread."""

_PORTION: Final = 500


class SOA(NamedTuple):
    """The numbers of a SOA record (RFC 1035 section 3.3.13), in seconds except the serial."""

    serial: int
    refresh: int
    retry: int
    expire: int
    minimum: int

    @classmethod
    def from_rdata(cls, rdata: bytes) -> SOA:
        """Return the last five fields of rdata, which must be valid."""
        numbers = rdata[-20:]
        return cls(*(int.from_bytes(numbers[at : at + 4], "big") for at in range(0, 20, 4)))


class Zone:
    """All records of a zone, built by `corepy.zone.zone_builder.ZoneBuilder`; never changed.

    `nodes` has every name that exists in the zone, also empty non-terminals and names below zone
    cuts, in no order. Names of NSEC3 records are in `hashed_nodes` instead, because they do not
    exist as far as queries are concerned (RFC 5155 section 7.2.8).
    """

    __slots__ = (
        "_denial_soas",
        "_servers", "below_cuts", "cuts", "denial", "hashed_nodes", "is_signed", "names", "nodes",
        "ns", "origin", "records", "soa", "soa_set",
    )  # fmt: skip

    def __init__(
        self,
        origin: bytes,
        nodes: dict[bytes, Node],
        hashed_nodes: dict[bytes, Node],
        names: list[bytes],
        cuts: tuple[frozenset[bytes], frozenset[bytes]],
        denial: Denial | None,
        records: int,
    ) -> None:
        """Take over the arguments, which the caller must not change any more."""
        self.origin = origin
        self.nodes = nodes
        self.hashed_nodes = hashed_nodes
        self.names = names
        """The names that own records, in canonical order (RFC 4034 section 6.1)."""
        self.cuts, self.below_cuts = cuts
        """Names with a DNAME record, and names except the origin with NS records.

        `below_cuts` are the delegations, and the names that own records below any cut.
        """
        self.denial = denial
        """The NSEC or NSEC3 records, None without any."""
        self.records = records
        """The number of records."""
        apex = nodes[origin]
        soa_set = find_set(apex, SOA_KEY)
        assert soa_set is not None
        self.soa_set = soa_set
        """The packed set of the SOA record."""
        self.soa = SOA.from_rdata(rdatas_of(soa_set)[0])
        self.ns = find_set(apex, NS_KEY)
        """The packed set of the origin's NS records; None if it has none."""
        self.is_signed = any(type_of(it) == c.TYPE_RRSIG for it in sets_of(apex))
        self._servers: dict[bytes, bytes] = {}
        self._denial_soas: dict[tuple[bytes, bool], tuple[bytes, int]] = {}

    @property
    def serial(self) -> int:
        """The serial of the SOA record."""
        return self.soa.serial

    @property
    def soa_record(self) -> bytes:
        """The SOA record in wire form, without compression."""
        return records_of(self.soa_set, self.origin)[0]

    def servers(self, owner: bytes) -> bytes:
        """Return the origin's NS records in wire form with a compressed owner, b"" without any.

        It is a part of almost every reply, so the results are kept: a pointer to the origin has few
        values, as many as a question has lengths.
        """
        try:
            return self._servers[owner]
        except KeyError:
            made = b"" if self.ns is None else with_owner(self.ns, owner)
            self._servers[owner] = made
            return made

    def denial_soa(self, owner: bytes, with_signature: bool) -> tuple[bytes, int]:
        """Return the SOA record of a denial, with a compressed owner, and the number of records.

        Its TTL is the time for which the denial is valid (RFC 2308 section 3), and so is that of
        its signature (RFC 4034 section 3). The results are kept as those of `servers`.
        """
        key = owner, with_signature
        made = self._denial_soas.get(key)
        if made is None:
            ttl = min(ttl_of(self.soa_set), self.soa.minimum)
            sets = [self.soa_set]
            signatures = find_set(self.nodes[self.origin], key_of(c.TYPE_RRSIG, c.TYPE_SOA))
            if with_signature and signatures is not None:
                sets.append(signatures)
            records = b"".join(with_owner(with_ttl(it, ttl), owner) for it in sets)
            made = self._denial_soas[key] = records, sum(map(count_of, sets))
        return made

    def contains(self, name: bytes) -> bool:
        """Return whether a name, in lower case, is the origin or below it."""
        return is_subdomain(name, self.origin)

    def node(self, name: bytes) -> Node | None:
        """Return all that a name owns, b"" for an empty non-terminal, None if it does not exist."""
        return self.nodes.get(name)

    def rrset(self, name: bytes, rtype: int) -> bytes | None:
        """Return a packed set (`corepy.zone.rrset`) of a name, None if there is none."""
        return find_set(self.nodes.get(name, EMPTY), key_of(rtype))

    def owners(self) -> Iterator[tuple[bytes, Node]]:
        """Yield all names that own records with their nodes, in canonical order, NSEC3 last."""
        nodes = self.nodes
        for name in self.names:
            yield name, nodes[name]
        yield from self.hashed_nodes.items()

    def __iter__(self) -> Iterator[Record]:
        """Yield all records, the SOA record first, then in canonical order of the owners."""
        yield from _records(self.origin, self.soa_set)
        for name, node in self.owners():
            for packed in sets_of(node):
                if packed is not self.soa_set:
                    yield from _records(name, packed)

    def wires(self) -> Iterator[bytes]:
        """Yield all records in wire form without compression, in the order of iteration."""
        yield self.soa_record
        for name, node in self.owners():
            for packed in sets_of(node):
                if packed is not self.soa_set:
                    yield from records_of(packed, name)

    def __repr__(self) -> str:
        return f"<Zone {to_text(self.origin)} serial {self.serial}, {self.records} records>"

    def __del__(
        self, is_finalizing: Callable[[], bool] = sys.is_finalizing, large: int = _LARGE
    ) -> None:
        """Release a large zone in a thread, which lets the event loop run meanwhile.

        At the end of the process, threads and the names of this module are gone.
        """
        if not is_finalizing() and len(getattr(self, "nodes", ())) > large:
            parts = (self.names, self.nodes, self.hashed_nodes, self.cuts, self.denial)
            threading.Thread(target=_release, args=parts, name="corepy-zone", daemon=True).start()


def _release(names: list[bytes], *others: object) -> None:
    """Empty the parts of a zone, in portions that take less than a millisecond."""
    while names:
        del names[-_PORTION:]
        time.sleep(0)
    for part in others:
        while isinstance(part, dict) and part:
            for _ in range(min(_PORTION, len(part))):
                part.popitem()
            time.sleep(0)


def _records(owner: bytes, packed: bytes) -> Iterator[Record]:
    rtype, ttl = type_of(packed), ttl_of(packed)
    for rdata in rdatas_of(packed):
        yield Record(owner, ttl, c.CLASS_IN, rtype, rdata)
