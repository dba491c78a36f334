"""The plugin: its hooks, and its services to other plugins of the block."""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from corepy.dns.names import ROOT, is_subdomain, to_text
from corepy.plugin import LifecycleContext, ListenHosts, hookimpl, plugin_logger
from corepy.plugin.protocols import SecondaryNotifier
from corepy.plugin.serial_watch import SerialWatch
from corepy.zone.serial import is_newer
from corepy_kubernetes.addresses import address_of, text_of
from corepy_kubernetes.answered import ChangeNotifier
from corepy_kubernetes.external import ExternalServices
from corepy_kubernetes.handler import ClusterHandler
from corepy_kubernetes.lookup import MOST_TARGETS, PodMode
from corepy_kubernetes.names import SVC, parse_name, wire_label
from corepy_kubernetes.nameservers import NameServers, local_addresses
from corepy_kubernetes.objects import pack_address
from corepy_kubernetes.transfer import ZoneDump

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from corepy.dns import Reply, Request
    from corepy.plugin import Fallthrough
    from corepy.plugin.block_config import BlockConfig
    from corepy.plugin.protocols import Service
    from corepy_kubernetes.answered import Answered
    from corepy_kubernetes.answers import Answers
    from corepy_kubernetes.api import Source
    from corepy_kubernetes.index import Index
    from corepy_kubernetes.lookup import Rules
    from corepy_kubernetes.names import OwnZone, OwnZones
    from corepy_kubernetes.objects import Pod

LONGEST_START: Final = 50.0
"""Seconds; a longer wait for the first objects would exceed the time limit of a start."""

POLL: Final = 0.02
"""Seconds between two looks at the index."""

LOG_AFTER: Final = 0.5
"""Seconds until a line is logged that the API is awaited."""

NOTIFY_INTERVAL: Final = 60.0
"""Seconds between two notifications of a secondary server: a transfer has all records of the
zone.
"""

_log = plugin_logger("kubernetes")


class Kubernetes(ClusterHandler):
    """Answers for a cluster; one object for each directive."""

    def __init__(
        self,
        index: Index,
        answered: Answered,
        answers: Answers,
        zones: OwnZones,
        rules: Rules,
        fallthrough: Fallthrough,
        *,
        config: BlockConfig,
        startup_timeout: float,
        keeps: bool = False,
        search: Sequence[bytes] = (),
    ) -> None:
        """Wait at most `startup_timeout` seconds for the first objects.

        `keeps` is whether a file has those of the last run. `search` is the search path behind the
        zones of the cluster.
        """
        super().__init__(index, answered, answers, zones, rules, fallthrough)
        self.servers = NameServers(index, self.finder)
        self.source: Source
        """Where the objects come from; set by `setup`."""
        self._external = ExternalServices(index, self.finder, answers.ttl)
        self.external_zones: dict[bytes, None] = {}
        self._notifier = ChangeNotifier(answered, zones, self.external_zones)
        self._serial_watch: SerialWatch | None = None
        self._config = config
        self.startup_timeout = startup_timeout
        self.keeps = keeps
        self.search = tuple(search)

    # Hooks.

    @hookimpl
    async def before_listen(self, context: LifecycleContext) -> None:
        """Begin to follow the cluster, and wait for its objects."""
        self.servers.local = local_addresses(self._config.get(ListenHosts).hosts)
        await self.source.start(context)
        await self._wait()

    @hookimpl
    async def rehearse(self, context: LifecycleContext) -> None:
        """Read the objects of the last run, if a file has them."""
        if self.keeps:
            await self.before_listen(context)

    async def _wait(self) -> None:
        """Wait for the first objects."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        has_logged = False
        while not self.index.synced:
            waited = loop.time() - began
            if waited >= min(self.startup_timeout, LONGEST_START):
                _log.warning("starting server with unsynced Kubernetes API")
                break
            if waited >= LOG_AFTER and not has_logged:
                _log.info("waiting for Kubernetes API before starting server")
                has_logged = True
            await asyncio.sleep(POLL)

    @hookimpl
    def serving(self, context: LifecycleContext) -> None:
        """Begin to remove replies that have changed from the caches, and to notify secondaries."""
        self._notifier.start(context.forget_names)
        notifiers = self._config.handlers.of_kind(SecondaryNotifier)
        if notifiers:
            zones = {zone.wire: zone for zone in self.own_zones.all if not zone.is_reverse}
            self._serial_watch = SerialWatch(
                [*zones], lambda wire: self.serial_of(zones[wire]), notifiers, NOTIFY_INTERVAL
            )

    @hookimpl
    async def shutdown(self, context: LifecycleContext) -> None:
        """Stop following the cluster."""
        if self._serial_watch is not None:
            self._serial_watch.stop()
        await self._notifier.stop()
        await self.source.stop()

    @hookimpl
    def ready(self) -> bool:
        """Return whether the objects of the cluster are known."""
        return self.index.synced

    @hookimpl
    def status(self) -> Mapping[str, Any]:
        """Return the state of the source, and how many objects of each kind there are."""
        counts = {kind.value: self.index.count(kind) for kind in self.index.kinds}
        return {**self.source.status(), "zones": [it.text for it in self.own_zones.all], **counts}

    @hookimpl
    def metadata(self, request: Request) -> Mapping[str, str]:
        """Return the labels of the client's pod, and those of the parts of the name."""
        labels = self._client_labels(request)
        found = self.own_zones.find(request.name_wire)
        if found is None:
            return labels
        zone, offsets = found
        end = len(request.name_wire) - len(zone.wire)
        several, zonal = zone.is_multicluster, self.rules.zonal
        parts = parse_name(request.name_wire, offsets, end, multicluster=several, zonal=zonal)
        if parts is None:
            return {**labels, "kubernetes/parse-error": "invalid query name"}
        named = {
            "port-name": parts.port,
            "protocol": parts.protocol,
            "endpoint": parts.endpoint,
            "service": parts.service,
            "namespace": parts.namespace,
            "kind": parts.kind,
        }
        if several:
            named["cluster"] = parts.cluster
        labels.update((f"kubernetes/{key}", _text(label)) for key, label in named.items())
        if zonal:
            labels["kubernetes/zone"] = parts.zone
        return labels

    def _client_labels(self, request: Request) -> dict[str, str]:
        pod = self.client_pod(request)
        if pod is None:
            return {}
        return {
            "kubernetes/client-namespace": pod.namespace,
            "kubernetes/client-pod-name": pod.name,
            **{f"kubernetes/client-label/{key}": value for key, value in pod.labels},
        }

    def client_pod(self, request: Request) -> Pod | None:
        """Return the pod that has sent a query; only known with `pods verified`."""
        if self.rules.pods is not PodMode.VERIFIED:
            return None
        address = pack_address(request.remote[0].partition("%")[0])
        return None if address is None else next(self.index.pods_at(address), None)

    # For *autopath*: corepy.plugin.protocols.SearchPathSource.

    def search_path(self, request: Request) -> Sequence[bytes]:
        """Return the search path of the client's pod, as kubelet writes it into resolv.conf.

        It is empty unless the name is in one of the zones, and the client is known.
        """
        found = self.own_zones.find(request.name_wire)
        pod = None if found is None else self.client_pod(request)
        if found is None or pod is None:
            return ()
        zone = found[0].wire
        services = SVC + zone
        return (wire_label(pod.namespace) + services, services, zone, *self.search, ROOT)

    # For *search_guard*: corepy.plugin.protocols.OwnNames.

    async def has_names_below(self, name: bytes) -> bool:
        """Return whether a zone is below `name`, or the other way round."""
        zones = [zone.wire for zone in self.own_zones.all]
        return any(is_subdomain(zone, name) or is_subdomain(name, zone) for zone in zones)

    # For *transfer*: corepy.plugin.protocols.TransferSource.

    def transfer_zone(self, zone: bytes, serial: int | None) -> Iterator[list[bytes]] | None:
        """Return the records of a zone; reverse zones cannot be transferred."""
        own = self.own_zones.get(zone)
        if own is None or own.is_reverse or not self.index.synced:
            return None
        return self._portions(own, serial)

    def _portions(self, zone: OwnZone, serial: int | None) -> Iterator[list[bytes]]:
        current = self.serial_of(zone)
        soa = self.answers.soa_record(zone.wire, current)
        if serial is not None and (serial == current or is_newer(serial, current)):
            yield [soa]
            return
        dump = ZoneDump(self.index, self.finder, zone, self.answers.ttl)
        yield [soa, *dump.name_servers(self.servers.inside())]
        yield from dump.portions()
        yield [soa]

    # For *k8s_external*: corepy.plugin.protocols.ExternalServiceSource.

    @property
    def synced(self) -> bool:
        """Whether the objects of the cluster are known."""
        return self.index.synced

    def add_external_zone(self, zone: bytes) -> None:
        """Remove replies for changed names in this zone from the caches, too."""
        self.external_zones[zone] = None

    def external_services(
        self, request: Request, zone: bytes, *, headless: bool
    ) -> Sequence[Service] | None:
        """Return the services of the name in `request`; None if the name does not exist."""
        self._answered.note(self._external.key_of(request.name_wire, zone), request.asked)
        return self._external.find(request, zone, headless=headless)

    def all_external_services(self, zone: bytes, *, headless: bool) -> Iterable[Service]:
        """Return all services, with keys in `zone`, for a zone transfer."""
        return self._external.all(zone, headless=headless)

    def name_server_addresses(self, request: Request | None, *, headless: bool) -> Sequence[str]:
        """Return the IP addresses at which clients outside reach this server."""
        return [text_of(it) for it in self.servers.outside(headless=headless)]

    def external_serial(self, zone: bytes) -> int:
        """Return the serial for the SOA record of `zone`."""
        return self.index.serials.external

    # For `corepy explain`.

    def explain_state(self, request: Request, reply: Reply | None = None) -> dict[str, str | int]:
        """Return what was found for the name."""
        found = self.own_zones.find(request.name_wire)
        if found is None:
            return {"state": "the name is outside its zones"}
        zone, offsets = found
        state: dict[str, str | int] = {"zone": zone.text, "serial": self.serial_of(zone)}
        if not self.index.synced:
            return {"state": "not synced", **state}
        address = address_of(request.name_wire)
        if address is not None:
            names = [to_text(name) for name in islice(self.names_of(address), MOST_TARGETS)]
            return {"state": "has names" if names else "no name", **state, "names": len(names)}
        end = len(request.name_wire) - len(zone.wire)
        several, zonal = zone.is_multicluster, self.rules.zonal
        parts = parse_name(request.name_wire, offsets, end, multicluster=several, zonal=zonal)
        if parts is None:
            return {"state": "not a name of the specification", **state}
        result = self.finder.find(parts, zone)
        if isinstance(result, list):
            return {"state": "has targets", **state, "targets": len(result)}
        return {"state": getattr(result, "value", "alias"), **state}


def _text(label: bytes) -> str:
    return label.decode("utf-8", "replace")
