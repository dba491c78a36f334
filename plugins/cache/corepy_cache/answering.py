"""Answers queries from the entries of one cache, without a coroutine.

Follows CoreDNS's plugin/cache/handler.go. A fresh hit runs only `Answers.begin`, `CacheStore.find`
and `CacheEntry.reply`: it reads no clock and creates one object. The time is `request.received`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, final

from corepy.dns import Reply
from corepy.dns import constants as c
from corepy.dns.edns import EDE_OTHER, ede, forwarded_options
from corepy.plugin import Pending, ZoneMatcher, plugin_logger
from corepy_cache.cache_store import EntryHitCounter, clear_ad, restore
from corepy_cache.keys import key_of, scope_of, subnet_key_of, subnet_of
from corepy_cache.metrics import CacheMetrics

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine

    from corepy.dns import Request
    from corepy.plugin import Handler
    from corepy.plugin.handler import Answer
    from corepy.plugin.pending import Step
    from corepy_cache.cache_store import CacheStore
    from corepy_cache.entry import CacheEntry
    from corepy_cache.keys import Subnet
    from corepy_cache.refresh import Refresher
    from corepy_cache.settings import Settings

_OPCODE: Final = 0x78
_CD: Final = c.FLAG_CD
_OVERLOADED: Final = ede(EDE_OTHER, "too many queries wait for an upstream")
_SECONDS_BETWEEN_WARNINGS: Final = 10.0
_log: Final = plugin_logger("cache")


class Caller(Protocol):
    """The handler, or its copy in a traced chain: it has the handlers below and the coroutines."""

    next: Handler
    refresher: Refresher

    def pass_by(self, request: Request) -> Coroutine[Any, Any, Reply]:
        """Return the reply from below to a query that the cache does not handle."""

    def stale(
        self, request: Request, entry: CacheEntry, metrics: CacheMetrics
    ) -> Coroutine[Any, Any, Reply]:
        """Return the reply to a query with an expired entry."""

    def wait(
        self, answer: Awaitable[Reply], request: Request, metrics: CacheMetrics, take: Step
    ) -> Coroutine[Any, Any, Reply]:
        """Return the reply of a coroutine from below, after `take` has processed it."""


@final
class Answers:
    """Answers the queries to one *cache* directive."""

    __slots__ = (
        "_all_names",
        "_keep_ttl",
        "_lifetime",
        "_metrics",
        "_prefetches",
        "_quiet_until",
        "_settings",
        "_store",
        "_zones",
    )

    def __init__(self, settings: Settings, store: CacheStore, lifetime: object) -> None:
        """Take the settings; the gauges are updated while the object `lifetime` exists."""
        self._settings = settings
        self._store = store
        self._lifetime = lifetime
        self._zones = ZoneMatcher(settings.zones)
        self._all_names = "." in settings.zones
        self._keep_ttl = settings.keep_ttl
        self._prefetches = settings.prefetch.amount > 0
        self._metrics: dict[str, CacheMetrics] = {}
        self._quiet_until = 0.0

    def covers(self, request: Request) -> bool:
        """Whether the cache handles `request`, by its opcode and name."""
        if request.wire[2] & _OPCODE:
            return False
        return self._all_names or self._zones.find(request.name_wire) is not None

    def metrics(self, server: str, view: str) -> CacheMetrics:
        """Return the metrics for this server label."""
        metrics = self._metrics.get(server)
        if metrics is None:
            zones = ",".join(self._settings.zones)
            metrics = self._metrics[server] = CacheMetrics(server, zones, view)
            self._store.show(self._lifetime, metrics)
        return metrics

    def all_metrics(self) -> list[CacheMetrics]:
        """Return the metrics of all server labels."""
        return list(self._metrics.values())

    def begin(self, caller: Caller, request: Request) -> Answer:
        """Answer from the cache at once, or query the handlers below."""
        wire = request.wire
        if wire[2] & _OPCODE or not (
            self._all_names or self._zones.find(request.name_wire) is not None
        ):
            return caller.pass_by(request)
        context, store = request.context, self._store
        metrics = self._metrics.get(context.server) or self.metrics(context.server, context.view)
        metrics.requests.value += 1
        now = request.received or store.clock()
        edns = request.edns
        if edns is not None and edns.options and (options := forwarded_options(edns.options)):
            return self._answer_with_options(caller, request, options, now, metrics)
        if wire[2] & 1 and not wire[3] & _CD and (edns is None or not edns.do):
            key = request.asked  # equal to `key_of`, without the call
        else:
            key = key_of(request)
        entry = store.find(key, now, metrics)
        if entry is None:
            take = partial(self._take, key, request, metrics)
            return self._miss(caller, request, metrics, take, b"")
        entry.used = True
        left = entry.left(now)
        if left <= 0:
            return caller.stale(request, entry, metrics)
        reply = entry.reply(request, entry.ttl if self._keep_ttl else left)
        if entry.options or entry.wildcard:
            restore(request, reply, entry)
        if self._prefetches:
            self._prefetch(caller, request, reply, entry, left, metrics)
        elif context.uses_deadlines and not self._keep_ttl:
            self._allow_packet_cache(reply, entry, entry.stored + entry.ttl, metrics)
        return reply

    def _allow_packet_cache(
        self, reply: Reply, entry: CacheEntry, until: float, metrics: CacheMetrics
    ) -> None:
        """Allow the packet cache to repeat `reply` with lowered TTLs."""
        reply.deadline = until
        reply.since = entry.stored
        reply.hit_counters = (EntryHitCounter(self._store, entry, metrics),)

    def _prefetch(
        self,
        caller: Caller,
        request: Request,
        reply: Reply,
        entry: CacheEntry,
        left: int,
        metrics: CacheMetrics,
    ) -> None:
        prefetch = self._settings.prefetch
        entry.count(1, request.received, prefetch.duration)
        threshold = prefetch.threshold(entry.ttl)
        if left > threshold:
            if not self._keep_ttl:
                until = entry.stored + entry.ttl - threshold
                self._allow_packet_cache(reply, entry, until, metrics)
        elif entry.hits >= prefetch.amount:
            caller.refresher.start(request, entry, metrics)

    def _answer_with_options(
        self, caller: Caller, request: Request, options: bytes, now: float, metrics: CacheMetrics
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
            entry = self._store.find_for(request, subnet, now, metrics)
            if entry is not None:
                left = entry.ttl if self._keep_ttl else entry.left(now)
                reply = entry.reply(request, left)
                restore(request, reply, entry)
                reply.options = subnet.own_options(entry.options)
                return reply
        take = partial(self._take_for_subnet, subnet, request, metrics)
        return self._miss(caller, request, metrics, take, options)

    def _miss(
        self, caller: Caller, request: Request, metrics: CacheMetrics, take: Step, options: bytes
    ) -> Answer:
        """Query the handlers below and let `take` process the reply.

        Of the client's EDNS options only `options` are sent.
        """
        budget = self._store.budget
        if not budget.begin_wait(request):
            return self.overloaded(request, metrics)
        # AD asks upstream whether the reply is authentic; later clients may need to know.
        if request.edns is not None and request.edns.options:
            below = request.derive(flags_set=c.FLAG_AD, options=options)
        else:
            below = request if request.flags & c.FLAG_AD else request.with_flags(c.FLAG_AD)
        try:
            answer = caller.next.begin_dns(below)
        except BaseException:
            budget.end_wait(request, answered=False)
            raise
        if type(answer) is Pending:
            answer.steps.append(take)
            return answer
        if type(answer) is Reply:
            return take(answer) or answer
        budget.end_wait(request, answered=True)  # it has not begun yet, and may never begin
        return caller.wait(answer, request, metrics, take)

    def _take(self, key: bytes, request: Request, metrics: CacheMetrics, reply: Any) -> Any:
        """Cache a reply, if there is one."""
        store = self._store
        budget = store.budget
        budget.end_wait(request, answered=not budget.is_ceiling_raised or is_answer(reply))
        if type(reply) is Reply and type(reply.wire) is bytes:  # otherwise the server reports it
            store.keep(key, request, reply, metrics)
            reply.deadline = None  # only repeated questions deserve a place in the packet cache
        return reply

    def _take_for_subnet(
        self, subnet: Subnet | None, request: Request, metrics: CacheMetrics, reply: Any
    ) -> Any:
        """Cache a reply, if there is one, for clients of its network."""
        store = self._store
        store.budget.end_wait(request, answered=is_answer(reply))
        if type(reply) is not Reply or type(reply.wire) is not bytes:
            return reply
        scope = None if subnet is None else scope_of(reply.options, subnet)
        if subnet is not None and scope is not None:
            key = subnet_key_of(request, store.networks.key(subnet, scope))
            options = b"" if scope < 0 else subnet.option(scope)
            store.keep(key, request, reply, metrics, options=options)
        elif not (request.do or request.ad):
            clear_ad(reply)
        reply.deadline = None
        return reply

    def overloaded(self, request: Request, metrics: CacheMetrics) -> Reply:
        """Return SERVFAIL for a query above the limit; REFUSED would concern the name."""
        metrics.rejects.value += 1
        if request.received >= self._quiet_until:
            self._quiet_until = request.received + _SECONDS_BETWEEN_WARNINGS
            budget = self._store.budget
            _log.warning(
                "too many queries wait for an upstream (%d, within %d bytes of memory), or too many"
                " of one client: further queries, such as one of %s, get SERVFAIL",
                budget.waiting,
                budget.limit,
                request.remote[0],
            )
        reply = request.error(c.SERVFAIL)
        reply.options = _OVERLOADED
        reply.is_momentary = True
        return reply


def is_answer(reply: Any) -> bool:
    """Whether an upstream answered, so that it can take another query."""
    if type(reply) is not Reply or reply.error is not None or reply.is_momentary:
        return False
    if reply.is_dropped:
        return False
    wire = reply.wire
    return type(wire) is bytes and len(wire) > 3 and wire[3] & 15 != c.REFUSED
