"""`AnchorService`: the life of the trust anchors in a server: hooks, timers and status."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

from corepy.dns.names import is_subdomain, to_text
from corepy.plugin import hookimpl
from corepy.plugin.errors import describe
from corepy.plugin.failures import report
from corepy_forward.validation.anchor import deepest
from corepy_forward.validation.anchor_reports import date, log, shown_keys
from corepy_forward.validation.anchor_state_file import StateFile

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from corepy.plugin import LifecycleContext
    from corepy_forward.validation.anchor import NegativeAnchor
    from corepy_forward.validation.anchor_updates import AnchorKeeper

    Fetch = Callable[[bytes], Awaitable[object]]

INTERVAL: Final = 10.0
"""Seconds between two checks of files and times."""

_TIMEOUT: Final = 60.0
"""Seconds that one attempt to query keys may take."""

_MOST_SHOWN: Final = 5
"""Zones in the status."""

_STEP: Final = 60.0
"""Seconds by which the clock must differ between two checks to count as set."""


class AnchorService:
    """The hooks of the trust anchors that one or more `forward` lines share."""

    def __init__(self, keeper: AnchorKeeper) -> None:
        """Take the anchors; the hooks do the rest."""
        self.keeper = keeper
        self.file = None if keeper.state is None else StateFile(keeper.state, keeper)
        self._fetchers: list[tuple[bytes, Fetch]] = []
        self.negative: list[NegativeAnchor] = []
        self._expired: set[NegativeAnchor] = set()
        self._problems: dict[bytes, str] = {}
        self._task: asyncio.Task[None] | None = None
        self._clock = _clock()
        self._version = keeper.version

    def add_line(self, zone: bytes, fetch: Fetch) -> None:
        """Add a line that forwards `zone`, in wire form.

        `fetch` is a coroutine function that queries the keys of a zone and calls `observe`.
        """
        self._fetchers.append((zone.lower(), fetch))

    def _fetchers_of(self, anchored: bytes) -> list[Fetch]:
        """Return the functions of the lines that use the trust anchor of a zone.

        A line uses those in its zone, and the deepest one above it. Its upstreams may not know the
        others, such as the root.
        """
        return [
            fetch
            for zone, fetch in self._fetchers
            if is_subdomain(anchored, zone) or deepest(self.keeper.anchors, zone) == anchored
        ]

    def add_negative(self, anchors: list[NegativeAnchor]) -> None:
        """Report when these anchors expire; the setup has warned of those that have."""
        self.negative += anchors
        # time of day: the operator's date
        self._expired.update(it for it in anchors if it.until <= time.time())

    @hookimpl
    def before_listen(self, context: LifecycleContext) -> None:
        """Read the state file."""
        self.keeper.tracks = self.file is not None and context.process_group.is_leader
        self._read()

    @hookimpl
    def rehearse(self, context: LifecycleContext) -> None:
        """Read the state file, to answer a single query."""
        self._read()

    def _read(self) -> None:
        if self.file is not None:
            self.keeper.synchronize = self.file.synchronize
            self.file.read()

    @hookimpl
    def serving(self, context: LifecycleContext) -> None:
        """Start to watch files and keys; the state file is written now, to find problems early."""
        self._clock = _clock()
        self._task = asyncio.create_task(self._watch(context), name="trust anchors")

    async def _watch(self, context: LifecycleContext) -> None:
        while True:
            try:
                await self.check(context)
            except Exception as error:  # the anchors must be kept for months
                report("forward", "exception", "failed to check the trust anchors", error)
            await asyncio.sleep(INTERVAL)

    async def check(self, context: LifecycleContext) -> None:
        """Do what is due: read files, query keys, write the state file."""
        self.look()
        if self.file is not None and self.keeper.tracks:
            self.file.save()
            await self._refresh()
            self.file.save()
        if self._version != self.keeper.version:
            self._version = self.keeper.version
            context.forget()

    def look(self) -> None:
        """Compare files, clock and times with the last check."""
        before, self._clock = self._clock, _clock()
        step = (self._clock[0] - before[0]) - (self._clock[1] - before[1])
        if abs(step) > _STEP:
            self.keeper.shift(self._clock[0] - step, step)
        self.keeper.synchronize()
        if self.keeper.sources.look():
            self.keeper.adopt(self.keeper.zones)
        self.keeper.expire()
        self.keeper.rebuild()
        self._report_expired()

    def _report_expired(self) -> None:
        for anchor in self.negative:
            # time of day: the operator's date
            if anchor.until <= time.time() and anchor not in self._expired:
                self._expired.add(anchor)
                log.warning("%s", _expired(anchor))

    async def _refresh(self) -> None:
        """Query the keys of the zones that are due."""
        for zone in list(self.keeper.anchors):
            fetchers = self._fetchers_of(zone)
            # time of day: as in the keeper
            if fetchers and self.keeper.schedule.is_due(zone, time.time()):
                await self._query(zone, fetchers)

    async def _query(self, zone: bytes, fetchers: list[Fetch]) -> None:
        schedule, now = self.keeper.schedule, time.time  # time of day: as in the keeper
        problem = ""
        for fetch in fetchers:
            try:
                async with asyncio.timeout(_TIMEOUT):
                    await fetch(zone)
                problem = "no trusted key has signed them"
            except TimeoutError:
                problem = f"no reply within {_TIMEOUT:g} seconds"
            except Exception as error:
                problem = str(error) or describe(error)
            if not schedule.is_due(zone, now()):
                self._problems.pop(zone, None)
                return
        schedule.failed(zone, now())
        text = f"trust anchors of {to_text(zone)}: the keys cannot be updated: {problem}"
        if zone not in self._problems:
            log.warning("%s", text)
        self._problems[zone] = text

    @hookimpl
    def status(self) -> dict[str, Any]:
        """Return the anchors and their problems, for an operator."""
        zones = list(self.keeper.anchors)
        shown = [f"{to_text(zone)} ({self._shown(zone)})" for zone in zones[:_MOST_SHOWN]]
        if len(zones) > _MOST_SHOWN:
            shown.append(f"and {len(zones) - _MOST_SHOWN} more zones")
        return {"state": f"trust anchors {', '.join(shown)}", "problems": self.problems()}

    def _shown(self, zone: bytes) -> str:
        state = self.keeper.zones.get(zone)
        if state is not None and state.keys:
            return shown_keys(state.keys)
        return ", ".join(it.name.rpartition(" ")[2] for it in self.keeper.sources.zones[zone])

    def problems(self) -> list[str]:
        """Return a line for each problem."""
        keeper = self.keeper
        names = [to_text(zone) for zone in keeper.deleted]
        unsigned = [to_text(it) for it in keeper.unsigned if it in keeper.anchors]
        unusable = [to_text(it.zone) for it in keeper.anchors.values() if not (it.ds or it.dnskeys)]
        return [
            *keeper.sources.problems,
            *(self.file.problems if self.file is not None else ()),
            *(f"all trust anchors of {it} were revoked; none is used any more" for it in names),
            *(f"no trust anchor of {it} is valid now: its names are bogus" for it in unusable),
            *(
                f"no trust anchor of {it} has signed its keys: its names are bogus"
                for it in unsigned
            ),
            *(text for zone, text in self._problems.items() if zone in keeper.anchors),
            *(_expired(anchor) for anchor in sorted(self._expired)),
        ]

    @hookimpl
    async def shutdown(self) -> None:
        """Stop the timers, and complete a write in progress."""
        if self._task is not None:
            self._task.cancel()
        if self.file is not None:
            await self.file.close()


def _clock() -> tuple[float, float]:
    """Return the time of day, and a time that is not set, both in seconds."""
    # time of day: compared with the other one, to notice that it was set
    return time.time(), time.clock_gettime(time.CLOCK_BOOTTIME)


def _expired(anchor: NegativeAnchor) -> str:
    name = to_text(anchor.zone)
    return f"the negative trust anchor {name} expired on {date(anchor.until)}"
