"""The handler that answers from transferred zones (CoreDNS: plugin/secondary)."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final

from corepy.dns.address import address_bytes
from corepy.dns.constants import OPCODE_NOTIFY, REFUSED, TYPE_SOA
from corepy.dns.names import to_text
from corepy.plugin import LifecycleContext, hookimpl, in_thread, plugin_logger
from corepy.zone import ServedZone, ZoneError, ZoneHandler, forget
from corepy_secondary.follower import Follower, Shared
from corepy_secondary.members import Catalogs
from corepy_secondary.processes import Zones, shared_zones
from corepy_secondary.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corepy.dns import Reply, Request
    from corepy.plugin.handler import Answer

LOG: Final = plugin_logger("secondary")

SECONDS_BETWEEN_MESSAGES: Final = 10.0


class Secondary(ZoneHandler):
    """Answers queries for names in the zones of all *secondary* directives of a server block."""

    name: ClassVar[str] = "secondary"

    def __init__(self, directives: Sequence[Settings]) -> None:
        """Follow the zones of `directives`; no two have the same origin."""
        super().__init__()
        self.followers: dict[bytes, Follower] = {}
        self._settings: dict[bytes, Settings] = {}
        self._catalogs = Catalogs(self)
        self._shared: Shared | None = None
        self._zones: Zones
        self._is_leader = True
        self._quiet_until = 0.0
        for settings in directives:
            for origin in settings.origins:
                served = ServedZone(origin)
                self.zones.add(served)
                self._settings[origin] = settings
                self.followers[origin] = Follower(served, settings.primaries)

    def settings_of(self, origin: bytes) -> Settings:
        """Return the settings of a zone."""
        return self._settings[origin]

    def passes(self, served: ServedZone, name: bytes) -> bool:
        """See `ZoneHandler.passes`; each directive has its own option."""
        return self._settings[served.origin].fallthrough.passes(name)

    def metrics_zone(self, name: bytes) -> str | None:
        """Return the label of a query for a member of a catalog, in metrics."""
        served = self.zones.find(name)
        if served is None or not self._catalogs.has(served.origin):
            return None
        return to_text(served.origin)

    @property
    def inputs(self) -> bytes | None:
        """A digest of the versions that are served; None while caches have older replies."""
        if any(it.is_forgetting for it in self.followers.values()):
            return None
        current = {origin: it.served.current for origin, it in sorted(self.followers.items())}
        return b"".join(
            origin + zone.soa_record for origin, zone in current.items() if zone is not None
        )

    # -- the life of a generation

    @hookimpl
    async def before_listen(self, context: LifecycleContext) -> None:
        """Begin with the zones of the generation before, and with stored ones."""
        self._zones = shared_zones()
        self._is_leader = context.process_group.is_leader
        await self._zones.join(self, context.process_group)
        for follower in list(self.followers.values()):
            await self.prepare(follower)
        await self._catalogs.apply_all()

    @hookimpl
    async def rehearse(self, context: LifecycleContext) -> None:
        """Read the stored zones, to answer a single query."""
        self._zones = Zones()
        for follower in list(self.followers.values()):
            await self.prepare(follower)
        await self._catalogs.apply_all()

    @hookimpl
    def serving(self, context: LifecycleContext) -> None:
        """Begin to follow the zones."""
        self._shared = Shared(context, changed=self._changed)
        for follower in self.followers.values():
            self._start(follower)

    @hookimpl
    async def shutdown(self, context: LifecycleContext) -> None:
        """Stop to follow the zones, and store versions that were not stored yet."""
        zones = shared_zones()
        if getattr(self, "_zones", None) is zones:
            zones.leave(self)
        for follower in self.followers.values():
            zones.remove(follower)
            follower.stop()
        if context.final:
            for follower in self.followers.values():
                await follower.save_now()

    async def prepare(self, follower: Follower) -> None:
        """Give a follower the version of the generation before, or the stored one."""
        store = self._settings[follower.origin].store
        follower.store = store if self._is_leader else None
        earlier = self._zones.find(follower.origin, follower.primaries)
        if (earlier is not None and follower.succeed(earlier)) or store is None:
            return
        try:
            stored = await in_thread(partial(store.read, follower.origin))
        except (OSError, ZoneError) as error:
            LOG.warning("the stored zone %s cannot be used: %s", to_text(follower.origin), error)
            return
        if stored is not None:
            follower.adopt(stored.zone, time.monotonic() - stored.age)

    def _start(self, follower: Follower) -> None:
        assert self._shared is not None
        earlier = self._zones.find(follower.origin, follower.primaries)
        if earlier is not None:
            follower.succeed(earlier)  # it may have another version since `prepare`
        self._zones.add(follower)
        follower.start(self._shared)

    async def _changed(self, follower: Follower) -> None:
        if self._settings[follower.origin].members is not None:
            await self._catalogs.apply(follower.origin)

    # -- members of catalogs

    async def add_member(self, origin: bytes, catalog: bytes) -> None:
        """Follow one more zone, with the settings of its catalog."""
        settings = self._settings[catalog]
        served = ServedZone(origin)
        self._settings[origin] = Settings(
            (origin,), settings.primaries, settings.fallthrough, settings.store
        )
        follower = Follower(served, settings.primaries)
        await self.prepare(follower)
        self.followers[origin] = follower
        self.zones.add(served)
        if self._shared is not None:
            self._start(follower)

    async def remove_member(self, origin: bytes) -> None:
        """Stop to follow a zone, and forget it."""
        follower = self.followers.pop(origin)
        follower.stop()
        self._zones.remove(follower)
        self.zones.remove(origin)
        del self._settings[origin]
        if follower.store is not None:
            try:
                await in_thread(partial(follower.store.remove, origin))
            except OSError as error:
                LOG.error("the stored zone %s cannot be removed: %s", to_text(origin), error)
        if self._shared is not None:
            await forget(self._shared.context, origin)

    # -- notifications

    def other_opcode(self, request: Request, served: ServedZone) -> Answer:
        """Answer a NOTIFY of a primary server, and check the zone (RFC 1996)."""
        follower = self.followers.get(request.name_wire)
        if request.opcode != OPCODE_NOTIFY or request.qtype != TYPE_SOA or follower is None:
            return request.error(REFUSED)
        address = address_bytes(request.client)
        primaries = [it for it in follower.primaries if it.address.packed == address]
        if not address or not primaries:
            self._report(request, "it is not a primary server of the zone")
            return request.drop()  # RFC 1996 section 3.10
        key = primaries[0].key
        if key is not None:
            tsig = request.identity.tsig
            if tsig is None or not tsig.is_valid or tsig.key_name != key.name:
                self._report(request, f"it is not signed with the key {to_text(key.name)}")
                return request.error(REFUSED)
        if follower.notify(address):
            self._zones.tell(request.name_wire, address)
        return request.reply(authoritative=True)

    def notified(self, zone: bytes, address: bytes) -> None:
        """Check a zone of which another process was notified."""
        follower = self.followers.get(zone)
        if follower is not None:
            follower.notify(address)

    def _report(self, request: Request, problem: str) -> None:
        """Log a NOTIFY that is ignored, not more often than every 10 seconds."""
        if request.received >= self._quiet_until:
            self._quiet_until = request.received + SECONDS_BETWEEN_MESSAGES
            client = request.remote[0]
            LOG.warning("NOTIFY for %s from %s is ignored: %s", request.name, client, problem)

    def explain_state(self, request: Request, reply: Reply | None = None) -> dict[str, str | int]:
        """Return the state of the zone, and when a primary server last confirmed it."""
        state = super().explain_state(request, reply)
        served = self.zone_of(request.name_wire)
        follower = None if served is None else self.followers.get(served.origin)
        if follower is None:
            return state
        if follower.confirmed is not None:
            state["seconds since the last check"] = int(time.monotonic() - follower.confirmed)
        if follower.source is not None:
            state["primary server"] = str(follower.source)
        if follower.problem:
            state["problem"] = follower.problem
        return state
