"""The records of a zone for a transfer: those that the queries for its names get."""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import TYPE_CHECKING, Final

from corepy.dns import constants as c
from corepy.dns.names import parent_offsets
from corepy.dns.records import rr
from corepy.plugin.backend_records import RRset, SRVTarget, parse_host, srv_rdata, target_of, weigh
from corepy.zone import is_newer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from corepy.plugin.backend_records import Host
    from corepy.plugin.protocols import ExternalServiceSource, Service
    from corepy_k8s_external.zone import ExternalZone

PORTION: Final = 100
"""Records of a portion."""

TURN: Final = 200
"""Services that are processed in one turn of the event loop, in about a millisecond."""

_ENDPOINT: Final = "endpoint"


class Owner:
    """The records of one name."""

    __slots__ = ("addresses", "alias", "name", "ports")

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.addresses: dict[int, RRset] = {}
        self.alias: bytes | None = None
        self.ports: list[tuple[SRVTarget, int]] = []

    def add_host(self, host: Host, ttl: int) -> None:
        """Add an address, or a name that this one is an alias of."""
        if host.rtype != c.TYPE_CNAME:
            self.addresses.setdefault(host.rtype, RRset(self.name, host.rtype)).add(host.rdata, ttl)
        elif self.alias is None:
            self.alias = host.rdata

    def records(self, ttl: int) -> Iterator[bytes]:
        """Yield the records; an alias has no others, and gives way to addresses.

        A zone with a CNAME record beside others is refused by secondary servers (RFC 1034 section
        3.6.2).
        """
        if self.alias is not None and not self.addresses:
            yield rr(self.name, c.TYPE_CNAME, ttl, self.alias)
            return
        for addresses in self.addresses.values():
            yield from addresses
        for target, weight in weigh(self.ports).items():
            yield rr(self.name, c.TYPE_SRV, ttl, srv_rdata(target, weight))


async def dump(
    zone: ExternalZone,
    source: ExternalServiceSource,
    serial: int | None,
    ttl: int,
    *,
    headless: bool,
) -> AsyncIterator[list[bytes]]:
    """Yield the records in portions, as `corepy.plugin.protocols.TransferSource`."""
    current = source.external_serial(zone.origin) & 0xFFFFFFFF
    soa = zone.soa(current)
    if serial is not None and (serial == current or is_newer(serial, current)):
        yield [soa]
        return
    addresses = source.name_server_addresses(None, headless=headless)
    yield [soa, zone.ns(zone.origin), *zone.server_records(zone.server, addresses)]
    owners: dict[bytes, Owner] = {}
    services = source.all_external_services(zone.origin, headless=headless)
    for count, service in enumerate(services):
        _add(owners, service, ttl)
        if count % TURN == TURN - 1:
            await asyncio.sleep(0)
    records = (it for owner in owners.values() for it in owner.records(ttl))
    while portion := list(islice(records, PORTION)):
        yield portion
    yield [soa]


def _add(owners: dict[bytes, Owner], service: Service, ttl: int) -> None:
    """Add the records of one service to the names that have them."""
    key, host = service.key, parse_host(service.host)
    is_port = service.stripped_labels > 0 or service.group == "port"
    names = [key]
    if service.group == _ENDPOINT:
        names.append(key[parent_offsets(key)[1] :])
    for name in names:
        owner = owners.get(name)
        if owner is None:
            owner = owners[name] = Owner(name)
        if not is_port:
            owner.add_host(host, ttl)
        if service.port >= 0:
            target = SRVTarget(service.priority, service.port, target_of(service, host))
            owner.ports.append((target, service.weight))
