"""`PolledHandler`: answers from zones that are copied from an API; *route53* and others.

A name of a zone may have several copies, such as a private and a public hosted zone. They are asked
in order: the first one that has records for the name answers (CoreDNS: plugin/route53/route53.go,
ServeDNS; the same in azure and clouddns).
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final
from weakref import WeakKeyDictionary

from pluggy import PluginManager

from corepy.dns import constants as c
from corepy.dns.edns import EDE_NOT_READY
from corepy.dns.names import to_text
from corepy.plugin import LifecycleContext, StartupError, hookimpl, in_thread
from corepy.zone.polled_names import affected_names
from corepy.zone.polled_source import (
    PolledSettings,
    PolledSource,
    join_source,
    leave_source,
    wait_until_tried,
)
from corepy.zone.served import ServedZone, ServedZones
from corepy.zone.zone_handler import ZoneHandler
from corepy.zone.zone_lookup import Lookup, Match

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from corepy.dns import Reply, Request
    from corepy.plugin import Fallthrough
    from corepy.plugin.handler import Answer
    from corepy.zone.polled_api import PolledZone
    from corepy.zone.polled_copy import PolledCopy
    from corepy.zone.zone import Zone

LONGEST_WAIT: Final = 5.0
LONGEST_WAIT_AT_RELOAD: Final = 30.0
"""Seconds that a start waits for the first copies, unless the API fails before. At a reload, the
generation before answers meanwhile."""

SHORTEST_WAIT: Final = 1.0
"""Seconds for the copies of a handler when those of others have used up the time."""

_deadlines: WeakKeyDictionary[PluginManager, float] = WeakKeyDictionary()
"""The monotonic times until which generations wait, by their plugins."""

_NOT_LOADED: Final = (EDE_NOT_READY, "")
_NO_NAME: Final = frozenset((Match.NO_NAME, Match.EMPTY_NON_TERMINAL))


class CopiedZone(ServedZone):
    """A zone with its copies in the order in which they are asked; `current` is of the first."""

    __slots__ = ("copies",)

    def __init__(self, origin: bytes) -> None:
        super().__init__(origin)
        self.copies: list[PolledCopy] = []


class PolledHandler(ZoneHandler):
    """Answers from copies of hosted zones; a plugin subclasses it to set `name`.

    As in CoreDNS, the zones are not transferred: the serials of most providers never change.
    `zones` of the base class, which *transfer* reads, is empty.
    """

    name: ClassVar[str]
    passed: ClassVar[frozenset[Match]] = _NO_NAME | {Match.DELEGATION}

    def __init__(
        self, settings: PolledSettings, zones: Sequence[PolledZone], fallthrough: Fallthrough
    ) -> None:
        """Copy `zones`; several with one origin are asked in this order."""
        super().__init__(fallthrough)
        self._settings = settings
        self._polled = tuple(dict.fromkeys(zones))
        self._copied = ServedZones()
        for zone in self._polled:
            if self._copied.get(zone.origin) is None:
                self._copied.add(CopiedZone(zone.origin))
        self._source: PolledSource | None = None
        self._context: LifecycleContext | None = None

    @property
    def copies(self) -> list[PolledCopy]:
        """All copies, by zone in the order in which they are asked."""
        return [copy for served in self._copied for copy in self._copies_of(served)]

    @staticmethod
    def _copies_of(served: ServedZone) -> list[PolledCopy]:
        assert isinstance(served, CopiedZone)
        return served.copies

    @property
    def inputs(self) -> bytes | None:
        """The versions of all copies; None while caches may have older replies."""
        copies = self.copies
        if any(it.is_forgetting or it.current is None for it in copies):
            return None
        return b"".join(it.version for it in copies)

    # -- queries

    def zone_of(self, name: bytes) -> ServedZone | None:
        """Return the zone that answers for a name in lower case, None if there is none."""
        return self._copied.find(name)

    def _answer(self, request: Request, served: ServedZone, zone: Zone) -> Answer:
        copies = self._copies_of(served)
        if len(copies) == 1:
            return super()._answer(request, served, zone)
        found = _search(request, copies)
        if found is None:
            reason = f"a copy of the zone {to_text(served.origin)} is not loaded"
            return request.error(c.SERVFAIL, reason, _NOT_LOADED)
        return super()._answer(request, served, found[0])

    # -- copies (`corepy.zone.polled_copy.CopyMember`)

    def copy_changed(self, copy: PolledCopy) -> None:
        """Answer from a new version."""
        served = self._copied.get(copy.zone.origin)
        if served is not None and self._copies_of(served)[0] is copy:
            served.current = copy.current

    async def forget_copy(self, copy: PolledCopy, before: Zone | None) -> None:
        """Remove the replies that the change of a copy affects from all caches."""
        served = self._copied.get(copy.zone.origin)
        if self._context is None or served is None or copy.current is None:
            return
        others = [it.current for it in self._copies_of(served) if it.current is not None]
        is_affected = await in_thread(partial(affected_names, before, copy.current, others))
        if is_affected is not None:
            await self._context.forget_names(is_affected)

    # -- hooks

    @hookimpl
    async def before_listen(self, context: LifecycleContext) -> None:
        """Begin to copy the zones, and wait a moment for them.

        Raises `StartupError` for a zone that the API does not have.
        """
        if context.offline:
            return
        self._context = context
        self._source = join_source(self._settings, context.process_group)
        for copy in self._source.join(self, self._polled):
            served = self._copied.get(copy.zone.origin)
            assert served is not None
            self._copies_of(served).append(copy)
            self.copy_changed(copy)
        await wait_until_tried(self.copies, _patience(context))
        for copy in self.copies:
            if copy.is_missing and copy.current is None:
                raise StartupError(f"zone {copy.zone}: {copy.problem}")

    @hookimpl
    async def rehearse(self, context: LifecycleContext) -> None:
        """Copy the zones, to answer a single query."""
        await self.before_listen(context)

    @hookimpl
    def shutdown(self, context: LifecycleContext) -> None:
        """Copy no more, unless a later generation does."""
        if self._source is not None:
            leave_source(self._source, self)

    @hookimpl
    def ready(self) -> bool:
        """Return whether all zones are copied."""
        copies = self.copies
        return len(copies) == len(self._polled) and all(it.current for it in copies)

    @hookimpl
    def status(self) -> Mapping[str, Any] | None:
        """Return the state of the copies."""
        copies = self.copies
        if not copies:
            return None
        state = {"state": _state(copies)}
        if self._context is not None and not self._context.process_group.is_leader:
            return state  # the rest is that of the leader, whose numbers would be counted twice
        problems = [f"zone {it.zone}: {it.problem}{_age(it)}" for it in copies if it.problem]
        return {
            **state,
            "problems": problems,
            "zones": len(copies),
            "records": sum(it.current.records for it in copies if it.current is not None),
            "ignored": sum(it.ignored for it in copies),
        }

    def explain_state(self, request: Request, reply: Reply | None = None) -> dict[str, str | int]:
        """Return the zone, how the name was found in it, and the state of its copies."""
        served = self.zone_of(request.name_wire)
        if served is None:
            return super().explain_state(request, reply)
        copies = self._copies_of(served)
        found = _search(request, copies)
        chosen = None if found is None else found[0]
        shown = ServedZone(served.origin, chosen)
        state = self.explain_zone(request, shown)
        for copy in copies:
            if copy.current is chosen is not None:
                state["hosted zone"] = copy.zone.id
                if copy.age is not None:
                    state["seconds since the last copy"] = int(copy.age)
        problems = [f"{copy.zone.id}: {copy.problem}" for copy in copies if copy.problem]
        if problems:
            state["problem"] = "; ".join(problems)
        return state


def _patience(context: LifecycleContext) -> float:
    """Return the seconds for which a handler waits; all of a generation share the time."""
    now = time.monotonic()
    longest = LONGEST_WAIT_AT_RELOAD if context.replaces else LONGEST_WAIT
    deadline = _deadlines.setdefault(context.plugins, now + longest)
    return max(SHORTEST_WAIT, deadline - now)


def _search(request: Request, copies: Sequence[PolledCopy]) -> tuple[Zone, Lookup] | None:
    """Return the zone that answers a query, and what it has; None if a copy is not loaded.

    It is the first one with an answer, or with other records of the name. Without any, a delegation
    answers before the denial of the last zone.
    """
    found: tuple[Zone, Lookup] | None = None
    for copy in copies:
        zone = copy.current
        if zone is None:
            return None
        result = Lookup(zone, request.name_wire, request.qtype, request.do)
        if result.answer.count or result.match not in PolledHandler.passed:
            return zone, result
        if found is None or found[1].match is not Match.DELEGATION:
            found = zone, result
    return found


def _state(copies: Sequence[PolledCopy]) -> str:
    if any(it.current is None for it in copies):
        return "not copied"
    return "API failing" if any(it.problem for it in copies) else "copied"


def _age(copy: PolledCopy) -> str:
    """Return how old the version in use is, for a problem."""
    if copy.age is None:
        return "; there is no copy"
    return f"; the copy is {int(copy.age)} s old"
