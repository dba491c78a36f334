"""The handler that answers from services in etcd (CoreDNS: plugin/etcd)."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

from corepy.dns import constants as c
from corepy.dns.edns import EDE_NOT_READY, EDE_PROHIBITED
from corepy.dns.names import InvalidName, from_text, lower, to_text
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
from corepy_etcd import metrics
from corepy_etcd.skydns import DEFAULT_TTL
from corepy_etcd.source import is_pattern, join, leave

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from corepy.dns import Reply, Request
    from corepy.plugin import LifecycleContext
    from corepy.plugin.protocols import Service
    from corepy_etcd.skydns import Entry
    from corepy_etcd.source import Settings, Source

LONGEST_WAIT: Final = 5.0
"""Seconds that the start waits for the services, unless etcd fails before."""

_NOT_SYNCED: Final = (EDE_NOT_READY, "")
_PROHIBITED: Final = (EDE_PROHIBITED, "")
_OPCODE: Final = 0x7800


class LeaseBounds(NamedTuple):
    """The limits of a TTL that is made of a lease, in seconds."""

    least: int = 30
    most: int = 86400


USUAL_BOUNDS: Final = LeaseBounds()


def _origin(zone: str) -> bytes | None:
    """Return the wire name of a zone; None without one, which no query is in."""
    try:
        return lower(from_text(zone))
    except InvalidName:
        return None


class Etcd(ExplainedHandler):
    """Answers queries for names in its zones from a copy of the services in etcd.

    A change of the copy clears the caches of the names concerned, so the packet cache may repeat
    replies. It implements `RecordBackend`.
    """

    name: ClassVar[str] = "etcd"
    cacheability = Cacheability.SETS_DEADLINE

    def __init__(
        self,
        settings: Settings,
        zones: ZoneMatcher,
        fallthrough: Fallthrough,
        bounds: LeaseBounds = USUAL_BOUNDS,
    ) -> None:
        """Answer for names in `zones`; those that do not exist are passed on by `fallthrough`."""
        self.settings = settings
        self.source: Source | None = None
        self._zones = zones
        self._origins = {zone: wire for zone in zones.zones if (wire := _origin(zone)) is not None}
        self._fallthrough = fallthrough
        self._bounds = bounds

    @property
    def inputs(self) -> bytes | None:
        """What distinguishes the copy from others; None while caches may have older replies."""
        source = self.source
        if source is None or source.is_forgetting or not source.is_synced:
            return None
        return source.token

    # -- queries

    async def serve_dns(self, request: Request) -> Reply:
        """Answer from the copy, or pass the query on."""
        zone = self._zones.find(request.name_wire)
        if zone is None or request.qclass != c.CLASS_IN:
            return await self._pass_on(request)
        if request.flags & _OPCODE or request.qtype in c.TRANSFERS:
            return request.error(c.REFUSED, ede=_PROHIBITED)
        if self.source is None or not self.source.is_synced:
            return request.error(c.SERVFAIL, "the services of etcd are not known yet", _NOT_SYNCED)
        if is_pattern(request.name_wire):
            self.source.note_pattern(request.name_wire)
        found = BackendLookup(self, request, self._origins[zone])
        reply = await found.reply()
        if reply is None:
            if self._fallthrough.passes(request.name_wire):
                return await self._pass_on(request)
            reply = found.denial()
        if not found.has_lookups:
            reply.since = request.received
            reply.deadline = request.received + REPEATED
        return reply

    async def _pass_on(self, request: Request) -> Reply:
        reply = await self.next.serve_dns(request)
        without_deadline(request, reply)
        return reply

    def has_zone_of(self, name: bytes) -> bool:
        """Return whether a name is in one of the zones."""
        return self._zones.find(name) is not None

    # -- RecordBackend

    async def services_at(self, request: Request, *, exact: bool) -> Sequence[Service] | None:
        """Return the services of a name, and of those below it unless `exact`."""
        assert self.source is not None
        found = self.source.store.find(request.name_wire, exact=exact)
        return None if found is None else [self._service_of(entry) for entry in found]

    async def services_of_address(self, request: Request) -> Sequence[Service] | None:
        """Return the services of a reverse name: its own, or else those below it."""
        return await self.services_at(request, exact=True) or await self.services_at(
            request, exact=False
        )

    def backend_serial(self, zone: bytes) -> int:
        """Return the revision of etcd at the last change."""
        return 0 if self.source is None else self.source.serial

    def _service_of(self, entry: Entry) -> Service:
        """Return the service with its TTL: the lower one of its own and that of its lease."""
        service = entry.service
        if service.ttl and not entry.lease:
            return service
        ttl = service.ttl or DEFAULT_TTL
        if entry.lease:
            assert self.source is not None
            left = self.source.store.leases.seconds_left(entry.lease, time.monotonic()) or 0
            by_lease = max(self._bounds.least, min(left, self._bounds.most))
            ttl = min(service.ttl or by_lease, by_lease)
        return replace(service, ttl=ttl)

    # -- hooks

    @hookimpl
    async def before_listen(self, context: LifecycleContext) -> None:
        """Begin to follow etcd, and wait a moment for the services."""
        if context.offline:
            return
        self.source = join(self.settings, context.process_group, self, context)
        metrics.show(self.source)
        await self.source.wait(LONGEST_WAIT)

    @hookimpl
    def shutdown(self, context: LifecycleContext) -> None:
        """Stop to follow etcd, unless a later generation does."""
        if self.source is not None:
            metrics.hide(self.source)
            leave(self.settings, self.source, self)

    @hookimpl
    async def rehearse(self, context: LifecycleContext) -> None:
        """Read the services, to answer a single query."""
        await self.before_listen(context)

    @hookimpl
    def ready(self) -> bool:
        """Return whether the services are known."""
        return self.source is not None and self.source.is_synced

    @hookimpl
    def status(self) -> Mapping[str, Any] | None:
        """Return the state of the copy."""
        source = self.source
        if source is None:
            return None
        problems = [source.store.problem, "" if source.watcher is None else source.watcher.problem]
        status: dict[str, Any] = {
            "state": "synced" if source.is_synced else "not synced",
            "problems": [problem for problem in problems if problem],
            "keys": len(source.store),
            "ignored": len(source.store.unusable),
        }
        if source.watcher is not None:
            status |= {"endpoint": source.watcher.endpoint, "revision": source.watcher.revision}
        return status

    def explain_state(self, request: Request, reply: Reply | None = None) -> dict[str, str | int]:
        """Return whether the copy has services for the name, and how many."""
        zone = self._zones.find(request.name_wire)
        if zone is None:
            return {"state": "the name is outside its zones"}
        if self.source is None or not self.source.is_synced:
            return {"state": "not synced", "zone": zone}
        found = self.source.store.find(request.name_wire, exact=False)
        state = "no such name" if found is None else "found"
        counts = {"services": len(found or ()), "keys": len(self.source.store)}
        return {"state": state, "zone": zone, "name": to_text(request.name_wire), **counts}
