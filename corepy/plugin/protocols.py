"""What a handler can do for other plugins of its block, as protocols.

A plugin finds the handlers that implement a protocol with `BlockHandlers`
(`corepy.plugin.block_handlers`), whichever distribution they come from. isinstance() checks that a
handler has the methods, not their parameters. A handler implements a protocol by having its methods
and need not subclass it.

Names are in wire form and lower case, records are bytes from `corepy.dns.records.rr`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Iterable, Sequence

    from corepy.dns import Request

    ZoneRecords = Iterable[Sequence[bytes]] | AsyncIterable[Sequence[bytes]]


@runtime_checkable
class TransferSource(Protocol):
    """A handler whose zones can be transferred (CoreDNS: transfer.Transferer)."""

    def transfer_zone(self, zone: bytes, serial: int | None) -> ZoneRecords | None:
        """Return the records of `zone` in portions, which are made as they are sent.

        None if the handler is not authoritative for exactly this zone: another one is asked then.
        The records begin and end with the SOA record. `serial` is that of the client (IXFR), None
        for the whole zone (AXFR). To a client that has the zone already, the records are the SOA
        record alone; serials are compared by RFC 1982. A source that keeps no differences returns
        the whole zone.
        """


@runtime_checkable
class SecondaryNotifier(Protocol):
    """A handler that notifies the secondary servers of zones (CoreDNS: transfer.Notify)."""

    def notify_secondaries(self, zone: bytes) -> None:
        """Notify the secondary servers of a new version of `zone`; it returns at once.

        A `TransferSource` calls it in the hook `serving`, and after each change of a zone's serial,
        in every process: the notifier chooses the process that sends. One that is also a
        `corepy.zone.ZoneSource` need not call it, because the notifier subscribes to its zones.
        """


@runtime_checkable
class MetricsZones(Protocol):
    """A handler whose zones come and go, and label the queries in metrics (metrics.AddZone)."""

    def metrics_zone(self, name: bytes) -> str | None:
        """Return the zone that answers for a name, such as "example.org.", None if none does."""


@runtime_checkable
class SearchPathSource(Protocol):
    """A handler that knows the search path of a client (CoreDNS: autopath.AutoPather)."""

    def search_path(self, request: Request) -> Sequence[bytes]:
        """Return the suffixes that the client's resolver would try, in this order.

        The root name is the name without a suffix. Empty if the search path of this client is not
        known.
        """


@runtime_checkable
class OwnNames(Protocol):
    """A handler with names of its own among those of another server, as *hosts* has them.

    The other server may deny a name that is above one of them, so this denial proves nothing about
    the names below (RFC 8020).
    """

    async def has_names_below(self, name: bytes) -> bool:
        """Return whether the handler has a name below `name`, or a wildcard there.

        A later change of the answer must be preceded by `LifecycleContext.forget_names`.
        """


@dataclass(frozen=True, slots=True)
class Service:
    """An entry of a record backend (CoreDNS: plugin/etcd/msg, Service)."""

    key: bytes
    """The name of the entry."""

    host: str = ""
    """An IP address, or the name of a host in text form."""

    port: int = 0
    """The port; -1 for a service without one, which makes no SRV record."""

    priority: int = 0
    weight: int = 0
    text: str = ""
    is_mail: bool = False
    """Whether the entry is a mail exchanger, with its priority as the preference."""

    ttl: int = 0
    """Seconds."""

    group: str = ""
    """Entries of one name are answered together only if they are in one group."""

    stripped_labels: int = 0
    """The number of labels that are removed from the key, to make the target of SRV and MX records.

    Only for a host that is an address: a name is the target itself.
    """


@runtime_checkable
class RecordBackend(Protocol):
    """A handler that answers from services, not from records (CoreDNS: plugin.ServiceBackend)."""

    async def services_at(self, request: Request, *, exact: bool) -> Sequence[Service] | None:
        """Return the services of the name in `request`; None if the name does not exist.

        With `exact`, those of names below it are left out.
        """

    async def services_of_address(self, request: Request) -> Sequence[Service] | None:
        """Return the services with the address that the reverse name in `request` denotes."""

    def backend_serial(self, zone: bytes) -> int:
        """Return the serial for the SOA record of `zone`."""


@runtime_checkable
class ExternalServiceSource(Protocol):
    """A handler that knows which services clients outside can use (k8s_external: Externaler)."""

    @property
    def synced(self) -> bool:
        """Whether the services are known."""

    def add_external_zone(self, zone: bytes) -> None:
        """Remove replies for changed names in `zone` from the caches, too."""

    def external_services(
        self, request: Request, zone: bytes, *, headless: bool
    ) -> Sequence[Service] | None:
        """Return the services of the name in `request`, which is below `zone`, or a reverse name.

        None if the name does not exist. With `headless`, those without an address of their own have
        the addresses of their endpoints. For a PTR query, the hosts are names without `zone`.
        """

    def all_external_services(self, zone: bytes, *, headless: bool) -> Iterable[Service]:
        """Return all services, with keys in `zone`, for a zone transfer.

        The key is the name of the service with its addresses, or that of a port, such as
        _http._tcp, whose `stripped_labels` lead to that name. Endpoints of headless services are in
        the group "endpoint", with the label of the endpoint before the name of the service, and in
        the group "port", with the name of the endpoint as the host.
        """

    def name_server_addresses(self, request: Request | None, *, headless: bool) -> Sequence[str]:
        """Return the IP addresses at which clients outside reach this server."""

    def external_serial(self, zone: bytes) -> int:
        """Return the serial for the SOA record of `zone`."""


class TapKind(Enum):
    """The direction of a tapped message, by the names of dnstap."""

    FORWARDER_QUERY = 7
    FORWARDER_RESPONSE = 8


class TappedMessage(NamedTuple):
    """A message that this server has exchanged with an upstream."""

    kind: TapKind
    wire: bytes
    upstream: tuple[str, int]
    """IP address and port of the upstream."""

    protocol: str
    """"udp", "tcp", "tls", "https", "quic" or "https3"."""

    time: float
    """When it was sent or received, in seconds since the epoch."""

    local: tuple[str, int] | None = None
    """IP address and port of this server's socket; None if they are not known yet."""

    query_time: float | None = None
    """When the query of a response was sent, in seconds since the epoch."""


@runtime_checkable
class MessageTap(Protocol):
    """A handler that records the messages of others (CoreDNS: dnstap.Dnstap, TapMessage)."""

    def tap_message(self, request: Request, message: TappedMessage) -> None:
        """Record a message that belongs to the query `request`; it must return at once."""


class UpstreamAttempt(NamedTuple):
    """A query to an upstream, and its outcome. Times are those of the monotonic clock."""

    upstream: tuple[str, int]
    """IP address and port of the upstream."""

    protocol: str
    """"udp", "tcp", "tls", "https", "quic", "https3" or "grpc"."""

    sent: float
    """When it was sent. It may precede the client's query, which may share it with an earlier one.
    """

    ended: float
    error: str = ""
    """Why there is no usable reply, "" if the client's reply is the one to this query."""


@runtime_checkable
class AttemptObserver(Protocol):
    """A `CallObserver` that also records the attempts of handlers at upstreams (as *trace* does).

    A handler that queries upstreams calls it at the end of the exchange, for the queries whose
    metadata has the label `call_label`, and for no others.
    """

    call_label: str
    """That of `corepy.plugin.CallObserver`."""

    def observe_attempt(self, request: Request, attempt: UpstreamAttempt) -> None:
        """Record an attempt that was made for `request`; it must return at once."""
