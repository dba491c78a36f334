"""`Follower`: keeps the copy of one namespace equal to Nomad, with blocking queries.

Nomad answers the list of a namespace's services as soon as any of them has changed, but does not
name the changed ones, so the instances of all services in use are read again then. After this work
the follower rests for a multiple of its duration, so that neither a large namespace nor one with
many changes takes much time of this process or of Nomad.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final, Protocol

from corepy.net.backoff import Backoff
from corepy_nomad.errors import NomadError
from corepy_nomad.namespaces import LONGEST_STALE
from corepy_nomad.problems import LOG

if TYPE_CHECKING:
    from corepy_nomad.client import Names, NomadClient
    from corepy_nomad.namespaces import Namespace
    from corepy_nomad.problems import Problems

SPACING: Final = 1.0
"""Seconds of rest after a list, at least."""

REST: Final = 4.0
"""The rest, as a multiple of the work before it."""

LONGEST_REST: Final = 60.0

POLL: Final = 5.0
"""Seconds between two lists if Nomad does not wait for a change, for example behind a proxy."""

FIRST_PAUSE: Final = 0.25
LAST_PAUSE: Final = 10.0
"""Seconds between attempts, doubled after each failure."""

LONGEST_PAUSE: Final = 300.0
"""Seconds that Nomad can ask for with the header Retry-After."""

READERS: Final = 4
"""Services that are read at a time."""

MOST_FAILURES: Final = 3
"""Failures after which the rest of the services is left for the next attempt."""


class Host(Protocol):
    """The `Source`, as a follower needs it."""

    client: NomadClient
    problems: Problems
    watches: asyncio.Semaphore
    idle: float
    """Seconds without a query after which a service is forgotten."""

    @property
    def wait(self) -> float:
        """Seconds that a list may wait for a change."""

    async def read(self, namespace: Namespace, service: str) -> None:
        """Read the instances of a service into its copy; raises `OSError`."""

    def changed(self, namespace: str, services: set[str]) -> None:
        """Remove the replies for services from caches."""

    def drop(self, namespace: Namespace) -> None:
        """Forget a namespace that is not used any more."""


class Follower:
    """Follows one namespace, in a task of its own."""

    def __init__(self, namespace: Namespace, host: Host) -> None:
        self.namespace = namespace
        self._host = host
        self._backoff = Backoff(FIRST_PAUSE, LAST_PAUSE)

    async def run(self) -> None:
        """Follow the namespace until it is not used any more.

        After a failure nothing is forgotten, because it cannot be read again.
        """
        namespace, idle = self.namespace, self._host.idle
        while time.monotonic() - namespace.used < idle or self._is_away():
            if not self._is_away():
                namespace.drop_unused(idle)
            await asyncio.sleep(await self.turn())
        self._host.drop(namespace)

    def _is_away(self) -> bool:
        """Return whether Nomad cannot be read, but the copy still answers queries."""
        is_kept = time.monotonic() - self.namespace.confirmed <= LONGEST_STALE
        return is_kept and self._host.problems.concerns(self.namespace.label)

    async def turn(self) -> float:
        """Wait for a change and take it; return the seconds to rest."""
        try:
            pause = await self._follow()
        except OSError as error:
            pause = self._failed(str(error))
            if isinstance(error, NomadError) and error.retry_after:
                pause = max(pause, min(error.retry_after, LONGEST_PAUSE))
        except Exception:  # a response must not be able to end the task
            LOG.exception("the namespace %s cannot be followed", self.namespace.label)
            pause = self._failed("unexpected error")
        else:
            self._backoff.reset()
            self._host.problems.solved(self.namespace.label)
        return pause

    def _failed(self, problem: str) -> float:
        self.namespace.index = 0  # the next answer may be that of another server
        self._host.problems.report(self.namespace.label, problem)
        return self._backoff.next_delay()

    async def _follow(self) -> float:
        namespace = self.namespace
        index = 0 if namespace.outdated() else namespace.index
        asked = time.monotonic()
        async with self._host.watches:
            names = await self._host.client.names(namespace.label, index, self._host.wait)
        changed = namespace.update(names)
        if changed:
            self._host.changed(namespace.label, changed)
        await self._read_outdated()
        if not names.reached or (names.found is None and names.answered - asked < SPACING):
            return POLL
        return self._rest(names)

    def _rest(self, names: Names) -> float:
        return min(LONGEST_REST, max(SPACING, REST * (time.monotonic() - names.answered)))

    async def _read_outdated(self) -> None:
        """Read the outdated services again, those that failed before at last."""
        copies = self.namespace.copies
        services = iter(sorted(self.namespace.outdated(), key=lambda it: copies[it].retry_at))
        failures: list[OSError] = []

        async def read_some() -> None:
            for service in services:
                try:
                    await self._host.read(self.namespace, service)
                except OSError as error:
                    failures.append(error)
                    if len(failures) >= MOST_FAILURES:
                        return

        await asyncio.gather(*(read_some() for _ in range(READERS)))
        if failures:
            raise failures[0]
