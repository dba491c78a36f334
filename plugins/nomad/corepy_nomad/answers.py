"""The records of one service, and the replies that are made from them."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final

from corepy.dns import constants as c
from corepy.dns.records import rr
from corepy.plugin.backend_records import is_name, parse_host
from corepy.plugin.backend_replies import LARGEST, QNAME, pointer_to, reply_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from corepy.dns import Reply, Request
    from corepy_nomad.responses import Instance

PRIORITY: Final = 10
WEIGHT: Final = 10
"""The priority and the weight of SRV records, as in CoreDNS."""

NEGATIVE_TTL: Final = 30
"""Seconds for which a denial is valid at most, as in CoreDNS."""

LARGEST_SET: Final = 24_000
"""Bytes of the addresses of one family, so that those of both fit beside SRV records."""

_SERVER: Final = b"\x03ns1"
_MAILBOX: Final = b"\x0ahostmaster"
_TIMES: Final = (3600, 600, 86_400, 30)
"""Refresh, retry, expire and minimum of the SOA record in seconds, as in CoreDNS."""

_pack_record = Struct("!2sHHIH").pack
_pack_srv = Struct("!HHH").pack
_pack_times = Struct("!IIIII").pack


class Records:
    """The records of one type, as bytes whose owner is the name in the question."""

    __slots__ = ("body", "count")

    def __init__(self, records: Iterable[bytes], most: int) -> None:
        """Join the first records that have at most `most` bytes."""
        chosen: list[bytes] = []
        for record in records:
            most -= len(record)
            if most < 0:
                break
            chosen.append(record)
        self.body = b"".join(chosen)
        self.count = len(chosen)


class Answers:
    """The records of one service, each once."""

    __slots__ = ("_srv", "addresses", "instances", "ttl")

    def __init__(self, instances: Iterable[Instance], ttl: int) -> None:
        """Make the records of all instances, which have a TTL of `ttl` seconds."""
        self.ttl = ttl
        self.instances = tuple(dict.fromkeys(instances))
        hosts = [parse_host(it.address) for it in self.instances]
        self.addresses = {
            qtype: Records(
                (
                    _pack_record(QNAME, qtype, c.CLASS_IN, ttl, len(rdata)) + rdata
                    for rdata in dict.fromkeys(it.rdata for it in hosts if it.rtype == qtype)
                ),
                LARGEST_SET,
            )
            for qtype in (c.TYPE_A, c.TYPE_AAAA)
        }
        self._srv = dict.fromkeys(
            (it.port, host.rdata if is_name(host) else b"")
            for it, host in zip(self.instances, hosts, strict=True)
            if host.rtype
        )
        """The port and the target of each SRV record; b"" is the name of the service itself."""

    def __bool__(self) -> bool:
        """Return whether there is an instance with an address or the name of a host."""
        return bool(self._srv)

    @property
    def has_hosts(self) -> bool:
        """Whether the address of an instance is the name of a host."""
        return any(target for _, target in self._srv)

    def is_like(self, other: Answers | None) -> bool:
        """Return whether the records are those of `other`."""
        return other is not None and set(self.instances) == set(other.instances)

    def reply(self, request: Request, end: int, serial: int) -> Reply:
        """Return the reply to a query for the service, without names of hosts but in SRV records.

        The zone begins at `end` in the name of the query.
        """
        qtype = request.qtype
        if qtype == c.TYPE_SRV:
            return self._services(request)
        if qtype == c.TYPE_ANY:  # one set is enough (RFC 8482 section 4.1)
            found = self.addresses[c.TYPE_A]
            found = found if found.count else self.addresses[c.TYPE_AAAA]
            return reply_of(request, c.NOERROR, (found.count, 0, 0), (found.body,))
        known = self.addresses.get(qtype)
        if known is None or not known.count:
            return denial(request, c.NOERROR, end, serial, self.ttl)
        return reply_of(request, c.NOERROR, (known.count, 0, 0), (known.body,))

    def _services(self, request: Request) -> Reply:
        name = request.question[:-4]
        found = Records((self._service(*each, name) for each in self._srv), LARGEST)
        added = self._additional(LARGEST - len(found.body))
        counts = found.count, 0, sum(it.count for it in added)
        return reply_of(request, c.NOERROR, counts, (found.body, *(it.body for it in added)))

    def _service(self, port: int, target: bytes, name: bytes) -> bytes:
        data = _pack_srv(PRIORITY, WEIGHT, port) + (target or name)
        return _pack_record(QNAME, c.TYPE_SRV, c.CLASS_IN, self.ttl, len(data)) + data

    def _additional(self, room: int) -> Sequence[Records]:
        added = []
        for records in self.addresses.values():
            room -= len(records.body)
            if room >= 0:
                added.append(records)
        return added


def soa_reply(request: Request, serial: int, ttl: int) -> Reply:
    """Return the reply to a query for the SOA record at the name of the zone."""
    return reply_of(request, c.NOERROR, (1, 0, 0), (_soa_at(0, serial, ttl),))


def denial(request: Request, rcode: int, end: int, serial: int, ttl: int) -> Reply:
    """Return a reply without records, which the SOA record of the zone makes cacheable.

    The zone begins at `end` in the name of the query.
    """
    return reply_of(request, rcode, (0, 1, 0), (_soa_at(end, serial, ttl),))


def _soa_at(end: int, serial: int, ttl: int) -> bytes:
    """Return a SOA record whose names end in a pointer to the zone, in the question."""
    return soa_record(pointer_to(c.HEADER_SIZE + end), serial, ttl)


def soa_record(zone: bytes, serial: int, ttl: int) -> bytes:
    """Return the SOA record of a zone, which is a name or a pointer to one."""
    times = _pack_times(serial & 0xFFFF_FFFF, *_TIMES)
    data = b"".join((_SERVER, zone, _MAILBOX, zone, times))
    return rr(zone, c.TYPE_SOA, min(ttl, NEGATIVE_TTL), data)
