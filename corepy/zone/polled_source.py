"""`PolledSource`: the copies of the hosted zones of one API account, shared by directives.

Directives with the same settings share it, also those of the next generation, so a reload lists
nothing again. In a server of several processes, only the leader lists.
"""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import suppress
from dataclasses import dataclass, field, fields, is_dataclass
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from corepy.plugin import plugin_logger
from corepy.zone.polled_copy import PolledCopy
from corepy.zone.polled_metrics import PolledMetrics
from corepy.zone.polled_sharing import Publisher, Subscriber

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from corepy.plugin import ProcessGroup
    from corepy.zone.polled_api import Outcome, PolledClient, PolledZone, ZoneIntake
    from corepy.zone.polled_copy import CopyMember

LISTS_AT_ONCE: Final = 2
"""Lists of one account at a time: APIs limit the requests of an account per second."""


@dataclass(frozen=True, slots=True)
class PolledSettings:
    """What directives that share their copies have in common."""

    plugin: str
    """The directive; for logs and metrics."""

    key: Hashable = field(repr=False)
    """The settings of the client, such as endpoint and credentials; it may have secrets."""

    refresh: float = 60.0
    """Seconds between two lists of a zone."""

    place: Hashable = field(default=None, kw_only=True)
    """What distinguishes hosted zones with one ID, such as the endpoint; None if that is unknown.

    A directive with other settings at the same place, such as new credentials, begins with the copy
    of the generation before.
    """

    make_client: Callable[[], PolledClient] = field(compare=False, kw_only=True)
    """Called in the event loop; it must not block, nor raise."""

    def has_zones_of(self, other: PolledSettings) -> bool:
        """Return whether equal IDs are the same hosted zones."""
        if self.plugin != other.plugin:
            return False
        return self.key == other.key or (self.place is not None and self.place == other.place)

    @property
    def name(self) -> str:
        """A name for the connection between the processes of a server, without secrets."""
        identity = repr((_identity(self.key), self.refresh))
        return f"{self.plugin} {hashlib.sha256(identity.encode()).hexdigest()[:16]}"


def _identity(value: object) -> object:
    """Return a value as nested tuples with all fields, also those that `repr` hides."""
    if isinstance(value, tuple):
        return tuple(map(_identity, value))
    if is_dataclass(value):
        return tuple(_identity(getattr(value, it.name)) for it in fields(value) if it.compare)
    return repr(value)


@dataclass(slots=True)
class _Entry:
    copy: PolledCopy
    members: list[CopyMember]


class PolledSource:
    """The copies of one account, in this process."""

    def __init__(self, settings: PolledSettings, group: ProcessGroup) -> None:
        self.settings = settings
        self._client: PolledClient | None = None
        self._publisher: Publisher | None = None
        self._subscriber: Subscriber | None = None
        self._places = asyncio.Semaphore(LISTS_AT_ONCE)
        self._metrics = PolledMetrics(settings.plugin)
        self._log = plugin_logger(settings.plugin)
        self._entries: dict[PolledZone, _Entry] = {}
        if not group.is_leader:
            self._subscriber = Subscriber(group, settings.name, self._receive)
            return
        self._client = settings.make_client()
        if group.size > 1:
            self._publisher = Publisher(group, settings.name, self._copy_of)

    def _copy_of(self, zone: PolledZone) -> PolledCopy | None:
        entry = self._entries.get(zone)
        return None if entry is None else entry.copy

    async def _receive(self, outcome: Outcome, intake: ZoneIntake | None) -> None:
        """Take over the outcome of a list, in a follower."""
        copy = self._copy_of(outcome.zone)
        if copy is not None:
            await copy.follow(outcome, intake)

    def join(self, member: CopyMember, zones: Sequence[PolledZone]) -> list[PolledCopy]:
        """Return the copies of zones, in their order; `leave` must follow."""
        return [self._join(member, zone) for zone in zones]

    def _join(self, member: CopyMember, zone: PolledZone) -> PolledCopy:
        entry = self._entries.get(zone)
        if entry is None:
            members: list[CopyMember] = []
            copy = PolledCopy(zone, self._log, self._metrics, members)
            entry = self._entries[zone] = _Entry(copy, members)
            earlier = self._earlier(zone)
            if earlier is not None:
                copy.adopt(earlier)
            self._start(copy)
        entry.members.append(member)
        return entry.copy

    def _earlier(self, zone: PolledZone) -> PolledCopy | None:
        """Return a copy of a zone that directives with other settings have."""
        for source in _sources.get(asyncio.get_running_loop(), {}).values():
            if source is not self and source.settings.has_zones_of(self.settings):
                found = source._copy_of(zone)
                if found is not None and found.current is not None:
                    return found
        return None

    def _start(self, copy: PolledCopy) -> None:
        if self._publisher is not None:
            copy.listed = self._publisher.listed
        if self._subscriber is not None:
            self._subscriber.follow(copy.zone)
        if self._client is not None:
            copy.start(self._client, self._places, self.settings.refresh)

    def leave(self, member: CopyMember) -> bool:
        """Stop the copies that only this handler has used; return whether none is left."""
        for zone, entry in list(self._entries.items()):
            if member in entry.members:
                entry.members.remove(member)
            if not entry.members:
                entry.copy.stop()
                self._metrics.forget(zone)
                if self._subscriber is not None:
                    self._subscriber.leave(zone)
                del self._entries[zone]
        if self._entries:
            return False
        for part in (self._client, self._publisher, self._subscriber):
            if part is not None:
                part.close()
        return True


async def wait_until_tried(copies: Sequence[PolledCopy], seconds: float) -> None:
    """Wait until each copy was listed, or this has failed, for at most some seconds."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            for copy in copies:
                await copy.tried.wait()


_sources: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[PolledSettings, PolledSource]]
_sources = WeakKeyDictionary()


def join_source(settings: PolledSettings, group: ProcessGroup) -> PolledSource:
    """Return the source for some settings in this process."""
    sources = _sources.setdefault(asyncio.get_running_loop(), {})
    source = sources.get(settings)
    if source is None:
        source = sources[settings] = PolledSource(settings, group)
    return source


def leave_source(source: PolledSource, member: CopyMember) -> None:
    """Forget a handler, and with the last one the source."""
    sources = _sources.get(asyncio.get_running_loop(), {})
    if source.leave(member) and sources.get(source.settings) is source:
        del sources[source.settings]
