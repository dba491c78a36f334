"""The services for clients outside of the cluster (CoreDNS: plugin/kubernetes/external.go).

*k8s_external* answers from them: SERVICE.NAMESPACE.ZONE, [_PORT._PROTOCOL.]SERVICE.NAMESPACE.ZONE,
and for headless services ENDPOINT.SERVICE.NAMESPACE.ZONE.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from corepy.dns import constants as c
from corepy.dns.names import labels_of, to_text
from corepy.plugin.protocols import Service as Entry
from corepy_kubernetes.addresses import address_of, text_of
from corepy_kubernetes.lookup import MOST_TARGETS, Finder, matching
from corepy_kubernetes.names import APEX, Parts, external_key_of, service_key, wire_label

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from corepy.dns import Request
    from corepy_kubernetes.index import Index
    from corepy_kubernetes.objects import Port, Service

ENDPOINTS: Final = "endpoint"
PORTS: Final = "port"
"""The groups of the entries of headless services in a transfer."""

_SERVICE_LABELS: Final = 2


class ExternalServices:
    """The services that have external IPs, and the headless ones."""

    def __init__(self, index: Index, finder: Finder, ttl: int) -> None:
        self._index = index
        self._finder = finder
        self._ttl = ttl

    def find(self, request: Request, zone: bytes, *, headless: bool) -> Sequence[Entry] | None:
        """Return the services of a name in `zone`; None if the name does not exist."""
        name = request.name_wire
        is_pointer = request.qtype == c.TYPE_PTR
        address = address_of(name) if is_pointer else None
        if address is not None:
            return self._at(address) or None
        parts = _parse(name, zone)
        if parts is None or (parts.namespace and parts.namespace not in self._index.exposed):
            return None
        if not parts.service:
            return ()
        service = self._index.services.get(parts.key)
        entries = () if service is None else self._of(service, parts, zone, headless=headless)
        found = list(islice(entries, MOST_TARGETS))
        if not found:
            return None
        return () if is_pointer else found

    def _at(self, address: bytes) -> list[Entry]:
        """Return the services with an external IP, without the zone of their names."""
        return [
            Entry(b"", f"{it.name}.{it.namespace}", ttl=self._ttl)
            for it in self._index.services_outside(address)
        ]

    def _of(
        self, service: Service, parts: Parts, zone: bytes, *, headless: bool
    ) -> Iterator[Entry]:
        key = service_key(service.namespace, service.name)
        if headless and not service.external and (service.headless or parts.endpoint):
            for slice_ in self._index.slices_of.get(key, ()):
                for target in self._finder.targets(parts, slice_, key):
                    yield self._entry(target.owner + zone, text_of(target.address), target.port)
            return
        for host in service.external:
            for port in matching(parts, service.ports):
                yield self._entry(key + zone, _text(host), port.number)

    def _entry(
        self, key: bytes, host: str, port: int, *, group: str = "", stripped_labels: int = 0
    ) -> Entry:
        ttl = self._ttl
        return Entry(key, host, port, ttl=ttl, group=group, stripped_labels=stripped_labels)

    def all(self, zone: bytes, *, headless: bool) -> Iterable[Entry]:
        """Yield all services, for a transfer of `zone`."""
        for key, service in list(self._index.services.items()):
            if not self._index.is_exposed(service.namespace):
                continue
            if service.external:
                yield from self._outside(service, key + zone)
            elif headless and service.headless:
                yield from self._headless(key, zone)

    def _outside(self, service: Service, key: bytes) -> Iterator[Entry]:
        for host in map(_text, service.external):
            for port in matching(Parts(), service.ports):
                yield self._entry(key, host, port.number)
                if port.name:
                    named = _port_labels(port) + key
                    yield self._entry(named, host, port.number, stripped_labels=2)

    def _headless(self, key: bytes, zone: bytes) -> Iterator[Entry]:
        for slice_ in self._index.slices_of.get(key, ()):
            for label, address in self._finder.endpoints(slice_):
                owner = label + key + zone
                for port in matching(Parts(), slice_.ports):
                    host = text_of(address)
                    yield self._entry(owner, host, port.number, group=ENDPOINTS)
                    if port.name:
                        named = _port_labels(port) + key + zone
                        yield self._entry(named, to_text(owner), port.number, group=PORTS)

    def key_of(self, name: bytes, zone: bytes) -> bytes:
        """Return the key of a name in `zone`, or of a reverse name; see `names`."""
        return address_of(name) or external_key_of(name, zone) or APEX


def _text(host: bytes | str) -> str:
    return host if isinstance(host, str) else text_of(host)


def _port_labels(port: Port) -> bytes:
    return wire_label("_" + port.name) + wire_label("_" + port.protocol)


def _parse(name: bytes, zone: bytes) -> Parts | None:
    """Return the parts of a name in `zone`; None if it has too many labels."""
    labels = labels_of(name[: len(name) - len(zone)] + b"\0")
    if not labels:
        return Parts()
    namespace = labels.pop()
    if not labels:
        return Parts(namespace=namespace)
    service = labels.pop()
    key = b"".join(bytes((len(it),)) + it for it in (service, namespace))
    if len(labels) > _SERVICE_LABELS:
        return None
    bare = [it.removeprefix(b"_") for it in labels]
    if len(bare) == 1:
        return Parts(namespace=namespace, service=service, endpoint=bare[0], key=key)
    port, protocol = bare or (b"", b"")
    return Parts(namespace=namespace, service=service, port=port, protocol=protocol, key=key)
