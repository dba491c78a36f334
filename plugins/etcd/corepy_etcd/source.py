"""`Source`: the copy of one etcd, shared by directives with the same settings, over reloads."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol
from weakref import WeakKeyDictionary

from corepy.dns.names import labels_of
from corepy.plugin import ChangedNames, in_thread
from corepy.plugin.tls_client import TLSFiles, client_context
from corepy_etcd.gateway import Gateway
from corepy_etcd.sharing import LeaderState, Publisher, Subscriber
from corepy_etcd.store import LOG, Store
from corepy_etcd.tree import ANY_LABEL
from corepy_etcd.watching import Watcher

if TYPE_CHECKING:
    import ssl

    from corepy.http.http_client import HTTPTarget
    from corepy.plugin import LifecycleContext, ProcessGroup
    from corepy_etcd.gateway import Credentials

SPACING: Final = 0.05
"""Seconds between two removals of changed names from caches; the first is done at once."""

MOST_NAMES: Final = 1000
"""Changed keys above which all names of the zones are removed from caches."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What determines the copy."""

    endpoints: tuple[HTTPTarget, ...]
    prefix: str = "/skydns/"
    credentials: Credentials | None = None
    tls: TLSFiles = field(default_factory=TLSFiles)

    @property
    def name(self) -> str:
        """A name for the connection between the processes of a server, without secrets."""
        return "etcd " + hashlib.sha256(repr(self).encode()).hexdigest()[:16]


class Member(Protocol):
    """A handler that answers from the copy."""

    def has_zone_of(self, name: bytes) -> bool:
        """Return whether a name is in its zones."""


class Source:
    """The copy, and its connection to etcd or to the leader of the server's processes."""

    def __init__(self, settings: Settings, group: ProcessGroup) -> None:
        self.store = Store(settings.prefix, self._on_change)
        self.token = secrets.token_bytes(8)
        """Distinguishes this copy from all others, for caches above its handlers."""
        self.is_synced = False
        """Whether the copy was complete at some time."""
        self.serial = 0
        """The revision of etcd at the last change."""
        self.is_forgetting = False
        """Whether caches may have replies from before the last change."""
        self.synced = asyncio.Event()
        self._members: dict[Member, LifecycleContext] = {}
        self._changed: set[bytes] = set()
        self._patterns: set[bytes] = set()  # answered since the last change
        self._task: asyncio.Task[None] | None = None
        self.watcher: Watcher | None = None
        self._subscriber: Subscriber | None = None
        self._publisher: Publisher | None = None
        if group.is_leader:
            self._follow_etcd(settings, group)
        else:
            self._subscriber = Subscriber(group, settings.name, self.store, self._on_complete)

    def _follow_etcd(self, settings: Settings, group: ProcessGroup) -> None:
        if group.size > 1:
            state = self._state_of_leader
            self._publisher = Publisher(group, settings.name, self.store, state)
        tls = partial(_create_context, settings.tls)
        gateway = Gateway(settings.endpoints, tls, settings.credentials)
        self.watcher = Watcher(gateway, self.store, self._on_synced, self._on_lease_checked)
        self.watcher.start()

    def _state_of_leader(self) -> LeaderState:
        return LeaderState(self.is_synced, self.serial)

    async def wait(self, seconds: float) -> None:
        """Wait until the copy is complete, or etcd has failed, for at most some seconds."""
        tried = self.synced if self.watcher is None else self.watcher.has_tried
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await tried.wait()

    # -- members

    def join(self, member: Member, context: LifecycleContext) -> None:
        """Remove changed names from the caches of a handler's generation from now on."""
        self._members[member] = context

    def leave(self, member: Member) -> bool:
        """Forget a handler; after the last one, stop and return True."""
        self._members.pop(member, None)
        if self._members:
            return False
        for part in (self._publisher, self._subscriber):
            if part is not None:
                part.close()
        if self.watcher is not None:
            self.watcher.stop()
        if self._task is not None:
            self._task.cancel()
        return True

    def note_pattern(self, name: bytes) -> None:
        """Record that a pattern is answered: any change may change the reply."""
        if len(self._patterns) <= MOST_NAMES:
            self._patterns.add(name)

    # -- changes

    def _on_change(self, key: bytes) -> None:
        if self._publisher is not None:
            self._publisher.changed(key)
        if self.is_synced and len(self._changed) <= MOST_NAMES:
            self._changed.add(key)
            self._forget_soon()

    def _on_lease_checked(self, lease: int) -> None:
        if self._publisher is not None:
            self._publisher.lease_checked(lease)

    def _on_synced(self) -> None:
        """Serve the copy, in the leader."""
        assert self.watcher is not None
        self._begin(self.watcher.revision)
        if self._publisher is not None:
            self._publisher.synced()

    def _on_complete(self, serial: int) -> None:
        """Serve the copy, in a follower."""
        self._begin(serial)
        self.serial = serial

    def _begin(self, serial: int) -> None:
        if not self.is_synced:
            self.is_synced, self.serial = True, serial
            self.synced.set()
            self._changed.update(list(self.store.entries)[: MOST_NAMES + 1])
            self._forget_soon()

    def _forget_soon(self) -> None:
        self.is_forgetting = True
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._forget(), name="forget names of etcd")

    async def _forget(self) -> None:
        """Remove the changed names from caches, until there are none."""
        while self._changed:
            await asyncio.sleep(0)  # the rest of the events that have arrived together
            keys, self._changed = self._changed, set()
            if self.watcher is not None:
                self.serial = max(self.watcher.revision, self.serial)
            await self._forget_keys(keys)
            self.is_forgetting = bool(self._changed)
            await asyncio.sleep(SPACING)

    async def _forget_keys(self, keys: set[bytes]) -> None:
        patterns, self._patterns = self._patterns, set()
        if len(keys) > MOST_NAMES or len(patterns) > MOST_NAMES:
            for member, context in list(self._members.items()):
                await context.forget_names(member.has_zone_of)
            return
        changed = ChangedNames(self.store.affected_names(keys) | patterns)
        contexts = {id(context): context for context in self._members.values()}
        for context in contexts.values():
            await context.forget_names(changed)


async def _create_context(files: TLSFiles) -> ssl.SSLContext:
    """Return a context for a new connection, from the present content of the files.

    Raises `OSError`.
    """
    try:
        context: ssl.SSLContext = await in_thread(partial(client_context, files, ()))
    except ValueError as error:
        raise OSError(str(error)) from None
    return context


def is_pattern(name: bytes) -> bool:
    """Return whether a name has a label that stands for others (`ANY_LABEL`)."""
    may_be = b"\1*" in name or b"\3any" in name
    return may_be and not ANY_LABEL.isdisjoint(labels_of(name))


_sources: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Settings, Source]]
_sources = WeakKeyDictionary()


def join(
    settings: Settings, group: ProcessGroup, member: Member, context: LifecycleContext
) -> Source:
    """Return the copy for some settings in this process; `leave` must follow."""
    sources = _sources.setdefault(asyncio.get_running_loop(), {})
    source = sources.get(settings)
    if source is None:
        source = sources[settings] = Source(settings, group)
        LOG.debug("following etcd below %s", settings.prefix)
    source.join(member, context)
    return source


def leave(settings: Settings, source: Source, member: Member) -> None:
    """Forget a handler, and with the last one the copy."""
    sources = _sources.get(asyncio.get_running_loop(), {})
    if source.leave(member) and sources.get(settings) is source:
        del sources[settings]
