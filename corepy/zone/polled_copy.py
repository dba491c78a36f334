"""`PolledCopy`: keeps a zone equal to one hosted zone, by listing its records again and again.

A list that fails keeps the last version in use, for as long as it fails: a server that has answered
goes on to answer. Copies with the same API settings belong to one `PolledSource`
(`corepy.zone.polled_source`), which outlives a reload.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from corepy.net.backoff import Backoff, jittered
from corepy.plugin import in_thread
from corepy.plugin.errors import describe
from corepy.zone.polled_api import PollError, ZoneIntake, ZoneMissing
from corepy.zone.polled_names import changed_nodes
from corepy.zone.zone_errors import ZoneError

if TYPE_CHECKING:
    from collections.abc import Callable

    from corepy.zone.polled_api import Outcome, PolledClient, PolledZone
    from corepy.zone.polled_metrics import PolledMetrics
    from corepy.zone.zone import Zone

LONGEST_LIST: Final = 600.0
"""Seconds of one list, after which it has failed."""

FIRST_RETRY: Final = 1.0
LAST_RETRY: Final = 60.0
"""Seconds between the attempts at the first list, doubled after each."""

SLOWEST: Final = 10
"""Refresh intervals between two attempts after many failures, but not more than `LONGEST_PAUSE`."""

LONGEST_PAUSE: Final = 900.0
LONGEST_RETRY_AFTER: Final = 3600.0
"""Seconds; an API that asks for a longer pause is tried again after these."""

JITTER: Final = 0.1
"""The part by which a refresh interval is longer or shorter by chance: servers that were started
together spread."""

MOST_LOGGED: Final = 5
"""Refused records of one list that are logged."""


class CopyMember(Protocol):
    """A handler that answers from copies."""

    def copy_changed(self, copy: PolledCopy) -> None:
        """Answer from `copy.current`, a new version, from now on."""

    async def forget_copy(self, copy: PolledCopy, before: Zone | None) -> None:
        """Remove replies that were made from the version before from all caches."""


class PolledCopy:
    """The copy of one hosted zone, and the task that refreshes it."""

    def __init__(
        self,
        zone: PolledZone,
        log: logging.Logger,
        metrics: PolledMetrics,
        members: list[CopyMember],
    ) -> None:
        """Call `members`, whose content may change, about new versions."""
        self.zone = zone
        self.current: Zone | None = None
        """The last version, None until the first list."""
        self.version = b""
        """Distinguishes this version from all others, for caches above the handlers."""
        self.is_forgetting = False
        """Whether caches may have replies from the version before."""
        self.refreshed: float | None = None
        """The monotonic time of the last list that has succeeded."""
        self.problem = ""
        """Why the last list has failed, "" if it has not."""
        self.is_missing = False
        """Whether the API had no such zone at the last attempt."""
        self.ignored = 0
        """Records of the last list that were left out."""
        self.tried = asyncio.Event()
        """Set after the first attempt."""
        self.listed: Callable[[PolledZone], object] = lambda zone: None
        """Called after each attempt, with success or not."""
        self._log = log
        self._metrics = metrics
        self._members = members
        self._reported: frozenset[str] = frozenset()
        self._retry_after = 0.0
        self._task: asyncio.Task[None] | None = None

    def adopt(self, earlier: PolledCopy) -> None:
        """Begin with the version of another copy of this hosted zone."""
        self.current, self.version = earlier.current, earlier.version
        self.refreshed, self.ignored = earlier.refreshed, earlier.ignored

    def start(self, client: PolledClient, places: asyncio.Semaphore, refresh: float) -> None:
        """Begin to list the records, every `refresh` seconds; `places` limits lists at a time."""
        name = f"poll {self.zone}"
        self._task = asyncio.create_task(self._run(client, places, refresh), name=name)

    def stop(self) -> None:
        """List no more."""
        if self._task is not None:
            self._task.cancel()

    @property
    def age(self) -> float | None:
        """The seconds since the last list that has succeeded, None without one."""
        return None if self.refreshed is None else time.monotonic() - self.refreshed

    async def _run(self, client: PolledClient, places: asyncio.Semaphore, refresh: float) -> None:
        first = Backoff(FIRST_RETRY, min(LAST_RETRY, max(refresh, FIRST_RETRY)))
        later = Backoff(refresh, max(refresh, min(refresh * SLOWEST, LONGEST_PAUSE)))
        while True:
            async with places:
                is_listed = await self._attempt(client)
            self.tried.set()
            self.listed(self.zone)
            if is_listed:
                later.reset()
                pause = jittered(refresh * (1 - JITTER), refresh * (1 + JITTER))
            else:
                backoff = first if self.current is None else later
                pause = max(backoff.next_delay(), self._retry_after)
            await asyncio.sleep(pause)

    async def _attempt(self, client: PolledClient) -> bool:
        """List the records; return whether that has succeeded."""
        intake = ZoneIntake(self.zone)
        self._retry_after, is_missing = 0.0, False
        try:
            async with asyncio.timeout(LONGEST_LIST):
                await client.fetch(self.zone, intake)
            zone = await in_thread(partial(_built, intake, self.current))
            self._report_refused(intake)
            await self.succeed(zone, intake.refusals)
        except PollError as error:
            is_missing = isinstance(error, ZoneMissing)
            self._retry_after = min(error.retry_after or 0.0, LONGEST_RETRY_AFTER)
            problem = str(error)
        except (OSError, ZoneError) as error:
            problem = _reason(error)
        except Exception as error:  # neither an API nor a cache must be able to end the task
            if not self.problem:
                self._log.exception("zone %s cannot be listed", self.zone)
            problem = describe(error)
        else:
            return True
        self.is_missing = is_missing
        self._fail(problem)
        return False

    def _fail(self, problem: str) -> None:
        """Count a failure, and log it unless it is that of the attempt before."""
        self._metrics.failed(self.zone)
        if problem != self.problem:
            fate = "there is no copy" if self.current is None else "the last copy stays in use"
            self._log.warning("zone %s: %s; %s", self.zone, problem, fate)
        self.problem = problem

    def _report_refused(self, intake: ZoneIntake) -> None:
        """Log the records that are left out, each once."""
        lines = [line for line in intake.refused if line not in self._reported]
        for line in lines[:MOST_LOGGED]:
            self._log.warning("zone %s: a record is ignored: %s", self.zone, line)
        if len(lines) > MOST_LOGGED:
            more = len(lines) - MOST_LOGGED
            self._log.warning("zone %s: %d more records are ignored", self.zone, more)
        self._reported = frozenset(intake.refused)

    async def succeed(self, zone: Zone, ignored: int) -> None:
        """Serve what was listed; the zone that is served already only ends a failure."""
        if self.problem:
            self._log.info("zone %s: the API answers again", self.zone)
        self.problem, self.is_missing, self.ignored = "", False, ignored
        self.refreshed = time.monotonic()
        self._metrics.succeeded(self.zone, zone.records)
        if zone is not self.current:
            await self._replace(zone)

    async def follow(self, outcome: Outcome, intake: ZoneIntake | None) -> None:
        """Take over the outcome of a list of the leader, with the records of a new version."""
        if intake is not None:
            zone = await in_thread(partial(_built, intake, self.current))
            if zone is not self.current:
                await self._replace(zone, logging.DEBUG)
        self.problem, self.is_missing = outcome.problem, outcome.is_missing
        self.ignored = outcome.ignored
        if outcome.age is not None:
            self.refreshed = time.monotonic() - outcome.age
        self.tried.set()

    async def _replace(self, zone: Zone, level: int = logging.INFO) -> None:
        before = self.current
        self.current, self.version, self.is_forgetting = zone, secrets.token_bytes(8), True
        change = "is copied" if before is None else "has changed"
        message = "zone %s %s: serial %d, %d records"
        self._log.log(level, message, self.zone, change, zone.serial, zone.records)
        for member in tuple(self._members):
            member.copy_changed(self)
        try:
            for member in tuple(self._members):
                await member.forget_copy(self, before)
        finally:
            self.is_forgetting = False


def _built(intake: ZoneIntake, current: Zone | None) -> Zone:
    """Return the zone that was listed: `current` if it has the same records; in a thread."""
    zone = intake.build()
    if current is None or any(True for _ in changed_nodes(current, zone)):
        return zone
    return current


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return str(error) or f"the list takes more than {LONGEST_LIST:g} s"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error)
