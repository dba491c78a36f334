"""The handler for clients outside of a cluster (CoreDNS: plugin/k8s_external)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Final, NamedTuple

from corepy.dns import constants as c
from corepy.dns.edns import EDE_NOT_READY, EDE_PROHIBITED
from corepy.dns.names import InvalidName, to_text
from corepy.plugin import (
    Cacheability,
    ExplainedHandler,
    Fallthrough,
    ZoneMatcher,
    hookimpl,
    without_deadline,
)
from corepy.plugin.backend_lookup import BackendLookup
from corepy.plugin.backend_replies import REPEATED
from corepy.plugin.protocols import ExternalServiceSource, SecondaryNotifier
from corepy.plugin.serial_watch import SerialWatch
from corepy_k8s_external.dump import dump
from corepy_k8s_external.zone import ExternalZone

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from corepy.dns import Reply, Request
    from corepy.plugin import BlockHandlers, LifecycleContext
    from corepy.plugin.protocols import Service

NOTIFY_INTERVAL: Final = 5.0
"""Seconds between two notifications of a secondary server; external services change seldom."""

_NOT_SYNCED: Final = (EDE_NOT_READY, "")
_PROHIBITED: Final = (EDE_PROHIBITED, "")
_OPCODE: Final = 0x7800
_SOURCE: Final = "kubernetes"


class Settings(NamedTuple):
    """The arguments and options of the directive."""

    zones: tuple[str, ...]
    apex: bytes = b"\3dns\0"
    """The name below which a zone has its own names, in wire form and lower case."""

    ttl: int = 5
    """Seconds."""

    headless: bool = False


class External(ExplainedHandler):
    """Answers queries for SERVICE.NAMESPACE in its zones with the addresses for clients outside.

    The services come from another handler of the block, an `ExternalServiceSource`. It clears the
    caches of the names concerned after a change, so the packet cache may repeat replies. It
    implements `TransferSource`.
    """

    name: ClassVar[str] = "k8s_external"
    cacheability = Cacheability.SETS_DEADLINE

    def __init__(
        self, settings: Settings, fallthrough: Fallthrough, block_handlers: BlockHandlers
    ) -> None:
        """Pass queries for names that do not exist on if they are in `fallthrough`."""
        self.zones = ZoneMatcher(settings.zones)
        self._settings = settings
        self._by_text = _zones(settings)
        self._own = {zone.origin: zone for zone in self._by_text.values()}
        forward = [zone for zone in self._own.values() if not zone.is_reverse]
        # The names of reverse records are in the first zone that is not a reverse one.
        self._named = (*forward, *self._own.values())[:1]
        self._fallthrough = fallthrough
        self._block_handlers = block_handlers
        self._source: ExternalServiceSource | None = None
        self._serial_watch: SerialWatch | None = None

    @property
    def inputs(self) -> bytes | None:
        """That of the handler that knows the services; None if it has none."""
        found: bytes | None = getattr(self._source, "inputs", None)
        return found

    # -- hooks

    @hookimpl
    def before_listen(self, context: LifecycleContext) -> None:
        """Find the handler that knows the services; raises `StartupError` without one."""
        self._find_source()

    @hookimpl
    def rehearse(self, context: LifecycleContext) -> None:
        """Find the handler that knows the services, to answer a single query."""
        self._find_source()

    def _find_source(self) -> None:
        found = self._block_handlers.of_kind(ExternalServiceSource)
        self._source = (
            found[-1] if found else self._block_handlers.require(_SOURCE, ExternalServiceSource)
        )
        for origin in self._own:
            self._source.add_external_zone(origin)

    @hookimpl
    def serving(self, context: LifecycleContext) -> None:
        """Notify secondary servers, now and after changes."""
        notifiers = self._block_handlers.of_kind(SecondaryNotifier)
        if notifiers and self._source is not None:
            zones = [zone.origin for zone in self._own.values() if not zone.is_reverse]
            serial_of = self._source.external_serial
            self._serial_watch = SerialWatch(zones, serial_of, notifiers, NOTIFY_INTERVAL)

    @hookimpl
    def shutdown(self, context: LifecycleContext) -> None:
        """Stop notifying."""
        if self._serial_watch is not None:
            self._serial_watch.stop()

    @hookimpl
    def ready(self) -> bool:
        """Return whether the services are known."""
        return self._source is not None and self._source.synced

    # -- queries

    async def serve_dns(self, request: Request) -> Reply:
        """Answer from the services, or pass the query on."""
        text = self.zones.find(request.name_wire)
        if text is None or request.qclass != c.CLASS_IN:
            return await self._pass_on(request)
        if request.flags & _OPCODE or request.qtype in c.TRANSFERS:
            return request.error(c.REFUSED, ede=_PROHIBITED)
        source = self._source
        if source is None or not source.synced:
            reason = "the services of the cluster are not known yet"
            return request.error(c.SERVFAIL, reason, _NOT_SYNCED)
        zone = self._by_text[text]
        if zone.is_own(request.name_wire):
            return self._repeated(request, self._own_reply(request, zone, source))
        found = BackendLookup(_Backend(source, zone, self), request, zone.origin, self._soa(zone))
        reply = await found.reply()
        if reply is None:
            if self._fallthrough.passes(request.name_wire):
                return await self._pass_on(request)
            reply = found.denial()
        return reply if found.has_lookups else self._repeated(request, reply)

    async def _pass_on(self, request: Request) -> Reply:
        reply = await self.next.serve_dns(request)
        without_deadline(request, reply)
        return reply

    def _repeated(self, request: Request, reply: Reply) -> Reply:
        """Let the packet cache repeat a reply, unless its TTLs are 0."""
        if self._settings.ttl:
            reply.since = request.received
            reply.deadline = request.received + REPEATED
        return reply

    def _soa(self, zone: ExternalZone) -> bytes:
        assert self._source is not None
        return zone.soa(self._source.external_serial(zone.origin))

    def _own_reply(
        self, request: Request, zone: ExternalZone, source: ExternalServiceSource
    ) -> Reply:
        """Answer for the zone itself, and for the names of its server."""
        name, qtype, owner = request.name_wire, request.qtype, request.question[:-4]
        answer: list[bytes] = []
        additional: list[bytes] = []
        headless = self._settings.headless
        if name == zone.origin and qtype == c.TYPE_SOA:
            answer.append(self._soa(zone))
        elif name == zone.origin and qtype == c.TYPE_NS:
            answer.append(zone.ns(owner))
            addresses = source.name_server_addresses(request, headless=headless)
            additional += zone.server_records(zone.server, addresses)
        elif name == zone.server and qtype in (c.TYPE_A, c.TYPE_AAAA):
            addresses = source.name_server_addresses(request, headless=headless)
            kind = qtype.to_bytes(2, "big")
            end = len(owner)
            records = zone.server_records(owner, addresses)
            answer += [record for record in records if record[end : end + 2] == kind]
        rcode = c.NOERROR if zone.exists(name) else c.NXDOMAIN
        authority = [] if answer else [self._soa(zone)]
        return request.reply(rcode, answer, authority, additional, authoritative=True)

    def services_of(
        self, request: Request, zone: ExternalZone, source: ExternalServiceSource
    ) -> Sequence[Service] | None:
        """Return the services of a name with the TTL of the directive; None if it has none."""
        headless, ttl = self._settings.headless, self._settings.ttl
        found = source.external_services(request, zone.origin, headless=headless)
        if found is None:
            return None
        if request.qtype != c.TYPE_PTR:
            return [replace(it, ttl=ttl) for it in found]
        return [
            replace(it, host=f"{it.host}.{to_text(named.origin)}", ttl=ttl)
            for it in found
            for named in self._named
        ]

    # -- transfers

    def transfer_zone(self, zone: bytes, serial: int | None) -> AsyncIterator[list[bytes]] | None:
        """Return the records of a zone; reverse zones cannot be transferred."""
        own, source = self._own.get(zone), self._source
        if own is None or own.is_reverse or source is None or not source.synced:
            return None
        return dump(own, source, serial, self._settings.ttl, headless=self._settings.headless)

    def explain_state(self, request: Request, reply: Reply | None = None) -> dict[str, str | int]:
        """Return the zone of the name, and its serial."""
        text = self.zones.find(request.name_wire)
        if text is None:
            return {"state": "the name is outside its zones"}
        if self._source is None or not self._source.synced:
            return {"state": "not synced", "zone": text}
        zone = self._by_text[text]
        state = "own name" if zone.is_own(request.name_wire) else "service"
        return {"state": state, "zone": text, "serial": self._source.external_serial(zone.origin)}


class _Backend:
    """The services of one zone as a `RecordBackend`."""

    def __init__(
        self, source: ExternalServiceSource, zone: ExternalZone, handler: External
    ) -> None:
        self._source = source
        self._zone = zone
        self._handler = handler

    async def services_at(self, request: Request, *, exact: bool) -> Sequence[Service] | None:
        """Return the services of a name."""
        if self._zone.is_own(request.name_wire):
            return ()  # the target of an alias
        return self._handler.services_of(request, self._zone, self._source)

    async def services_of_address(self, request: Request) -> Sequence[Service] | None:
        """Return the services with an external address."""
        return await self.services_at(request, exact=True)

    def backend_serial(self, zone: bytes) -> int:
        """Return the time of the last change of an external service."""
        return self._source.external_serial(zone)


def _zones(settings: Settings) -> dict[str, ExternalZone]:
    """Return the zones, without those that no query can be in."""
    found = {}
    for text in settings.zones:
        try:
            found[text] = ExternalZone(text, settings.apex, settings.ttl)
        except InvalidName:
            continue
    return found
