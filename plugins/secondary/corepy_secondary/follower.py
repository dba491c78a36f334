"""`Follower`: keeps one zone equal to that of its primary servers (RFC 1034 section 4.3.5).

The timers are those of the zone's SOA record. A check queries the primary servers in order for the
serial of the zone, and transfers the zone from the first one with a newer version.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from corepy.dns.form_error import FormError
from corepy.dns.names import to_text
from corepy.dns.tsig_exchange import TSIGError
from corepy.plugin import in_thread, plugin_logger
from corepy.zone import ZoneError, forget, is_newer
from corepy_secondary.fetching import Transfer, fetch_serial
from corepy_secondary.incoming import TransferError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from corepy.plugin import LifecycleContext
    from corepy.zone import ServedZone, Zone
    from corepy_secondary.fetching import Primary
    from corepy_secondary.store import Store

LOG: Final = plugin_logger("secondary")

FIRST_RETRY: Final = 0.25
LAST_RETRY: Final = 10.0
"""Seconds between the attempts to get a zone for the first time, doubled after each (CoreDNS)."""

JITTER: Final = 0.25
"""The part of a timer that chance may take off, as in BIND: zones that were loaded together spread.
"""

SPACING: Final = 0.1
"""Seconds between two checks of a zone, however many notifications arrive."""

SAVE_SPACING: Final = 30.0
"""Seconds between two writes of a zone that changes all the time, or whose file is refused."""

_SCALE: Final = 1 << 20


@dataclass(slots=True)
class Shared:
    """What the followers of a handler have in common."""

    context: LifecycleContext
    changed: Callable[[Follower], Awaitable[None]] | None = None
    """Called after each new version of a zone."""

    checks: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(64))
    transfers: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(10))


def shortened(seconds: float) -> float:
    """Return a timer with jitter, at least one second."""
    part = secrets.randbelow(_SCALE) / _SCALE * JITTER
    return max(1.0, seconds * (1 - part))


class Follower:
    """Follows one zone in a task, from `start` to `stop`."""

    def __init__(
        self, served: ServedZone, primaries: Sequence[Primary], store: Store | None = None
    ) -> None:
        """Keep `served` equal to the zone of `primaries`, and store it if there is a store."""
        self.served = served
        self.primaries = tuple(primaries)
        self.zone: Zone | None = None
        """The last version, also after it has expired."""
        self.confirmed: float | None = None
        """The monotonic time at which a primary server last had this version."""
        self.source: Primary | None = None
        """The primary server that confirmed it."""
        self.problem = ""
        """Why the last check has failed, "" if it has not."""
        self.next_check = 0.0
        """The monotonic time of the next check."""
        self.is_forgetting = False
        """Whether caches may have replies from the version before."""
        self.task: asyncio.Task[None] | None = None
        self.store = store
        """Where the zone is stored, by this process; None if it is not."""
        self.is_unsaved = False
        """Whether the last version has to be stored."""
        self._shared: Shared
        self._notice = asyncio.Event()
        self._notifier = b""
        self._expiry: asyncio.TimerHandle | None = None
        self._logged = ""
        self._store_problem = ""
        self._saving: asyncio.Task[None] | None = None
        self._forgetting: asyncio.Future[None] | None = None

    @property
    def origin(self) -> bytes:
        """The name of the zone, in wire form and lower case."""
        return self.served.origin

    def adopt(self, zone: Zone, confirmed: float) -> None:
        """Begin with a version that a primary server confirmed at a monotonic time.

        If it has expired since then, it is not served, but changes can be transferred.
        """
        self.zone, self.confirmed = zone, confirmed
        if time.monotonic() - confirmed < zone.soa.expire:
            self.served.replace(zone)
        else:
            self.served.is_expired = True

    def succeed(self, earlier: Follower) -> bool:
        """Begin with the version of a follower of the generation before; False without one."""
        if earlier.zone is None or earlier.confirmed is None:
            return False
        if earlier.zone is not self.zone:
            self.adopt(earlier.zone, earlier.confirmed)
        self.confirmed, self.source = earlier.confirmed, earlier.source
        self.next_check = 0.0 if earlier._notice.is_set() else earlier.next_check
        self.is_unsaved = earlier.is_unsaved or earlier.store != self.store
        return True

    def start(self, shared: Shared) -> None:
        """Begin to follow the zone."""
        self._shared = shared
        if self.served.current is not None:
            self._set_expiry()
        if self.is_unsaved:
            self._save()
        name = f"follow {to_text(self.origin)}"
        self.task = asyncio.create_task(self._run(), name=name)

    def stop(self) -> None:
        """Stop to follow the zone; a transfer in progress is cut off."""
        for waiting in (self.task, self._saving):
            if waiting is not None:
                waiting.cancel()
        if self._expiry is not None:
            self._expiry.cancel()

    async def save_now(self) -> None:
        """Store a version that was not stored yet, at the end of the server."""
        if self.is_unsaved and self.store is not None:
            await self._write()

    def notify(self, address: bytes) -> bool:
        """Check the zone soon, first at the primary server with this address (RFC 1996).

        Returns False if a check is about to begin anyway.
        """
        is_new = not self._notice.is_set()
        self._notifier = address
        self._notice.set()
        return is_new

    # -- checks

    async def _run(self) -> None:
        failures = 0
        await self._wait_until(self.next_check)
        while True:
            began = time.monotonic()
            self.next_check = 0.0  # a later generation checks at once if this one is cut off
            if await self._check():
                failures, pause = 0, shortened(self._soa_timer("refresh"))
            elif self.zone is None:
                pause = min(FIRST_RETRY * 2**failures, LAST_RETRY)
                failures = min(failures + 1, 10)
            else:
                pause = shortened(self._soa_timer("retry"))
            self.next_check = time.monotonic() + pause
            self._log_failure(pause)
            await self._wait_until(self.next_check)
            await asyncio.sleep(began + SPACING - time.monotonic())
            self._notice.clear()  # those that have arrived meanwhile are about this check, too

    def _soa_timer(self, name: str) -> float:
        assert self.zone is not None
        seconds: int = getattr(self.zone.soa, name)
        return float(seconds)

    async def _wait_until(self, when: float) -> None:
        """Wait until a monotonic time, or a notification."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, when - time.monotonic())):
                await self._notice.wait()

    async def _check(self) -> bool:
        """Return whether a primary server has confirmed the zone, or sent a new version."""
        first = self._notifier
        ordered = sorted(self.primaries, key=lambda it: it.address.packed != first)
        self._notifier = b""
        problems = []
        for primary in ordered:
            try:
                await self._check_at(primary)
            except (OSError, FormError, TransferError, TSIGError, ZoneError) as error:
                problems.append(f"{primary}: {_reason(error)}")
            except Exception as error:  # a server must not be able to end the task
                LOG.exception("zone %s cannot be checked at %s", to_text(self.origin), primary)
                problems.append(f"{primary}: {type(error).__name__}")
            else:
                self.problem, self.source = "", primary
                return True
        self.problem = "; ".join(problems)
        return False

    def _log_failure(self, pause: float) -> None:
        """Log the failure of a check, unless it is that of the one before."""
        if self.problem and self.problem != self._logged:
            message = "zone %s: no primary server has it, retrying in %.3gs: %s"
            LOG.warning(message, to_text(self.origin), pause, self.problem)
        self._logged = self.problem

    async def _check_at(self, primary: Primary) -> None:
        """Confirm or transfer the zone; raises an error if the server does not have it."""
        base = self.zone
        if base is not None:
            async with self._shared.checks:
                serial = await fetch_serial(primary, self.origin)
            if serial == base.serial:
                await self._confirm()
                return
            if not is_newer(serial, base.serial):
                if self.served.current is not None:
                    raise TransferError(f"the serial {serial} is older than {base.serial}")
                base = None  # nothing is served, so a zone that began anew is taken
        async with self._shared.transfers:
            transfer = Transfer(primary, self.origin, base)
            try:
                zone: Zone | None = await in_thread(transfer.run)
            except asyncio.CancelledError:
                transfer.cancel()
                raise
        if zone is None:
            await self._confirm()
        else:
            await self._take(zone, primary, transfer)

    async def _take(self, zone: Zone, primary: Primary, transfer: Transfer) -> None:
        """Serve a new version."""
        self.zone = zone
        self._restart_expiry()
        self.served.replace(zone)
        kind = "changes" if transfer.is_incremental else "zone"
        message = "Transferred: %s of %s from %s, serial %d, %d records"
        LOG.info(message, kind, to_text(self.origin), primary, zone.serial, zone.records)
        if transfer.problem:
            message = "zone %s: the changes of %s were not usable: %s"
            LOG.info(message, to_text(self.origin), primary, transfer.problem)
        if transfer.left_out:
            message = "zone %s: %d records of %s are not in the zone"
            LOG.warning(message, to_text(self.origin), transfer.left_out, primary)
        await self._forget()
        self._save()
        if self._shared.changed is not None:
            await self._shared.changed(self)

    async def _confirm(self) -> None:
        """Record that a primary server has this version, and serve it again if it had expired."""
        assert self.zone is not None
        self._restart_expiry()
        if self.served.current is None:
            self.served.replace(self.zone)
            await self._forget()
        if self.store is None or self.is_unsaved:
            return  # the file has an older version, which was not confirmed
        try:
            if not await in_thread(partial(self.store.confirm, self.origin)):
                self._save()
        except OSError as error:
            self._report_store(error)

    # -- expiry

    def _restart_expiry(self) -> None:
        self.confirmed = time.monotonic()
        self._set_expiry()

    def _set_expiry(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
        assert self.confirmed is not None
        left = self.confirmed + self._soa_timer("expire") - time.monotonic()
        self._expiry = asyncio.get_running_loop().call_later(max(0.0, left), self._expire)

    def _expire(self) -> None:
        """Answer SERVFAIL from now on (RFC 1035 section 3.3.13)."""
        LOG.error("zone %s has expired: %s", to_text(self.origin), self.problem or "no reply")
        self.served.expire()
        self._forgetting = asyncio.ensure_future(self._forget())

    async def _forget(self) -> None:
        """Remove the replies with names of the zone from all caches."""
        self.is_forgetting = True
        await forget(self._shared.context, self.origin)
        self.is_forgetting = False

    # -- the file

    def _save(self) -> None:
        """Write the zone to its file soon."""
        if self.store is None:
            return
        self.is_unsaved = True
        if self._saving is None or self._saving.done():
            self._saving = asyncio.create_task(self._keep_saving())

    async def _keep_saving(self) -> None:
        while self.is_unsaved:
            await self._write()
            await asyncio.sleep(SAVE_SPACING)

    async def _write(self) -> None:
        assert self.store is not None
        assert self.zone is not None
        assert self.confirmed is not None
        zone, confirmed = self.zone, self.confirmed
        try:
            age = time.monotonic() - confirmed
            await in_thread(partial(self.store.write, zone, age))
        except (OSError, FormError) as error:
            self._report_store(error)
        else:
            self._store_problem = ""
            self.is_unsaved = self.zone is not zone or self.confirmed != confirmed

    def _report_store(self, error: Exception) -> None:
        """Log a problem of the file, unless it is that of the attempt before."""
        problem = str(error)
        if problem != self._store_problem:
            LOG.error("zone %s cannot be stored: %s", to_text(self.origin), problem)
        self._store_problem = problem


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no reply"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error)
