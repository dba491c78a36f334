"""`Forgetter`: removes the replies for changed services from the caches above the handlers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

from corepy.dns.names import is_subdomain
from corepy.plugin import ChangedNames

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from corepy.plugin import LifecycleContext

SPACING: Final = 0.05
"""Seconds between two removals of changed names from caches; the first is done at once."""

MOST_NAMES: Final = 1000
"""Changed services of a namespace above which all of its names are removed from caches."""


class Member(Protocol):
    """A handler that answers from the copy."""

    zone: bytes
    """Its zone, in wire form and lower case."""


def label(text: str) -> bytes:
    """Return a label in wire form."""
    return bytes((len(text),)) + text.encode("ascii")


class Forgetter:
    """Collects changes, and removes the names concerned from the caches of all members."""

    def __init__(self) -> None:
        self.members: dict[Member, LifecycleContext] = {}
        self._services: dict[str, set[str] | None] = {}
        """The changed services by namespace, None for all of them."""
        self._task: asyncio.Task[None] | None = None
        self.is_forgetting = False
        """Whether caches may have replies from before the last change."""

    def changed(self, namespace: str, services: set[str] | None) -> None:
        """Remove the names of some services of a namespace, None for all."""
        before = self._services.get(namespace, set())
        added = None if before is None or services is None else before | services
        if added is not None and len(added) > MOST_NAMES:
            added = None
        self._services[namespace] = added
        self.is_forgetting = True
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._forget(), name="forget names of Nomad")

    def stop(self) -> None:
        """Forget nothing more."""
        if self._task is not None:
            self._task.cancel()

    async def _forget(self) -> None:
        while self._services:
            await asyncio.sleep(0)  # the rest of the changes that were found together
            services, self._services = self._services, {}
            for selection in self._selections(services):
                contexts = {id(context): context for context in self.members.values()}
                for context in contexts.values():
                    await context.forget_names(selection)
            self.is_forgetting = bool(self._services)
            await asyncio.sleep(SPACING)

    def _selections(
        self, services: dict[str, set[str] | None]
    ) -> Iterable[Callable[[bytes], bool]]:
        """Return predicates that select the names of changed services."""
        names: set[bytes] = set()
        parents: set[bytes] = set()
        for namespace, changed in services.items():
            for member in self.members:
                parent = label(namespace) + member.zone
                names.add(parent)  # whose existence depends on its services
                if changed is None:
                    parents.add(parent)
                else:
                    names |= {label(service) + parent for service in changed}
        yield ChangedNames(names)
        if parents:
            yield lambda name: any(is_subdomain(name, parent) for parent in parents)
