"""The handler that answers for a cluster (CoreDNS: plugin/kubernetes/handler.go)."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, ClassVar, Final

from corepy.dns import constants as c
from corepy.dns.edns import EDE_NOT_READY, EDE_PROHIBITED
from corepy.dns.names import lower
from corepy.plugin import (
    Cacheability,
    ExplainedHandler,
    FastHandler,
    apply_step,
    lookup,
    without_deadline,
)
from corepy_kubernetes.addresses import address_of, is_above_reverse_names, is_reverse
from corepy_kubernetes.aliases import completed
from corepy_kubernetes.lookup import MOST_TARGETS, Alias, Denial, Finder
from corepy_kubernetes.names import APEX, DNS, NAME_SERVER, SVC, key_of, parse_name, service_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from corepy.dns import Reply, Request
    from corepy.plugin import Fallthrough
    from corepy.plugin.handler import Answer
    from corepy_kubernetes.answered import Answered
    from corepy_kubernetes.answers import Answers
    from corepy_kubernetes.index import Index
    from corepy_kubernetes.lookup import Found, Rules, Target
    from corepy_kubernetes.names import OwnZone, OwnZones, Parts
    from corepy_kubernetes.nameservers import NameServers

_SCHEMA: Final = b"\x0bdns-version"
_OPCODE: Final = 0x7800
_NOT_SYNCED: Final = (EDE_NOT_READY, "")
_PROHIBITED: Final = (EDE_PROHIBITED, "")


class ClusterHandler(FastHandler, ExplainedHandler):
    """Answers queries for names in the zones of a cluster, and passes others on.

    Replies depend on the query and the index; when it changes, `answered` removes them from caches.
    """

    name: ClassVar[str] = "kubernetes"
    cacheability = Cacheability.SETS_DEADLINE

    def __init__(
        self,
        index: Index,
        answered: Answered,
        answers: Answers,
        zones: OwnZones,
        rules: Rules,
        fallthrough: Fallthrough,
    ) -> None:
        """Pass queries for names that do not exist on if they are in `fallthrough`."""
        self.index = index
        self.own_zones = zones
        self.rules = rules
        self.finder = Finder(index, rules)
        self.servers: NameServers
        self._answered = answered
        self.answers = answers
        self.fallthrough = fallthrough

    def serial_of(self, zone: OwnZone) -> int:
        """Return the serial of the SOA record of a zone."""
        serials = self.index.serials
        return serials.imports if zone.is_multicluster else serials.internal

    def begin_dns(self, request: Request) -> Answer:
        """Answer at once, unless an alias leads out of the cluster, or pass the query on."""
        prepared = self._answered.find(_remembered(request))
        if prepared is not None and not request.flags & _OPCODE:
            return self.answers.again(request, prepared)
        found = self.own_zones.find(request.name_wire)
        if found is None or request.qclass != c.CLASS_IN:
            return self._pass_on(request)
        if request.flags & _OPCODE or request.qtype in c.TRANSFERS:
            return request.error(c.REFUSED, ede=_PROHIBITED)
        zone, offsets = found
        end = len(request.name_wire) - len(zone.wire)
        return self._answer(request, zone, offsets, end)

    def _pass_on(self, request: Request) -> Answer:
        return apply_step(self.next.begin_dns(request), without_deadline, request)

    def _answer(self, request: Request, zone: OwnZone, offsets: Sequence[int], end: int) -> Answer:
        name = request.name_wire
        key = key_of(name, offsets, end)
        if key is not None:
            self._answered.note(key, _remembered(request))
        if not offsets:
            return self._apex(request, zone)
        if is_reverse(name):
            return self._reverse(request, zone, end)
        if name[offsets[-1] : end] == DNS:
            return self._name_server(request, zone, end)
        if len(offsets) == 1 and name[:end] == _SCHEMA:
            return self._schema(request, zone, end)
        several = zone.is_multicluster
        parts = parse_name(name, offsets, end, multicluster=several, zonal=self.rules.zonal)
        if parts is None:
            return self._no_name(request, zone, end)
        targets = self.finder.find(parts, zone, request.qtype)
        return self._records(request, zone, end, parts, targets)

    def _apex(self, request: Request, zone: OwnZone) -> Answer:
        if request.qtype in (c.TYPE_SOA, c.TYPE_ANY):
            return self.answers.soa(request, 0, self.serial_of(zone))
        if request.qtype == c.TYPE_NS and (servers := self._name_servers()):
            return self.answers.name_servers(request, request.question[:-4], servers)
        return self._no_data(request, zone, 0)

    def _name_servers(self) -> list[tuple[bytes, bytes]]:
        for key in self.servers.sources():
            self._answered.note_alias(APEX, key)
        return self.servers.inside()

    def _name_server(self, request: Request, zone: OwnZone, end: int) -> Answer:
        labels = request.name_wire[:end]
        if labels == DNS:
            return self._no_data(request, zone, end)
        if labels != NAME_SERVER:
            return self._no_name(request, zone, end)
        if request.qtype in (c.TYPE_A, c.TYPE_AAAA):
            prepared = self.answers.of_addresses(
                request.qtype, (address for _, address in self._name_servers())
            )
            if prepared is not None:
                return self.answers.again(request, prepared)
        return self._no_data(request, zone, end)

    def _schema(self, request: Request, zone: OwnZone, end: int) -> Answer:
        if request.qtype in (c.TYPE_TXT, c.TYPE_ANY):
            return self.answers.schema_version(request)
        return self._no_data(request, zone, end)

    def _reverse(self, request: Request, zone: OwnZone, end: int) -> Answer:
        name = request.name_wire
        address = address_of(name)
        if address is None:
            if is_above_reverse_names(name) and not self.fallthrough.passes(name):
                return self._no_data(request, zone, end)
            return self._no_name(request, zone, end)
        names = list(dict.fromkeys(islice(self.names_of(address), MOST_TARGETS)))
        if not names:
            return self._no_name(request, zone, end)
        if request.qtype in (c.TYPE_PTR, c.TYPE_ANY):
            return self.answers.pointers(request, names)
        return self._no_data(request, zone, end)

    def names_of(self, address: bytes) -> Iterator[bytes]:
        """Yield the names of an address: that of its service, else those of its endpoints."""
        assert self.own_zones.primary is not None
        zone = SVC + self.own_zones.primary.wire
        service = self.index.service_at(address)
        if service is not None:
            yield service_key(service.namespace, service.name) + zone
            return
        for slice_ in self.index.slices_at(address):
            if slice_.service and self.index.is_exposed(slice_.namespace):
                owner = service_key(slice_.namespace, slice_.service) + zone
                for label in self.finder.labels_at(slice_, address):
                    yield label + owner

    def _records(
        self, request: Request, zone: OwnZone, end: int, parts: Parts, found: Found
    ) -> Answer:
        if found is Denial.NO_NAME:
            return self._no_name(request, zone, end)
        if isinstance(found, Alias):
            return self._alias(request, zone, end, parts, found)
        if isinstance(found, list):
            reply = self._targets(request, end, parts, found)
            if reply is not None:
                return reply
        return self._no_data(request, zone, end)

    def _targets(
        self, request: Request, end: int, parts: Parts, targets: list[Target]
    ) -> Reply | None:
        """Return the reply with the records of targets; None without any of this type."""
        qtype = request.qtype
        if qtype == c.TYPE_SRV:
            zone = request.question[end:-4]
            prepared = self.answers.services(request, targets, zone)
        elif qtype in (c.TYPE_A, c.TYPE_AAAA):
            prepared = self.answers.addresses(qtype, targets)
        elif qtype == c.TYPE_ANY:  # one set is enough (RFC 8482 section 4.1)
            prepared = self.answers.addresses(c.TYPE_A, targets)
            prepared = prepared or self.answers.addresses(c.TYPE_AAAA, targets)
        else:
            return None
        if prepared is None:
            return None
        if parts.kind == SVC[1:]:
            self._answered.keep(_remembered(request), prepared)
        return self.answers.again(request, prepared)

    def _alias(
        self, request: Request, zone: OwnZone, end: int, parts: Parts, alias: Alias
    ) -> Answer:
        """Answer for a service of type ExternalName; only its addresses are looked up."""
        target = alias.target
        if lower(target) == request.name_wire:
            return self._no_data(request, zone, end)
        if request.qtype in (c.TYPE_CNAME, c.TYPE_ANY):
            return self.answers.alias(request, target)
        if request.qtype not in (c.TYPE_A, c.TYPE_AAAA):
            return self._no_data(request, zone, end)
        self._note_alias(parts.key, lower(target))
        return self._complete(request, target)

    def _note_alias(self, key: bytes, target: bytes) -> None:
        found = self.own_zones.find(target)
        if found is not None:
            zone, offsets = found
            target_key = key_of(target, offsets, len(target) - len(zone.wire))
            if target_key is not None:
                self._answered.note_alias(key, target_key)

    async def _complete(self, request: Request, target: bytes) -> Reply:
        return completed(request, target, self.answers.ttl, await lookup(request, target))

    def _no_data(self, request: Request, zone: OwnZone, end: int) -> Reply:
        return self.answers.denial(request, c.NOERROR, end, self.serial_of(zone))

    def _no_name(self, request: Request, zone: OwnZone, end: int) -> Answer:
        if self.fallthrough.passes(request.name_wire):
            return self._pass_on(request)
        if not self.index.synced:
            reason = "the objects of the cluster are not known yet"
            return request.error(c.SERVFAIL, reason, _NOT_SYNCED)
        return self.answers.denial(request, c.NXDOMAIN, end, self.serial_of(zone))


def _remembered(request: Request) -> bytes:
    """Return the question by which an answer is remembered.

    Only the targets of SRV records have the zone in the case of the query.
    """
    return request.question if request.qtype == c.TYPE_SRV else request.asked
