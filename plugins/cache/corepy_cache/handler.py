"""The cache handler: its place in the chain, its hooks and its coroutines.

This module is not compiled (docs/design.md); `answering` has the work of most queries.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Final

from corepy.dns import Reply
from corepy.dns import constants as c
from corepy.dns.edns import (
    EDE_STALE_ANSWER,
    EDE_STALE_NXDOMAIN_ANSWER,
    ede,
    forwarded_options,
)
from corepy.plugin import (
    PREFERS_FRESH,
    Cacheability,
    ExplainedHandler,
    FastHandler,
    LifecycleContext,
    StatefulHandler,
    hookimpl,
    plugin_logger,
)
from corepy.plugin.discarding import discard
from corepy_cache.answering import Answers
from corepy_cache.budget import Budget, process_budget
from corepy_cache.cache_store import WILDCARD, CacheStore
from corepy_cache.classify import why_not
from corepy_cache.dump import dump, load
from corepy_cache.inspecting import LIST, LOOKUP, list_entries, look_up
from corepy_cache.keys import key_of
from corepy_cache.purge import COMMAND, purge_predicate
from corepy_cache.refresh import Refresher
from corepy_cache.status import status_of

if TYPE_CHECKING:
    from typing import Self

    from corepy.dns import Request
    from corepy.plugin import Handler
    from corepy.plugin.handler import Answer
    from corepy.plugin.pending import Step
    from corepy_cache.entry import CacheEntry
    from corepy_cache.metrics import CacheMetrics
    from corepy_cache.settings import Settings

_STALE_ANSWER: Final = ede(EDE_STALE_ANSWER)
_STALE_NXDOMAIN: Final = ede(EDE_STALE_NXDOMAIN_ANSWER)
_log = plugin_logger("cache")


class Cache(FastHandler, ExplainedHandler, StatefulHandler):
    """One *cache* directive, shared by all zones and listeners of its block."""

    name: ClassVar[str] = "cache"
    cacheability = Cacheability.SETS_DEADLINE
    inputs = b""

    def __init__(
        self,
        settings: Settings,
        budget: Budget | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` returns monotonic seconds on the time scale of `request.received`."""
        self.settings = settings
        self.budget = budget or process_budget()
        self.store = CacheStore(settings, self.budget, clock)
        self.refresher = Refresher(self.store, lambda request: self.next.serve_dns(request))
        self._answers = Answers(settings, self.store, self.refresher)
        self._forget: Callable[[], None] = lambda: None  # clears the packet caches
        self._discard_snapshots: Callable[[], Awaitable[None]] = _discard_nothing
        self.state_file = settings.file

    def begin_dns(self, request: Request) -> Answer:
        """Answer from the cache at once, or query the handlers below."""
        return self._answers.begin(self, request)

    def covers(self, request: Request) -> bool:
        """Whether this cache handles `request`, by its opcode and name."""
        return self._answers.covers(request)

    def metrics(self, server: str, view: str = "") -> CacheMetrics:
        """Return the metrics for this server label."""
        return self._answers.metrics(server, view)

    def explain_state(self, request: Request, reply: Reply | None = None) -> dict[str, str | int]:
        """Describe the entry for `request`, or the reason why `reply` is not cached."""
        if not self.covers(request):
            return {"state": "the name is outside its zones"}
        if request.edns is not None and forwarded_options(request.edns.options):
            return {"state": "not shared: the query has EDNS options"}
        entry = self.store.peek(key_of(request), now := self.store.clock())
        if entry is not None:
            return entry.describe(now, "verify" if self.settings.stale.verify else "immediate")
        known: dict[str, str | int] = {"state": "miss"}
        if reply is not None:
            known["not kept"] = why_not(self.settings, request, reply)
        return known

    def copy_for_trace(self, below: Handler) -> Self:
        """Return a copy whose refreshes also go to `below`."""
        traced = super().copy_for_trace(below)
        traced.refresher = self.refresher.copy_for_trace(below.serve_dns)
        return traced

    @property
    def depends_on_lookups(self) -> bool:
        """Whether an entry was made with look-ups in other server blocks."""
        return self.store.contents.uses_lookups

    def take_over_state(self, predecessor: Self) -> str:
        """Continue with the entries of `predecessor`."""
        self.store.share(predecessor.store)
        return _described(len(self.store.success) + len(self.store.denial))

    def dump_state(self, most: int) -> Iterator[bytes]:
        """Yield the entries, the newest first."""
        return dump(self.store, most)

    def load_state(self, state: memoryview, elapsed: float) -> Generator[None, None, str]:
        """Store the entries of another process that have not expired."""
        count = yield from load(self.store, state, elapsed)
        return _described(count)

    async def pass_by(self, request: Request) -> Reply:
        """Return the reply from below to a query that the cache does not handle."""
        reply = await self.next.serve_dns(request)
        reply.deadline = None
        return reply

    async def stale(self, request: Request, entry: CacheEntry, metrics: CacheMetrics) -> Reply:
        """Return the reply to a query with an expired entry."""
        stale = self.settings.stale
        if stale.verify or PREFERS_FRESH in request.metadata:
            verified = await self.refresher.verify(request, entry, metrics)
            if verified is not None:
                return verified
        else:
            self.refresher.start(request, entry, metrics)
        metrics.stale.value += 1
        reply = entry.reply(request, stale.response_ttl)
        if entry.wildcard:
            request.metadata[WILDCARD] = entry.wildcard
        denied = entry.rcode == c.NXDOMAIN
        reply.options = _STALE_NXDOMAIN if denied else _STALE_ANSWER  # RFC 8914 section 4.4, 4.20
        return reply

    async def wait(
        self, answer: Awaitable[Reply], request: Request, metrics: CacheMetrics, take: Step
    ) -> Reply:
        """Return the reply of a coroutine from below, after `take` has processed it."""
        if not self.budget.begin_wait(request):
            discard(answer)
            return self._answers.overloaded(request, metrics)
        reply: Reply | None = None
        try:
            reply = await answer
        finally:
            take(reply)
        return reply

    @hookimpl
    def before_listen(self, context: LifecycleContext) -> None:
        """Start to count memory against the budget."""
        self.budget.divide(context.process_group.size)
        if self.settings.memory:
            self.budget.request_limit(self, self.settings.memory)

    @hookimpl
    def serving(self, context: LifecycleContext) -> None:
        """Store the functions that clear copies of the entries: packet caches, snapshots."""
        self._forget = context.forget
        self._discard_snapshots = context.discard_snapshots

    @hookimpl
    def status(self) -> dict[str, Any]:
        """Return the numbers of entries and queries, for an operator."""
        return status_of(self.store, self._answers.all_metrics())

    @hookimpl
    async def names_changed(self, is_changed: Callable[[bytes], bool]) -> None:
        """Remove the entries of names whose data has changed in a handler below."""
        await self.store.forget(is_changed)

    @hookimpl
    async def command(self, name: str, argument: Any) -> Any:
        """Carry out the commands of `corepy cache`; return None for others."""
        if name == COMMAND:
            return await self._purge(argument)
        if name == LOOKUP:
            return look_up(self.store, argument)
        return await list_entries(self.store, argument) if name == LIST else None

    async def _purge(self, argument: Any) -> int:
        """Purge names; returns the number of entries removed."""
        count = await self.store.forget(purge_predicate(argument))
        self._forget()
        await self._discard_snapshots()
        if count:
            _log.info("purged %s of %s %s", _described(count), *next(iter(argument.items())))
        return count

    @hookimpl
    async def shutdown(self, context: LifecycleContext) -> None:
        """Stop background refreshes and release the memory."""
        await self.refresher.stop()
        if await self.store.leave():
            context.forget()  # the packet caches repeat replies within the earlier limits
        self.budget.withdraw_request(self)


async def _discard_nothing() -> None:
    """Before the server serves, it has no snapshots of this cache."""


def _described(count: int) -> str:
    return f"{count} {'entry' if count == 1 else 'entries'}"
