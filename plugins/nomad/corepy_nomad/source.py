"""`Source`: the services of one Nomad, shared by directives with the same settings, over reloads.

A namespace is read when a client asks for a name in it, and followed while it is used. Its list
names all services, so a name that does not exist costs no request. The instances of a service are
read at the first query for it.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from corepy.net.backoff import Backoff
from corepy_nomad.access import Access, Address
from corepy_nomad.answers import Answers
from corepy_nomad.client import NomadClient
from corepy_nomad.errors import NomadError
from corepy_nomad.following import FIRST_PAUSE, LAST_PAUSE, Follower
from corepy_nomad.forgetting import Forgetter
from corepy_nomad.namespaces import Denial, Failure, Namespace
from corepy_nomad.problems import LOG, Problems
from corepy_nomad.tls import TLSSettings, create_context
from corepy_nomad.unknown_namespaces import UnknownNamespaces

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from corepy.plugin import LifecycleContext
    from corepy_nomad.forgetting import Member
    from corepy_nomad.namespaces import Outcome
    from corepy_nomad.responses import Instance

LONGEST_WAIT: Final = 4.0
"""Seconds that a query waits for Nomad; the request continues for later queries."""

UNUSED: Final = 120.0
"""Seconds without a query, beyond the TTL, after which a service or a namespace is forgotten."""

WATCHES: Final = 16
CALLS: Final = 4
"""Requests at a time: for changes of namespaces, and for services.

Together with those for unknown namespaces, they are few enough for several processes with one
client address, of which Nomad accepts 100 connections by default (http_max_conns_per_client).
"""

WAIT: Final = 40.0
SHORT_WAIT: Final = 1.0
"""Seconds that a list waits for a change; the short one if more namespaces than `WATCHES` are used.

Proxies end a request without a response after 50 or 60 seconds, and Nomad may add a sixteenth.
"""

MOST_NAMESPACES: Final = 256
MOST_READS: Final = 1000
"""Services that are read for the first time at once; queries for further ones fail."""

REMEMBERED: Final = 10.0
"""Seconds for which a namespace is not asked for again that has no services or is refused."""

RETRY: Final = 1.0
"""Seconds after a failure in which queries fail without a request."""

_SLOW: Final = Failure("Nomad does not respond in time")
_BUSY: Final = Failure("too many services are read from Nomad at the moment")


@dataclass(frozen=True, slots=True)
class Settings:
    """What determines the copy."""

    addresses: tuple[Address, ...]
    access: Access = field(default_factory=Access)
    tls: TLSSettings = field(default_factory=TLSSettings)
    ttl: int = 30
    """The TTL of the records in seconds."""


class Source:
    """The copies of the namespaces in use."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        tls = partial(create_context, settings.tls)
        name = settings.tls.server_name or None
        self.client = NomadClient(settings.addresses, settings.access, tls, name)
        self.problems = Problems()
        self.namespaces: dict[str, Namespace] = {}
        self.forgetter = Forgetter()
        self.is_ready = False
        """Whether Nomad has answered."""
        self.has_tried = asyncio.Event()
        """Set when Nomad has answered, or failed."""
        self.token = secrets.token_bytes(8)
        """Distinguishes this copy from all others, for caches above its handlers."""
        self.idle = UNUSED + settings.ttl
        self.watches = asyncio.Semaphore(WATCHES)
        self._calls = asyncio.Semaphore(CALLS)
        self._unknown = UnknownNamespaces()
        self._reads: dict[tuple[str, str | None], asyncio.Task[Outcome | None]] = {}
        self._followers: dict[str, asyncio.Task[None]] = {}
        self._probe = asyncio.create_task(self._probe_until_ready(), name="probe Nomad")

    @property
    def wait(self) -> float:
        """Seconds that a list may wait for a change."""
        return WAIT if len(self.namespaces) <= WATCHES else SHORT_WAIT

    @property
    def serial(self) -> int:
        """The highest index of Nomad's state."""
        return max((it.index for it in self.namespaces.values()), default=0)

    # -- queries

    def find(self, namespace: str, service: str | None) -> Outcome | None:
        """Return the answer for a service, or for a namespace itself, if it is known."""
        now = time.monotonic()
        known = self.namespaces.get(namespace)
        if known is not None:
            return known.find(service, now)
        return self._unknown.find(namespace, now)

    async def load(self, namespace: str, service: str | None, client: bytes = b"") -> Outcome:
        """Return the answer for a service, or for a namespace itself, after asking Nomad.

        `client`, from `client_of`, has a share of the requests for unknown namespaces.
        """
        deadline = time.monotonic() + LONGEST_WAIT
        if namespace not in self.namespaces:
            outcome = await self._wait_for(namespace, None, client, deadline)
            if outcome is not None:
                return outcome
        outcome = self.find(namespace, service)
        if outcome is None and service is not None:
            outcome = await self._wait_for(namespace, service, client, deadline)
        return outcome or _SLOW

    async def _wait_for(
        self, namespace: str, service: str | None, client: bytes, deadline: float
    ) -> Outcome | None:
        """Return the result of a task that reads something, which all queries for it share."""
        key = namespace, service
        task = self._reads.get(key)
        if task is None:
            reading = self._begin(namespace, service, client)
            if reading is None:
                return _BUSY
            task = self._reads[key] = asyncio.create_task(reading, name="read Nomad")
            task.add_done_callback(lambda _: self._reads.pop(key, None))
        done, _ = await asyncio.wait((task,), timeout=max(0.0, deadline - time.monotonic()))
        return task.result() if done and not task.cancelled() else _SLOW

    def _begin(
        self, namespace: str, service: str | None, client: bytes
    ) -> Coroutine[Any, Any, Outcome | None] | None:
        """Return a coroutine that reads something, None if too much is read at the moment."""
        if service is None and namespace not in self._unknown.seen:
            turn = self._unknown.turns.request(client)
            return None if turn is None else self._read_unknown(namespace, turn)
        return self._read(namespace, service) if len(self._reads) < MOST_READS else None

    # -- reading

    async def _read_unknown(self, namespace: str, turn: asyncio.Future[None]) -> Outcome | None:
        await turn
        try:
            await self._unknown.pace()
            return await self._read_namespace(namespace)
        finally:
            self._unknown.turns.end()

    async def _read(self, namespace: str, service: str | None) -> Outcome | None:
        if service is None:
            async with self._calls:
                return await self._read_namespace(namespace)
        known = self.namespaces.get(namespace)
        if known is None or service not in known.names:
            return Denial.NO_NAME
        return await self._read_first(known, service)

    async def _read_first(self, namespace: Namespace, service: str) -> Outcome | None:
        """Read a service at a query for it."""
        label = namespace.label
        try:
            await self.read(namespace, service)
        except OSError as error:
            self.problems.report(label, str(error))
            return Failure(str(error))
        if self.problems.concerns(label) and not namespace.outdated():
            self.problems.solved(label)
        return namespace.find(service, time.monotonic())

    async def _read_namespace(self, label: str) -> Outcome | None:
        """Read the names of a namespace that is not known.

        If it has any, follow it and return None.
        """
        try:
            names = await self.client.names(label)
        except OSError as error:
            is_refused = isinstance(error, NomadError) and error.is_about_request
            self.problems.not_followed(label, str(error))
            failure = Failure(str(error))
            return self._unknown.remember(label, failure, REMEMBERED if is_refused else RETRY)
        if names.found is None or not names.found.names:
            return self._unknown.remember(label, Denial.NO_NAME, REMEMBERED)
        namespace = Namespace(label, names.answered)
        namespace.update(names)
        self._follow(namespace)
        if self._unknown.add(label):
            self.changed(label, None)
        return None

    async def read(self, namespace: Namespace, service: str) -> None:
        """Read the instances of a service into its copy; raises `OSError`."""
        copy = namespace.copy_of(service, time.monotonic())
        async with self._calls:
            version = namespace.version
            try:
                answers = await self._answers(namespace, service)
            except OSError as error:
                copy.failure = Failure(str(error))
                copy.retry_at = time.monotonic() + RETRY
                raise
        if service not in namespace.names:  # gone meanwhile
            return
        namespace.copies[service] = copy
        was_answered = copy.answers is not None or copy.failure is not None
        is_changed = not answers.is_like(copy.answers)
        copy.answers, copy.failure = answers, None
        if namespace.version == version:
            copy.outdated_since = None
        if was_answered and is_changed:
            self.changed(namespace.label, {service})

    async def _answers(self, namespace: Namespace, service: str) -> Answers:
        instances: list[Instance] = []
        for name in namespace.spellings(service):
            found, unusable = await self.client.instances(namespace.label, name)
            instances += found
            if unusable:
                message = "%d instances of %s in namespace %s have no usable address or port"
                LOG.debug(message, unusable, name, namespace.label)
        return Answers(instances, self.settings.ttl)

    # -- following

    def _follow(self, namespace: Namespace) -> None:
        if len(self.namespaces) >= MOST_NAMESPACES:
            self.drop(min(self.namespaces.values(), key=lambda it: it.used))
        self.namespaces[namespace.label] = namespace
        run = Follower(namespace, self).run()
        self._followers[namespace.label] = asyncio.create_task(run, name="follow Nomad")

    def changed(self, namespace: str, services: set[str] | None) -> None:
        """Remove the replies for services from caches, None for all of the namespace."""
        self.forgetter.changed(namespace, services)

    def drop(self, namespace: Namespace) -> None:
        """Forget a namespace that is not used any more."""
        self.problems.forget(namespace.label)
        self.namespaces.pop(namespace.label, None)
        task = self._followers.pop(namespace.label, None)
        if task is not None and task is not asyncio.current_task():
            task.cancel()

    async def _probe_until_ready(self) -> None:
        backoff = Backoff(FIRST_PAUSE, LAST_PAUSE)
        while not self.is_ready:
            try:
                await self.client.probe()
            except OSError as error:
                self.problems.report("", str(error))
                self.has_tried.set()
                await asyncio.sleep(backoff.next_delay())
            else:
                self.problems.solved("")
                self.is_ready = True
                LOG.info("Nomad answers at %s", self.client.address)
        self.has_tried.set()

    # -- members

    def join(self, member: Member, context: LifecycleContext) -> None:
        """Remove changed names from the caches of a handler's generation from now on."""
        self.forgetter.members[member] = context

    def leave(self, member: Member) -> bool:
        """Forget a handler; after the last one, stop and return True."""
        self.forgetter.members.pop(member, None)
        if self.forgetter.members:
            return False
        for task in (self._probe, *self._followers.values(), *self._reads.values()):
            task.cancel()
        self.forgetter.stop()
        self.client.close()
        return True


_sources: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Settings, Source]]
_sources = WeakKeyDictionary()


def join(settings: Settings, member: Member, context: LifecycleContext) -> Source:
    """Return the copy for some settings in this process; `leave` must follow."""
    sources = _sources.setdefault(asyncio.get_running_loop(), {})
    source = sources.get(settings)
    if source is None:
        source = sources[settings] = Source(settings)
    source.join(member, context)
    return source


def leave(settings: Settings, source: Source, member: Member) -> None:
    """Forget a handler, and with the last one the copy."""
    sources = _sources.get(asyncio.get_running_loop(), {})
    if source.leave(member) and sources.get(settings) is source:
        del sources[settings]
