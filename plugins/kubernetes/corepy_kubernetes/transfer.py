"""The records of a zone for its transfer (CoreDNS: plugin/kubernetes/xfr.go)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corepy.dns import constants as c
from corepy.dns.names import MAX_NAME
from corepy.dns.records import rr
from corepy_kubernetes.answers import WEIGHTS
from corepy_kubernetes.lookup import NO_PORT, alias_target, matching
from corepy_kubernetes.names import SVC, Parts, wire_label

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from corepy_kubernetes.index import Index
    from corepy_kubernetes.lookup import Finder
    from corepy_kubernetes.names import OwnZone
    from corepy_kubernetes.objects import Import, Port, Service, Slice

_PORTION: Final = 100
"""Services of a portion."""


class ZoneDump:
    """Makes the records of all services, as they are when it is created."""

    def __init__(self, index: Index, finder: Finder, zone: OwnZone, ttl: int) -> None:
        self._finder = finder
        self._zone = zone
        self._ttl = ttl
        items: dict[bytes, Service] | dict[bytes, Import]
        items = index.imports if zone.is_multicluster else index.services
        slices = index.slices_of_import if zone.is_multicluster else index.slices_of
        self._items: list[tuple[bytes, Service | Import]] = [
            (key, item) for key, item in items.items() if index.is_exposed(item.namespace)
        ]
        self._slices = dict(slices)

    def portions(self) -> Iterator[list[bytes]]:
        """Yield the records of some services at a time, in the order of their names."""
        self._items.sort(key=lambda it: (it[1].name, it[1].namespace))
        portion: list[bytes] = []
        for number, (key, item) in enumerate(self._items):
            portion += self._records(key, item)
            if number % _PORTION == _PORTION - 1:
                yield portion
                portion = []
        yield portion

    def _records(self, key: bytes, item: Service | Import) -> Iterable[bytes]:
        owner = key + SVC + self._zone.wire
        external_name = getattr(item, "external_name", None)
        if external_name is not None:
            target = alias_target(external_name)
            return () if target is None else (self._rr(owner, c.TYPE_CNAME, target),)
        if item.headless:
            return dict.fromkeys(self._headless(key, owner))
        return self._cluster(owner, item)

    def _cluster(self, owner: bytes, item: Service | Import) -> Iterator[bytes]:
        for address in item.addresses:
            yield self._address(owner, address)
        if not item.addresses:
            return
        for port in matching(Parts(), item.ports):
            if port.number != NO_PORT:
                yield self._srv(owner, WEIGHTS, port, owner)
                yield from self._named_srv(owner, WEIGHTS, port, owner)

    def _headless(self, key: bytes, owner: bytes) -> Iterator[bytes]:
        for slice_ in self._slices.get(key, ()):
            weight = max(WEIGHTS * slice_.size // max(len(slice_.addresses), 1), 1)
            cluster = wire_label(slice_.cluster) if self._zone.is_multicluster else b""
            for label, address in self._finder.endpoints(slice_):
                name = label + cluster + owner
                if len(name) > MAX_NAME:
                    continue
                yield self._address(owner, address)
                yield self._address(name, address)
                yield from self._endpoint_ports(owner, name, weight, slice_)

    def _endpoint_ports(
        self, owner: bytes, name: bytes, weight: int, slice_: Slice
    ) -> Iterator[bytes]:
        for port in slice_.ports:
            if port.number != NO_PORT:
                yield from self._named_srv(owner, weight, port, name)

    def _named_srv(self, owner: bytes, weight: int, port: Port, target: bytes) -> Iterator[bytes]:
        """Yield the SRV record of a port; one without a name has none."""
        if port.name:
            labels = wire_label("_" + port.name) + wire_label("_" + port.protocol)
            if len(labels + owner) <= MAX_NAME:
                yield self._srv(labels + owner, weight, port, target)

    def _srv(self, owner: bytes, weight: int, port: Port, target: bytes) -> bytes:
        numbers = (0, weight, port.number & 0xFFFF)
        data = b"".join(number.to_bytes(2, "big") for number in numbers)
        return self._rr(owner, c.TYPE_SRV, data + target)

    def _address(self, owner: bytes, address: bytes) -> bytes:
        return self._rr(owner, c.TYPE_A if len(address) == 4 else c.TYPE_AAAA, address)

    def _rr(self, owner: bytes, qtype: int, data: bytes) -> bytes:
        return rr(owner, qtype, self._ttl, data)

    def name_servers(self, servers: Sequence[tuple[bytes, bytes]]) -> Iterator[bytes]:
        """Yield the NS records of the zone, and the addresses of the name servers."""
        zone = self._zone.wire
        for name in dict.fromkeys(labels + zone for labels, _ in servers):
            yield self._rr(zone, c.TYPE_NS, name)
        for labels, address in servers:
            yield self._address(labels + zone, address)
