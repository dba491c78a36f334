"""The cache handler: answers a query from an entry, or caches the reply from below.

Follows CoreDNS's plugin/cache/handler.go. A fresh hit runs only `begin_dns`, `CacheStore.find` and
`CacheEntry.reply`: it reads no clock and creates one object. The time is `request.received`.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final

from corepy.dns import Reply
from corepy.dns import constants as c
from corepy.dns.edns import (
    EDE_OTHER,
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
    Pending,
    StatefulHandler,
    ZoneMatcher,
    hookimpl,
    plugin_logger,
)
from corepy.plugin.discarding import discard
from corepy_cache.budget import Budget, process_budget
from corepy_cache.cache_store import WILDCARD, CacheStore, EntryHitCounter, clear_ad, restore
from corepy_cache.classify import why_not
from corepy_cache.dump import dump, load
from corepy_cache.inspecting import LIST, LOOKUP, list_entries, look_up
from corepy_cache.keys import key_of, scope_of, subnet_key_of, subnet_of
from corepy_cache.metrics import CacheMetrics
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
    from corepy_cache.keys import Subnet
    from corepy_cache.settings import Settings

_OPCODE: Final = 0x78
_CD: Final = c.FLAG_CD
_STALE_ANSWER: Final = ede(EDE_STALE_ANSWER)
_STALE_NXDOMAIN: Final = ede(EDE_STALE_NXDOMAIN_ANSWER)
_OVERLOADED: Final = ede(EDE_OTHER, "too many queries wait for an upstream")
_SECONDS_BETWEEN_WARNINGS: Final = 10.0
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
        self._zones = ZoneMatcher(settings.zones)
        self._all_names = "." in settings.zones
        self._metrics: dict[str, CacheMetrics] = {}
        self._quiet_until = 0.0
        self._forget: Callable[[], None] = lambda: None  # clears the packet caches
        self._discard_snapshots: Callable[[], Awaitable[None]] = _discard_nothing
        self.state_file = settings.file

    def begin_dns(self, request: Request) -> Answer:
        """Answer from the cache at once, or query the handlers below."""
        wire = request.wire
        if wire[2] & _OPCODE or not (self._all_names or self._covers(request.name_wire)):
            return self._pass_by(request)
        context = request.context
        metrics = self._metrics.get(context.server) or self.metrics(context.server, context.view)
        metrics.requests.value += 1
        now = request.received or self.store.clock()
        edns = request.edns
        if edns is not None and edns.options and (options := forwarded_options(edns.options)):
            return self._answer_with_options(request, options, now, metrics)
        if wire[2] & 1 and not wire[3] & _CD and (edns is None or not edns.do):
            key = request.asked  # equal to `key_of`, without the call
        else:
            key = key_of(request)
        entry = self.store.find(key, now, metrics)
        if entry is None:
            return self._miss(request, metrics, partial(self._take, key, request, metrics))
        entry.used = True
        left = entry.left(now)
        if left <= 0:
            return self._stale(request, entry, metrics)
        settings = self.settings
        reply = entry.reply(request, entry.ttl if settings.keep_ttl else left)
        if entry.options or entry.wildcard:
            restore(request, reply, entry)
        if settings.prefetch.amount > 0:
            self._fresh_with_prefetch(request, reply, entry, left, metrics)
        elif context.uses_deadlines and not settings.keep_ttl:
            self._allow_packet_cache(reply, entry, entry.stored + entry.ttl, metrics)
        return reply

    def covers(self, request: Request) -> bool:
        """Whether this cache handles `request`, by its opcode and name."""
        if request.wire[2] & _OPCODE:
            return False
        return self._all_names or self._covers(request.name_wire)

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

    async def _pass_by(self, request: Request) -> Reply:
        reply = await self.next.serve_dns(request)
        reply.deadline = None
        return reply

    def _allow_packet_cache(
        self, reply: Reply, entry: CacheEntry, until: float, metrics: CacheMetrics
    ) -> None:
        """Allow the packet cache to repeat `reply` with lowered TTLs."""
        reply.deadline = until
        reply.since = entry.stored
        reply.hit_counters = (EntryHitCounter(self.store, entry, metrics),)

    def _covers(self, name: bytes) -> bool:
        return self._zones.find(name) is not None

    def metrics(self, server: str, view: str = "") -> CacheMetrics:
        """Return the metrics for this server label."""
        metrics = self._metrics.get(server)
        if metrics is None:
            metrics = self._metrics[server] = CacheMetrics(
                server, ",".join(self.settings.zones), view
            )
            self.store.show(metrics)
        return metrics

    def _fresh_with_prefetch(
        self, request: Request, reply: Reply, entry: CacheEntry, left: int, metrics: CacheMetrics
    ) -> None:
        prefetch = self.settings.prefetch
        entry.count(1, request.received, prefetch.duration)
        threshold = prefetch.threshold(entry.ttl)
        if left > threshold:
            if not self.settings.keep_ttl:
                until = entry.stored + entry.ttl - threshold
                self._allow_packet_cache(reply, entry, until, metrics)
        elif entry.hits >= prefetch.amount:
            self.refresher.start(request, entry, metrics)

    async def _stale(self, request: Request, entry: CacheEntry, metrics: CacheMetrics) -> Reply:
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

    def _answer_with_options(
        self, request: Request, options: bytes, now: float, metrics: CacheMetrics
    ) -> Answer:
        """Answer a query whose EDNS `options` go upstream and may affect the reply.

        The client gets no reply to a query without these options, and other clients do not get its
        reply. With a client subnet the reply is cached for clients of its network. With any other
        option it is not cached.
        """
        subnet = subnet_of(options)
        if subnet is None:
            metrics.misses.value += 1
        else:
            entry = self.store.find_for(request, subnet, now, metrics)
            if entry is not None:
                left = entry.ttl if self.settings.keep_ttl else entry.left(now)
                reply = entry.reply(request, left)
                restore(request, reply, entry)
                reply.options = subnet.own_options(entry.options)
                return reply
        take = partial(self._take_for_subnet, subnet, request, metrics)
        return self._miss(request, metrics, take, options)

    def _miss(
        self, request: Request, metrics: CacheMetrics, take: Step, options: bytes = b""
    ) -> Answer:
        """Query the handlers below and let `take` process the reply.

        Of the client's EDNS options only `options` are sent.
        """
        budget = self.budget
        if not budget.begin_wait(request):
            return self._overloaded(request, metrics)
        # AD asks upstream whether the reply is authentic; later clients may need to know.
        if request.edns is not None and request.edns.options:
            below = request.derive(flags_set=c.FLAG_AD, options=options)
        else:
            below = request if request.flags & c.FLAG_AD else request.with_flags(c.FLAG_AD)
        try:
            answer = self.next.begin_dns(below)
        except BaseException:
            budget.end_wait(request, answered=False)
            raise
        if type(answer) is Pending:
            answer.steps.append(take)
            return answer
        if type(answer) is Reply:
            return take(answer) or answer
        budget.end_wait(request, answered=True)  # it has not begun yet, and may never begin
        return self._await(answer, request, metrics, take)

    async def _await(
        self,
        answer: Coroutine[Any, Any, Reply],
        request: Request,
        metrics: CacheMetrics,
        take: Step,
    ) -> Reply:
        if not self.budget.begin_wait(request):
            discard(answer)
            return self._overloaded(request, metrics)
        reply: Reply | None = None
        try:
            reply = await answer
        finally:
            take(reply)
        return reply

    def _take(
        self, key: bytes, request: Request, metrics: CacheMetrics, reply: Reply | None
    ) -> Reply | None:
        """Cache a reply, if there is one."""
        budget = self.budget
        budget.end_wait(request, answered=not budget.is_ceiling_raised or _is_answer(reply))
        if type(reply) is Reply and type(reply.wire) is bytes:  # otherwise the server reports it
            self.store.keep(key, request, reply, metrics)
            reply.deadline = None  # only repeated questions deserve a place in the packet cache
        return reply

    def _take_for_subnet(
        self,
        subnet: Subnet | None,
        request: Request,
        metrics: CacheMetrics,
        reply: Reply | None,
    ) -> Reply | None:
        """Cache a reply, if there is one, for clients of its network."""
        self.budget.end_wait(request, answered=_is_answer(reply))
        if type(reply) is not Reply or type(reply.wire) is not bytes:
            return reply
        scope = None if subnet is None else scope_of(reply.options, subnet)
        if subnet is not None and scope is not None:
            key = subnet_key_of(request, self.store.networks.key(subnet, scope))
            options = b"" if scope < 0 else subnet.option(scope)
            self.store.keep(key, request, reply, metrics, options=options)
        elif not (request.do or request.ad):
            clear_ad(reply)
        reply.deadline = None
        return reply

    def _overloaded(self, request: Request, metrics: CacheMetrics) -> Reply:
        """Return SERVFAIL for a query above the limit; REFUSED would concern the name."""
        metrics.rejects.value += 1
        if request.received >= self._quiet_until:
            self._quiet_until = request.received + _SECONDS_BETWEEN_WARNINGS
            _log.warning(
                "too many queries wait for an upstream (%d, within %d bytes of memory), or too many"
                " of one client: further queries, such as one of %s, get SERVFAIL",
                self.budget.waiting,
                self.budget.limit,
                request.remote[0],
            )
        reply = request.error(c.SERVFAIL)
        reply.options = _OVERLOADED
        reply.is_momentary = True
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
        return status_of(self.store, self._metrics.values())

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


def _is_answer(reply: Reply | None) -> bool:
    """Whether an upstream answered, so that it can take another query."""
    if type(reply) is not Reply or reply.error is not None or reply.is_momentary:
        return False
    if reply.is_dropped:
        return False
    wire = reply.wire
    return type(wire) is bytes and len(wire) > 3 and wire[3] & 15 != c.REFUSED
