"""Refresh entries: before they expire (prefetch), or afterwards (serve stale, RFC 8767).

Each entry has at most one attempt in progress, as a task that outlives the query that started it.
The number of tasks is bounded. A failed attempt leaves the entry unchanged. A positive or negative
reply replaces it, or removes it if the reply may not be cached.
"""

from __future__ import annotations

import asyncio
import copy
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from corepy.dns import Reply
from corepy.dns import constants as c
from corepy.net.connection_limit import Shares, client_of
from corepy.plugin import plugin_logger
from corepy.plugin.errors import describe
from corepy_cache.cache_store import back_off

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from corepy.dns import Request
    from corepy_cache.cache_store import CacheStore
    from corepy_cache.entry import CacheEntry
    from corepy_cache.metrics import CacheMetrics

MOST: Final = 1000
"""Maximum number of attempts in progress for each cache, shared between clients.

Above it stale entries are served without an attempt.
"""

_log = plugin_logger("cache")


class Refresher:
    """The attempts of one cache to refresh entries."""

    def __init__(
        self, store: CacheStore, ask: Callable[[Request], Coroutine[Any, Any, Reply]]
    ) -> None:
        """`ask` runs the chain below the cache."""
        self._ask = ask
        self._store = store
        self._settings = store.settings
        self._tasks: set[asyncio.Task[Reply | None]] = set()
        self._shares = Shares()

    def copy_for_trace(self, ask: Callable[[Request], Coroutine[Any, Any, Reply]]) -> Refresher:
        """Return a copy that queries another chain and shares the entries and tasks."""
        traced = copy.copy(self)
        traced._ask = ask
        return traced

    def start(self, request: Request, entry: CacheEntry, metrics: CacheMetrics) -> None:
        """Refresh `entry` in the background, unless an attempt is in progress or must wait."""
        if entry.task is None and self._may_begin(request, entry):
            below = _without_options(request)
            below.metadata = {}  # the query's own metadata may be read while the task writes
            self._begin(below, entry, metrics)
            metrics.prefetches.value += 1

    async def verify(
        self, request: Request, entry: CacheEntry, metrics: CacheMetrics
    ) -> Reply | None:
        """Return a reply from below if it arrives in time; None means to serve the stale entry."""
        stale = self._settings.stale
        task = entry.task
        if task is None:
            if not self._may_begin(request, entry):
                return None
            task = self._begin(_without_options(request), entry, metrics)
        elif stale.recheck:
            return None
        await asyncio.wait((task,), timeout=stale.verify_timeout or None)
        if not task.done() or task.cancelled():
            return None
        reply = task.result()
        return None if reply is None else self._present(request, entry, reply)

    def _may_begin(self, request: Request, entry: CacheEntry) -> bool:
        """Whether another attempt may start for this client; if so, reserves a place for it."""
        if request.received < entry.retry_at:
            return False
        return self._shares.take(client_of(request.client), MOST - len(self._tasks))

    def _begin(
        self, below: Request, entry: CacheEntry, metrics: CacheMetrics
    ) -> asyncio.Task[Reply | None]:
        task = entry.task = asyncio.create_task(self._attempt(below, entry, metrics))
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, entry, client_of(below.client)))
        return task

    def _ended(self, entry: CacheEntry, client: bytes, task: asyncio.Task[Reply | None]) -> None:
        self._tasks.discard(task)
        self._shares.give_back(client)
        if entry.task is task:  # it was cancelled before its first step
            entry.task = None

    async def _attempt(
        self, request: Request, entry: CacheEntry, metrics: CacheMetrics
    ) -> Reply | None:
        """Query the chain below; returns the reply if it replaces `entry`."""
        error: str | None = None
        try:
            reply = await self._ask(request)
            if self._replaces(request, reply, entry, metrics):
                return reply
            error = reply.error
        except Exception as problem:
            error = describe(problem)
            _log.exception("refreshing %s %s failed", request.name, request.type)
        finally:
            entry.task = None
        self._wait(entry, error)
        return None

    def _replaces(
        self, request: Request, reply: Reply, entry: CacheEntry, metrics: CacheMetrics
    ) -> bool:
        """Cache `reply` and return whether it replaces `entry`.

        Follows cache.go: verifyStaleResponseWriter. RFC 8767 section 4: only a positive or negative
        reply does, whether or not it may be cached; all others are failures to refresh. Under
        prefer_positive only a positive reply replaces a positive entry.
        """
        classification, kept = self._store.keep(entry.key, request, reply, metrics, refresh=True)
        if classification is None or not classification.replaces_entry:
            return False
        if self._settings.stale.prefer_positive and entry.answers and not classification.answers:
            return False
        if kept is not None:
            kept.hits, kept.last_hit = entry.hits, entry.last_hit
        return True

    def _wait(self, entry: CacheEntry, error: str | None) -> None:
        """Delay the next attempt: by FAILURE_RECHECK, or by a back-off if no upstream answers."""
        seconds = self._settings.stale.recheck
        if error is not None and self._settings.servfail:
            entry.failures += 1
            seconds = max(seconds, min(self._settings.servfail, back_off(entry.failures)))
        if seconds:
            entry.retry_at = self._store.clock() + seconds

    def _present(self, request: Request, entry: CacheEntry, reply: Reply) -> Reply:
        """Return the new reply for this client; many clients may wait for one attempt."""
        now = self._store.clock()
        for table in (self._store.denial, self._store.success):
            fresh = table.get(entry.key)
            if fresh is not None and fresh.left(now) > 0:
                renewed = fresh.reply(request, fresh.left(now))
                renewed.answered_by = reply.answered_by
                return renewed
        wire, end = reply.wire, request.question_end
        wire = b"".join((wire[:12], request.wire[12:end], wire[end:]))
        if wire[3] & c.FLAG_AD and not (request.do or request.ad):
            wire = b"".join((wire[:3], bytes((wire[3] & ~c.FLAG_AD,)), wire[4:]))
        renewed = Reply(wire, options=reply.options)
        renewed.answered_by = reply.answered_by
        return renewed

    async def stop(self) -> None:
        """Cancel all attempts."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _without_options(request: Request) -> Request:
    """Return the query without the client's EDNS options, because all clients share its reply."""
    options = None if request.edns is None else b""
    return request.derive(flags_set=c.FLAG_AD, options=options)
