"""The names and addresses of this name server (CoreDNS: plugin/kubernetes/ns.go).

They are those of the services whose endpoints have an address of this server. Outside of a cluster
there are none, so the name server is ns.dns.ZONE, at the server's own addresses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from corepy.net.interfaces import read_interfaces
from corepy_kubernetes.names import NAME_SERVER, SVC, service_key
from corepy_kubernetes.objects import pack_address

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from corepy_kubernetes.index import Index
    from corepy_kubernetes.lookup import Finder
    from corepy_kubernetes.objects import Service, Slice

    Server = tuple[bytes, bytes]
    """The labels of a name before the zone, and an address."""


def local_addresses(hosts: Iterable[str]) -> list[bytes]:
    """Return the addresses of a server that listens on `hosts`, without those of the loopback.

    For "", these are the addresses of all interfaces of this host.
    """
    found: dict[bytes, None] = {}
    for host in hosts:
        texts = [host] if host else _host_addresses()
        for text in texts:
            address = pack_address(text.partition("%")[0])
            if address is not None and not _is_loopback(address):
                found[address] = None
    return list(found)


def _host_addresses() -> list[str]:
    return [it for several in read_interfaces().addresses.values() for it in several]


def _is_loopback(address: bytes) -> bool:
    return address[0] == 127 if len(address) == 4 else address == bytes(15) + b"\1"


class NameServers:
    """The services that clients reach this server through."""

    def __init__(self, index: Index, finder: Finder) -> None:
        self._index = index
        self._finder = finder
        self.local: Sequence[bytes] = ()
        """The addresses of this server."""

    def inside(self) -> list[Server]:
        """Return the names and addresses for clients in the cluster, each once."""
        found: dict[Server, None] = {}
        is_endpoint = False
        for slice_, service in self._services():
            is_endpoint = True
            if service is None:
                continue
            owner = service_key(service.namespace, service.name) + SVC
            if service.headless:
                found.update(
                    ((label + owner, it), None) for label, it in self._finder.endpoints(slice_)
                )
            else:
                found.update(((owner, address), None) for address in service.addresses)
        if not is_endpoint:
            return [(NAME_SERVER, address) for address in self.local]
        return list(found)

    def outside(self, *, headless: bool) -> list[bytes]:
        """Return the addresses for clients outside of the cluster, each once.

        With `headless`, headless services have those of their endpoints.
        """
        found: dict[bytes, None] = {}
        is_endpoint = False
        for slice_, service in self._services():
            is_endpoint = True
            if service is None:
                continue
            if headless and service.headless:
                found.update((it, None) for _, it in self._finder.endpoints(slice_))
            else:
                found.update((it, None) for it in service.external if isinstance(it, bytes))
        return list(found) if is_endpoint else list(self.local)

    def sources(self) -> list[bytes]:
        """Return the keys of what the names and addresses are made of; see `names`."""
        slices = [slice_ for slice_, _ in self._services()]
        services = [service_key(slice_.namespace, slice_.service) for slice_ in slices]
        return [*self.local, *services]

    def _services(self) -> Iterator[tuple[Slice, Service | None]]:
        """Yield the slices with an address of this server, with their services."""
        for address in self.local:
            for slice_ in self._index.slices_at(address):
                key = service_key(slice_.namespace, slice_.service)
                yield slice_, self._index.services.get(key)
