"""`Watcher`: keeps a copy equal to etcd, with one list and a watch from its revision on.

The keys are listed in pages, all of one revision; the watch begins at the next one, and so does
each watch that replaces a broken one, so no change is lost. If etcd has compacted that revision, or
has another history (restored from a backup, or made anew), the keys are listed again; what was
known is served meanwhile, and compared with the list.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any, Final

from corepy.http.json_stream import JSONItems
from corepy.net.backoff import Backoff
from corepy.plugin import metrics
from corepy_etcd.gateway import (
    Compacted,
    EtcdError,
    decoded,
    elements,
    encoded,
    member,
    number,
)
from corepy_etcd.store import LOG, shown_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from corepy_etcd.gateway import Gateway
    from corepy_etcd.store import Store

FAILURES = metrics.counter(
    "corepy_etcd_failures_total",
    "Times that etcd could not be followed any more, by path.",
    ("path",),
)

PAGE: Final = 1000
"""Keys of a page."""

TURN: Final = 50
"""Keys that are decoded in one turn of the event loop, in less than a millisecond."""

FIRST_PAUSE: Final = 0.25
LAST_PAUSE: Final = 10.0
"""Seconds between attempts, doubled after each failure."""

PROBE: Final = 30.0
"""Seconds without an event after which the endpoint is probed."""

LEASE_SPACING: Final = 0.01
"""Seconds between two requests about leases."""

LEASE_RETRY: Final = 5.0
"""Seconds until a lease is checked again that could not be checked."""


class Watcher:
    """Follows the keys below one path, in a task from `start` to `stop`."""

    def __init__(
        self,
        gateway: Gateway,
        store: Store,
        synced: Callable[[], object],
        lease_checked: Callable[[int], object],
    ) -> None:
        """Call `synced` whenever the copy is complete, and the other one after each check."""
        self._gateway = gateway
        self._store = store
        self._synced = synced
        self._lease_checked = lease_checked
        self.revision = 0
        """The revision of etcd that the copy has, 0 if it has to be listed."""
        self.problem = ""
        """Why etcd cannot be followed now, "" if it is followed."""
        self.failures = 0
        """How often etcd could not be followed any more."""
        self.has_tried = asyncio.Event()
        """Set when the first list was read, or has failed."""
        self._cluster: object = ""
        self._has_list = False
        self._backoff = Backoff(FIRST_PAUSE, LAST_PAUSE)
        self._tasks: list[asyncio.Task[None]] = []
        self._has_leases = asyncio.Event()
        self._heard = 0.0  # the monotonic time of the last response
        self._began = 0.0  # and of the first one of the watch

    @property
    def endpoint(self) -> str:
        """The URL of the endpoint in use."""
        return self._gateway.endpoint

    def start(self) -> None:
        """Begin to follow etcd."""
        for run in (self._run(), self._check_leases(), self._probe()):
            self._tasks.append(asyncio.create_task(run, name="follow etcd"))

    def stop(self) -> None:
        """Stop, and close the connections."""
        for task in self._tasks:
            task.cancel()
        self._gateway.close()

    async def _run(self) -> None:
        while True:
            try:
                if not self.revision:
                    await self._list()
                await self._watch()
            except Compacted:
                self._report("the history of changes is not available, so all keys are listed")
                self.revision = 0
            except OSError as error:
                self._report(str(error))
                self._gateway.fail_over()
            except ValueError as error:  # a response without the right form
                self._report(f"{self._gateway.endpoint}: {error}")
                self._gateway.fail_over()
            except Exception:  # a response must not be able to end the task
                LOG.exception("etcd at %s cannot be followed", self._gateway.endpoint)
                self._report("unexpected error")
            self.has_tried.set()
            if self._began and time.monotonic() - self._began >= LAST_PAUSE:
                self._backoff.reset()  # not for watches that end as soon as they have begun
            self._began = 0.0
            await asyncio.sleep(self._backoff.next_delay())

    def _report(self, problem: str) -> None:
        """Log a problem, unless it is that of the attempt before."""
        if not self.problem:
            self.failures += 1
            FAILURES.labels(self._store.prefix.decode("utf-8", "backslashreplace")).inc()
        if problem != self.problem:
            served = "its names stay" if self._has_list else "its names are not known yet"
            LOG.warning("etcd cannot be followed, %s: %s", served, problem)
        self.problem = problem

    def _follows(self) -> None:
        """Record that etcd is followed."""
        if self.problem:
            LOG.info("etcd is followed again at %s", self._gateway.endpoint)
        self.problem = ""
        self._began = time.monotonic()

    # -- the list

    async def _list(self) -> None:
        """Read all keys, as of one revision."""
        prefix, relist = self._store.prefix, self._store.relist()
        first, revision = prefix, 0
        while True:
            page = JSONItems("kvs")
            request = {**_range(first, prefix), "limit": str(PAGE), "revision": str(revision)}
            count = 0
            async for item in self._gateway.page(request, page):
                if not isinstance(item, dict):
                    raise ValueError("a key is not an object")
                key = decoded(item, "key")
                if key < first:
                    raise ValueError("the list of keys is not in order")
                relist.put(key, decoded(item, "value"), number(item, "lease"))
                first = key + b"\0"
                count += 1
                if count % TURN == 0:
                    await asyncio.sleep(0)
            header = member(page.members, "header")
            revision = revision or number(header, "revision")
            if revision <= 0:  # another program's {}, which is not an empty etcd
                raise ValueError("the list of keys has no revision")
            if not page.members.get("more"):
                break
            if not count:
                raise ValueError("the list of keys is not complete")
        relist.finish()
        self._cluster = header.get("cluster_id")
        self.revision, self._has_list = revision, True
        message = "%d keys below %s at revision %d of %s"
        LOG.info(message, len(self._store), shown_key(prefix), revision, self._gateway.endpoint)
        self._leases_changed()
        self.has_tried.set()
        self._synced()

    # -- the watch

    async def _watch(self) -> None:
        """Apply changes until the watch fails."""
        prefix = self._store.prefix
        request = {
            **_range(prefix, prefix),
            "start_revision": str(self.revision + 1),
            "progress_notify": True,
            "fragment": True,
        }
        watch = self._gateway.watch(request)
        async with contextlib.aclosing(watch):
            async for response in watch:
                self._heard = time.monotonic()
                self._check(response)
                await self._apply(response)

    def _check(self, response: dict[str, Any]) -> None:
        """Raise `Compacted` if the history is another one, `EtcdError` if the watch has ended."""
        header = member(response, "header")
        if number(response, "compact_revision"):
            raise Compacted
        if response.get("canceled"):
            reason = str(response.get("cancel_reason", "the watch was cancelled"))
            self._gateway.forget_token()  # perhaps it has expired
            raise EtcdError(f"{self._gateway.endpoint}: {reason[:200]}")
        if header.get("cluster_id") != self._cluster:
            raise Compacted
        if response.get("created"):
            if number(header, "revision") < self.revision:
                raise Compacted
            self._follows()

    async def _apply(self, response: dict[str, Any]) -> None:
        """Apply the events of a response, and record their revision.

        If there are events, the revision in the header may be later than that of the last one: a
        watch that begins in the past gets its events in several responses. Those of one revision
        may be in several fragments.
        """
        revision = number(member(response, "header"), "revision")
        for count, event in enumerate(elements(response, "events")):
            item = member(event, "kv")
            key, revision = decoded(item, "key"), number(item, "mod_revision")
            if event.get("type") == "DELETE":
                self._store.remove(key)
            else:
                self._store.put(key, decoded(item, "value"), number(item, "lease"))
            if count % TURN == TURN - 1:
                await asyncio.sleep(0)
        if not response.get("fragment") and not response.get("created"):
            self.revision = max(self.revision, revision)
        self._leases_changed()

    async def _probe(self) -> None:
        """Probe the endpoint of a watch that is silent, so that one that hangs is left."""
        while True:
            await asyncio.sleep(PROBE)
            if not self.problem and time.monotonic() - self._heard >= PROBE:
                with contextlib.suppress(OSError):
                    await self._gateway.probe()

    # -- leases

    def _leases_changed(self) -> None:
        if self._store.leases.next_due() is not None:
            self._has_leases.set()

    async def _check_leases(self) -> None:
        """Ask how long each lease lasts, one after the other, whenever it is due."""
        leases = self._store.leases
        while True:
            due = leases.next_due()
            if due is None:
                self._has_leases.clear()
                await self._has_leases.wait()
                continue
            when, lease = due
            pause = max(LEASE_SPACING, min(1.0, when - time.monotonic()))
            await asyncio.sleep(pause)
            if when <= time.monotonic():
                await self._check_lease(lease)

    async def _check_lease(self, lease: int) -> None:
        now = time.monotonic()
        try:
            response = await self._gateway.call("lease/timetolive", {"ID": str(lease)})
            left, granted = number(response, "TTL"), number(response, "grantedTTL")
        except (OSError, ValueError, Compacted):
            self._store.leases.schedule(lease, now + LEASE_RETRY)
        else:
            self._store.leases.checked(lease, now, left, granted)
            self._lease_checked(lease)


def _range(first: bytes, prefix: bytes) -> dict[str, str]:
    """Return the keys from `first` on that begin with `prefix`, as members of a request."""
    end = prefix[:-1] + bytes((prefix[-1] + 1,))
    return {"key": encoded(first), "range_end": encoded(end)}
