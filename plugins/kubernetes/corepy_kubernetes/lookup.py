"""Finds the records of a name (CoreDNS: plugin/kubernetes/kubernetes.go).

The result is a list of targets, an alias, or one of two denials: NO_NAME, and NO_DATA for a name
that exists without records. An empty list is NO_DATA, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from itertools import chain, islice
from typing import TYPE_CHECKING, Final, NamedTuple

from corepy.dns import constants as c
from corepy.dns.names import InvalidName, from_text
from corepy_kubernetes.addresses import dashed, pod_address
from corepy_kubernetes.names import POD, SVC, is_above_zonal_name, wire_label
from corepy_kubernetes.objects import Port, pack_address

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from corepy_kubernetes.index import Index
    from corepy_kubernetes.names import OwnZone, Parts
    from corepy_kubernetes.objects import Import, Service, Slice

NO_PORT: Final = -1
"""The port of a service or of endpoints without ports: they have addresses, but no SRV records."""

MOST_TARGETS: Final = 4096
"""Targets of a name that are found: more than a message has room for, in a few milliseconds."""

_SIZES: Final = {c.TYPE_A: 4, c.TYPE_AAAA: 16}
_WITH_ALL: Final = (c.TYPE_SRV, c.TYPE_ANY)
_NO_PORTS: Final = (Port("", "", NO_PORT),)
_NO_SLICES: Final[tuple[Slice, ...]] = ()


class PodMode(Enum):
    """The names of pods that exist (option `pods`)."""

    DISABLED = "disabled"
    INSECURE = "insecure"
    """Those with any IP address, in an existing namespace."""

    VERIFIED = "verified"
    """Those with the address of a pod in this namespace."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The options that determine which names exist."""

    pods: PodMode = PodMode.DISABLED
    pod_names: bool = False
    """Whether endpoints without a host name have the name of their pod."""

    ignore_empty: bool = False
    """Whether services with a cluster IP need an endpoint to exist."""

    zonal: bool = False


class Denial(Enum):
    """A name without records."""

    NO_NAME = "no name"
    NO_DATA = "no data"


class Target(NamedTuple):
    """An address and a port of a service or an endpoint."""

    owner: bytes
    """The labels of its name, without the zone."""

    address: bytes
    port: int


class Alias(NamedTuple):
    """The name that a service of type ExternalName stands for."""

    target: bytes
    """In wire form."""


Found = list[Target] | Alias | Denial


class Finder:
    """Finds the records of names in the index."""

    def __init__(self, index: Index, rules: Rules) -> None:
        self._index = index
        self._rules = rules

    def find(self, parts: Parts, zone: OwnZone, qtype: int = c.TYPE_SRV) -> Found:
        """Return what the name with these parts has, as far as records of a type need it.

        Without such records, one target of a name that has others is enough.
        """
        if not parts.kind:
            return Denial.NO_DATA
        if zone.is_reverse or parts.namespace not in self._index.exposed:
            return Denial.NO_NAME
        if parts.kind == POD[1:]:
            return self._find_pods(parts)
        if not parts.service:
            return Denial.NO_DATA
        if zone.is_multicluster:
            return self._find_import(parts, qtype)
        return self._find_service(parts, qtype)

    def _find_pods(self, parts: Parts) -> Found:
        mode = self._rules.pods
        if mode is PodMode.DISABLED:
            return Denial.NO_NAME
        if not parts.service:
            return Denial.NO_DATA
        address = pod_address(parts.service)
        if address is None or not (mode is PodMode.INSECURE or self._is_pod(parts, address)):
            return Denial.NO_NAME
        return [Target(parts.key + POD, address, NO_PORT)]

    def _is_pod(self, parts: Parts, address: bytes) -> bool:
        namespace = parts.namespace.decode("ascii", "replace")
        return any(pod.namespace == namespace for pod in self._index.pods_at(address))

    def _find_service(self, parts: Parts, qtype: int) -> Found:
        service = self._index.services.get(parts.key)
        if service is None:
            return Denial.NO_NAME
        slices = self._index.slices_of.get(parts.key, _NO_SLICES)
        if service.external_name is not None:
            return _alias(service.external_name, parts)
        if not service.headless and self._is_ignored(slices):
            return Denial.NO_NAME
        if service.headless or parts.endpoint:
            return self._find_endpoints(parts, slices, service, qtype)
        if parts.zone:
            return Denial.NO_NAME
        return _cluster_targets(parts, service, qtype)

    def _find_import(self, parts: Parts, qtype: int) -> Found:
        item = self._index.imports.get(parts.key)
        if item is None:
            return Denial.NO_NAME
        slices = self._index.slices_of_import.get(parts.key, _NO_SLICES)
        if not item.headless and self._is_ignored(slices):
            return Denial.NO_NAME
        if not item.headless and not parts.endpoint:
            return _cluster_targets(parts, item, qtype)
        is_ambiguous = parts.endpoint and not parts.cluster
        owners = [
            (slice_, wire_label(slice_.cluster) + parts.key + SVC)
            for slice_ in slices
            if not parts.cluster or parts.cluster == slice_.cluster.encode().lower()
        ]
        targets = [] if is_ambiguous else self._all_targets(parts, owners, qtype)
        clusters = (it.cluster.encode().lower() for it in slices)
        if not targets and not parts.cluster and parts.endpoint in clusters:
            return Denial.NO_DATA  # endpoints are below it
        return targets or _absent(parts, slices)

    def _is_ignored(self, slices: Sequence[Slice]) -> bool:
        return self._rules.ignore_empty and not any(slice_.addresses for slice_ in slices)

    def _find_endpoints(
        self, parts: Parts, slices: Sequence[Slice], service: Service, qtype: int
    ) -> Found:
        owners = [(slice_, parts.key + SVC) for slice_ in slices]
        targets = self._all_targets(parts, owners, qtype, parts.zone)
        if parts.zone:
            if not targets and parts.prefers:
                targets = self._all_targets(parts, owners, qtype)
            return targets or Denial.NO_DATA
        if not targets and service.headless and self._rules.zonal and is_above_zonal_name(parts):
            return Denial.NO_DATA
        return targets or _absent(parts, (service, *slices))

    def _all_targets(
        self, parts: Parts, slices: Sequence[tuple[Slice, bytes]], qtype: int, zone: str = ""
    ) -> list[Target]:
        """Return the targets of slices, each with the labels behind those of its endpoints."""
        size = _SIZES.get(qtype)
        if size or qtype in _WITH_ALL:
            wanted = [it for it in slices if size in (None, it[0].size)]
            found = (self.targets(parts, *it, zone, qtype) for it in wanted)
            targets = list(islice(chain.from_iterable(found), MOST_TARGETS))
            if targets:
                return targets
        found = (self.targets(parts, *it, zone, qtype) for it in slices)
        return list(islice(chain.from_iterable(found), 1))

    def targets(
        self,
        parts: Parts,
        slice_: Slice,
        owner: bytes,
        zone: str = "",
        qtype: int = c.TYPE_SRV,
    ) -> Iterator[Target]:
        """Yield the endpoints of a slice that the parts of a name select, with each port.

        `owner` are the labels behind that of the endpoint. For other types than SRV one port is
        enough.
        """
        ports = matching(parts, slice_.ports)
        if qtype not in _WITH_ALL:
            ports = ports[:1]
        if not ports:
            return
        for label, address in self._endpoints(slice_, parts.endpoint, zone):
            for port in ports:
                yield Target(label + owner, address, port.number)

    def _endpoints(
        self, slice_: Slice, endpoint: bytes, zone: str
    ) -> Iterator[tuple[bytes, bytes]]:
        """Yield the label in wire form and the address of each endpoint that is selected."""
        if endpoint:
            at_list: Iterable[int] = self._places(slice_, endpoint)
        else:
            at_list = range(len(slice_.addresses) // slice_.size)
        for at in at_list:
            if zone and not (slice_.zones and slice_.zones[at] == zone):
                continue
            yield self.label(slice_, at), address_at(slice_, at)

    def _places(self, slice_: Slice, endpoint: bytes) -> Iterator[int]:
        """Yield the places of the endpoints with a label, without a look at each of them."""
        text = endpoint.decode("ascii", "replace")
        found = set(_places_of(text, slice_.hostnames))
        if self._rules.pod_names:
            found.update(_places_of(text, slice_.pods))
        address = pod_address(endpoint)
        if address is not None:
            found.update(_places_of_address(slice_, address))
        wanted = wire_label(text)
        for at in sorted(found):
            if self.label(slice_, at).lower() == wanted:
                yield at

    def label(self, slice_: Slice, at: int) -> bytes:
        """Return the label of an endpoint in wire form: host name, pod, or address with dashes."""
        name = slice_.hostnames[at] if slice_.hostnames else ""
        if not name and self._rules.pod_names and slice_.pods:
            name = slice_.pods[at]
        raw = name.encode() if name else dashed(address_at(slice_, at))
        return bytes((len(raw),)) + raw

    def labels_at(self, slice_: Slice, address: bytes) -> Iterator[bytes]:
        """Yield the labels in wire form of the endpoints at an address."""
        for at in _places_of_address(slice_, address):
            yield self.label(slice_, at)

    def endpoints(self, slice_: Slice) -> Iterator[tuple[bytes, bytes]]:
        """Yield the label in wire form and the address of each endpoint of a slice."""
        return self._endpoints(slice_, b"", "")


def address_at(slice_: Slice, at: int) -> bytes:
    """Return the address of an endpoint by its place in the slice."""
    start = at * slice_.size
    return slice_.addresses[start : start + slice_.size]


def alias_target(external_name: str) -> bytes | None:
    """Return the wire form of an external name; None for an address, and for an invalid name."""
    if pack_address(external_name) is not None:
        return None
    try:
        return from_text(external_name)
    except InvalidName:
        return None


def _alias(external_name: str, parts: Parts) -> Found:
    if parts.endpoint or parts.port or parts.protocol or parts.zone:
        return Denial.NO_NAME
    target = alias_target(external_name)
    return Denial.NO_NAME if target is None else Alias(target)


def _cluster_targets(parts: Parts, item: Service | Import, qtype: int) -> Found:
    ports = matching(parts, item.ports)
    if not ports:
        return _absent(parts, (item,))
    owner = parts.key + SVC
    if qtype not in _WITH_ALL:
        ports = ports[:1]
    found = (Target(owner, it, port.number) for port in ports for it in item.addresses)
    return list(islice(found, MOST_TARGETS))


def matching(parts: Parts, ports: Sequence[Port]) -> Sequence[Port]:
    """Return the ports with the name and the protocol in a name, all if it has neither.

    Without ports, that is one without a number.
    """
    ports = ports or _NO_PORTS
    name, protocol = parts.port, parts.protocol
    if not name and not protocol:
        return ports
    return [
        port
        for port in ports
        if (not name or name == port.name.lower().encode())
        and (not protocol or protocol == port.protocol.lower().encode())
    ]


def _absent(parts: Parts, items: Sequence[Slice | Service | Import]) -> Denial:
    """Return NO_DATA if names of ports are below this one, such as _tcp (RFC 8020).

    The underscores are optional, and a label without anything else matches each port.
    """
    if parts.endpoint and not parts.cluster:
        below = parts._replace(endpoint=b"", protocol=parts.endpoint.removeprefix(b"_"))
        if any(matching(below, item.ports) for item in items):
            return Denial.NO_DATA
    return Denial.NO_NAME


def _places_of(text: str, names: tuple[str, ...]) -> Iterator[int]:
    at = -1
    for _ in range(names.count(text)):
        at = names.index(text, at + 1)
        yield at


def _places_of_address(slice_: Slice, address: bytes) -> Iterator[int]:
    size = slice_.size
    if len(address) != size:
        return
    at = slice_.addresses.find(address)
    while at >= 0:
        if not at % size:
            yield at // size
        at = slice_.addresses.find(address, at + 1)
