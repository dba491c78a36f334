"""Makes replies from the records that were found."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final

from corepy.dns import constants as c
from corepy.dns.names import MAX_NAME
from corepy.plugin.backend_records import soa_rdata
from corepy.plugin.backend_replies import LARGEST, QNAME, pointer_to, reply_of
from corepy_kubernetes.answered import Prepared

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from corepy.dns import Reply, Request
    from corepy_kubernetes.lookup import Target

SCHEMA_VERSION: Final = b"\x051.1.0"
SCHEMA_TTL: Final = 28_800
"""The record `dns-version`."""

LONGEST_SOA_TTL: Final = 300
"""Seconds of the TTL of SOA records at most, as in CoreDNS (plugin/backend_lookup.go)."""

WEIGHTS: Final = 100
"""The weights of SRV records are this number, divided among the records."""

_MNAME: Final = b"\x02ns\x03dns"
_RNAME: Final = b"\x0ahostmaster"
_LAST_POINTER: Final = 0x3FFF
_FIXED: Final = 12
"""Bytes of a record before its data, if its owner is a pointer."""

_pack_record = Struct("!2sHHIH").pack
_pack_fixed = Struct("!HHIH").pack
_pack_srv = Struct("!HHH").pack


class Answers:
    """Makes replies with one TTL."""

    def __init__(self, ttl: int) -> None:
        """Give records a TTL of `ttl` seconds."""
        self.ttl = ttl
        self._fixed = {
            c.TYPE_A: _pack_record(QNAME, c.TYPE_A, c.CLASS_IN, ttl, 4),
            c.TYPE_AAAA: _pack_record(QNAME, c.TYPE_AAAA, c.CLASS_IN, ttl, 16),
        }

    def again(self, request: Request, prepared: Prepared) -> Reply:
        """Return the reply with a prepared answer."""
        counts = prepared.answers, 0, prepared.additional
        return reply_of(request, c.NOERROR, counts, (prepared.body,))

    def addresses(self, qtype: int, targets: Iterable[Target]) -> Prepared | None:
        """Return the address records of a name; None if it has none of this type."""
        return self.of_addresses(qtype, (it.address for it in targets))

    def of_addresses(self, qtype: int, addresses: Iterable[bytes]) -> Prepared | None:
        """Return the records with addresses of this type; None without any."""
        fixed = self._fixed[qtype]
        size = 4 if qtype == c.TYPE_A else 16
        found = dict.fromkeys(it for it in addresses if len(it) == size)
        if not found:
            return None
        records = [fixed + address for address in found]
        del records[LARGEST // len(records[0]) :]
        return Prepared(len(records), 0, b"".join(records))

    def services(self, request: Request, targets: Sequence[Target], zone: bytes) -> Prepared | None:
        """Return the SRV records of a name, and their addresses; None without any.

        `zone` is the zone of the targets in the case of the query. The owners of the addresses are
        pointers to the targets, which may not be compressed themselves (RFC 2782).
        """
        weight = max(WEIGHTS // len(targets), 1) if targets else 0
        at = c.HEADER_SIZE + len(request.question)
        places: dict[bytes, int] = {}
        records: dict[tuple[bytes, int], bytes] = {}
        additional: dict[tuple[bytes, bytes], int] = {}
        for owner, address, port in targets:
            if port < 0 or len(owner) + len(zone) > MAX_NAME:
                continue
            if (owner, port) not in records:
                name = owner + zone
                data = _pack_srv(0, weight, port & 0xFFFF) + name
                record = _pack_record(QNAME, c.TYPE_SRV, c.CLASS_IN, self.ttl, len(data)) + data
                if at + len(record) > LARGEST:
                    break
                places.setdefault(owner, at + _FIXED + 6)
                records[owner, port] = record
                at += len(record)
            additional[owner, address] = places[owner]
        if not records:
            return None
        more: list[bytes] = []
        for (owner, address), place in additional.items():
            name = pointer_to(place) if place <= _LAST_POINTER else owner + zone
            record = name + self._address_fixed(address) + address
            at += len(record)
            if at > LARGEST:
                break
            more.append(record)
        return Prepared(len(records), len(more), b"".join((*records.values(), *more)))

    def _address_fixed(self, address: bytes) -> bytes:
        qtype = c.TYPE_A if len(address) == 4 else c.TYPE_AAAA
        return _pack_fixed(qtype, c.CLASS_IN, self.ttl, len(address))

    def pointers(self, request: Request, names: Iterable[bytes]) -> Reply:
        """Return a reply with PTR records to these names."""
        return self._named(request, c.TYPE_PTR, names)

    def alias(self, request: Request, target: bytes) -> Reply:
        """Return a reply with a CNAME record."""
        return self._named(request, c.TYPE_CNAME, (target,))

    def _named(self, request: Request, qtype: int, names: Iterable[bytes]) -> Reply:
        records: list[bytes] = []
        size = 0
        for name in names:
            if len(name) > MAX_NAME:
                continue
            record = _pack_record(QNAME, qtype, c.CLASS_IN, self.ttl, len(name)) + name
            size += len(record)
            if size > LARGEST:
                break
            records.append(record)
        return reply_of(request, c.NOERROR, (len(records), 0, 0), records)

    def name_servers(
        self, request: Request, zone: bytes, servers: Sequence[tuple[bytes, bytes]]
    ) -> Reply:
        """Return a reply with NS records of the zone, and their addresses.

        `servers` has the labels of each name without `zone`, and an address.
        """
        names = dict.fromkeys(owner + zone for owner, _ in servers)
        fixed = (_pack_record(QNAME, c.TYPE_NS, c.CLASS_IN, self.ttl, len(it)) for it in names)
        records = [head + name for head, name in zip(fixed, names, strict=True)]
        more = [owner + zone + self._address_fixed(it) + it for owner, it in servers]
        return reply_of(request, c.NOERROR, (len(records), 0, len(more)), (*records, *more))

    def schema_version(self, request: Request) -> Reply:
        """Return a reply with the version of the specification."""
        size = len(SCHEMA_VERSION)
        fixed = _pack_record(QNAME, c.TYPE_TXT, c.CLASS_IN, SCHEMA_TTL, size)
        return reply_of(request, c.NOERROR, (1, 0, 0), (fixed, SCHEMA_VERSION))

    def soa(self, request: Request, end: int, serial: int) -> Reply:
        """Return a reply with the SOA record of the zone that begins at `end` in the name."""
        return reply_of(request, c.NOERROR, (1, 0, 0), (self._soa_at(end, serial),))

    def denial(self, request: Request, rcode: int, end: int, serial: int) -> Reply:
        """Return a reply without records, which the SOA record of the zone makes cacheable."""
        return reply_of(request, rcode, (0, 1, 0), (self._soa_at(end, serial),))

    def _soa_at(self, end: int, serial: int) -> bytes:
        """Return a SOA record whose names end in a pointer to the zone, in the question."""
        return self.soa_record(pointer_to(c.HEADER_SIZE + end), serial)

    def soa_record(self, zone: bytes, serial: int) -> bytes:
        """Return the SOA record of a zone, which is a name or a pointer to one."""
        data = soa_rdata(_MNAME + zone, _RNAME + zone, serial, self.ttl)
        ttl = min(self.ttl, LONGEST_SOA_TTL)
        return zone + _pack_fixed(c.TYPE_SOA, c.CLASS_IN, ttl, len(data)) + data
