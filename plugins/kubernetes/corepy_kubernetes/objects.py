"""The objects of Kubernetes, with only the fields that DNS needs.

They are tuples of plain values, so they compare by value, and can be stored and sent as bytes. An
*address* is the packed form of an IP address, 4 or 16 bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from socket import AF_INET, AF_INET6, inet_pton
from typing import Final, NamedTuple, Protocol

LONGEST_LABEL: Final = 63

_MAPPED: Final = bytes(10) + b"\xff\xff"


def pack_address(text: str) -> bytes | None:
    """Return the address in `text`, None if it is not an IP address.

    An IPv4 address that is mapped to IPv6 becomes the IPv4 address.
    """
    try:
        packed = inet_pton(AF_INET6 if ":" in text else AF_INET, text)
    except (OSError, ValueError):
        return None
    return unmapped(packed)


def unmapped(packed: bytes) -> bytes:
    """Return an address, in its short form if it is an IPv4 address that is mapped to IPv6."""
    return packed[len(_MAPPED) :] if packed.startswith(_MAPPED) else packed


def is_text(text: str) -> bool:
    """Return whether a string can be in an object: all names and labels of Kubernetes are ASCII."""
    return text.isascii()


def is_label(text: str) -> bool:
    """Return whether a string can be a label of a name, which has 1 to 63 bytes."""
    return bool(text) and is_text(text) and len(text) <= LONGEST_LABEL


class Kind(Enum):
    """A kind of object; the value is its resource in the API."""

    SERVICE = "services"
    SLICE = "endpointslices"
    NAMESPACE = "namespaces"
    POD = "pods"
    IMPORT = "serviceimports"

    __hash__ = object.__hash__  # implemented in C, unlike Enum's


class Port(NamedTuple):
    """A port of a service or of endpoints."""

    name: str
    protocol: str
    number: int
    """-1 if the object has no number."""


class Service(NamedTuple):
    """A Service."""

    namespace: str
    name: str
    headless: bool
    """Whether its cluster IP is "None"."""

    addresses: tuple[bytes, ...]
    """The cluster IPs; none if it is headless, or has not got one yet."""

    ports: tuple[Port, ...]
    external_name: str | None = None
    """The target of a service of type ExternalName, None for other types."""

    external: tuple[bytes | str, ...] = ()
    """The external IPs, then those of load balancers, or their host names."""


class Slice(NamedTuple):
    """An EndpointSlice, with the addresses of its ready endpoints."""

    namespace: str
    name: str
    service: str
    """The name of its service, "" without."""

    ports: tuple[Port, ...]
    size: int
    """Bytes of each address, 4 or 16."""

    addresses: bytes
    """The addresses, joined."""

    hostnames: tuple[str, ...] = ()
    """The host name of each address, "" without; empty if none has one."""

    pods: tuple[str, ...] = ()
    """The name of the pod of each address, likewise; only with `Needs.pod_names`."""

    zones: tuple[str, ...] = ()
    """The zone of each address in lower case, likewise; only with `Needs.zones`."""

    imported: str = ""
    """The name of the ServiceImport whose endpoints it has; only with `Needs.imports`."""

    cluster: str = ""
    """The cluster of these endpoints."""


class Namespace(NamedTuple):
    """A Namespace."""

    name: str

    @property
    def namespace(self) -> str:
        """Namespaces are in no namespace."""
        return ""


class Pod(NamedTuple):
    """A Pod that is not in a terminal phase."""

    namespace: str
    name: str
    addresses: tuple[bytes, ...]
    labels: tuple[tuple[str, str], ...] = ()
    """Only with `Needs.pod_labels`."""


class Import(NamedTuple):
    """A ServiceImport: a service of several clusters (Multi-Cluster Services API)."""

    namespace: str
    name: str
    headless: bool
    addresses: tuple[bytes, ...]
    ports: tuple[Port, ...]


Item = Service | Slice | Namespace | Pod | Import

KINDS: Final[dict[type[Item], Kind]] = {
    Service: Kind.SERVICE,
    Slice: Kind.SLICE,
    Namespace: Kind.NAMESPACE,
    Pod: Kind.POD,
    Import: Kind.IMPORT,
}


@dataclass(frozen=True, slots=True)
class Needs:
    """The objects and fields that a configuration needs."""

    slices: bool = True
    pods: bool = False
    imports: bool = False
    labels: str = ""
    """A label selector for services, slices, pods and imports."""

    namespace_labels: str = ""
    """A label selector for namespaces."""

    pod_labels: bool = False
    pod_names: bool = False
    zones: bool = False

    def kinds(self) -> tuple[Kind, ...]:
        """Return the kinds of the objects.

        Without `slices` but with `imports`, only the slices of imports are needed.
        """
        wanted = {
            Kind.NAMESPACE: True,
            Kind.SERVICE: True,
            Kind.SLICE: self.slices or self.imports,
            Kind.POD: self.pods,
            Kind.IMPORT: self.imports,
        }
        return tuple(kind for kind, is_wanted in wanted.items() if is_wanted)


class Serials(NamedTuple):
    """When the objects have changed last, in seconds since the epoch."""

    internal: int = 0
    """The records of the cluster's own services, endpoints and pods."""

    external: int = 0
    """The addresses of services for clients outside."""

    imports: int = 0
    """The records of multi-cluster services."""


class Relist(Protocol):
    """A list of all objects of a kind, which replaces those that are known."""

    def put(self, item: Item) -> None:
        """Add or replace an object of the list."""

    def finish(self) -> None:
        """End the list: remove the objects that are not in it."""


class Feed(Protocol):
    """Takes the objects, in the event loop."""

    @property
    def serials(self) -> Serials:
        """When the objects have changed last."""

    @serials.setter
    def serials(self, serials: Serials) -> None: ...

    def put(self, item: Item, triggered: float | None = None) -> None:
        """Add or replace an object.

        `triggered` is the time of the change of a service or pod that has changed a slice, in
        seconds since the epoch.
        """

    def remove(self, kind: Kind, namespace: str, name: str) -> None:
        """Remove an object; without effect if it is not known."""

    def relist(self, kind: Kind) -> Relist:
        """Begin a list of all objects of a kind; nothing is removed before its end."""
