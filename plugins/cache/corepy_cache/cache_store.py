"""The entries of one cache: two stores, the order of lookup, and the replacement of entries.

Follows CoreDNS's plugin/cache/handler.go (getIfNotStale) and cache.go (WriteMsg, set). The newest
reply wins: a positive reply removes a cached denial and vice versa, except under `prefer_positive`.
CoreDNS keeps the older entry, so a deleted name can return from its cache after the denial has
expired.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, final
from weakref import WeakKeyDictionary

from corepy.dns import constants as c
from corepy.dns.edns import EDE_CACHED_ERROR, OPTION_EDE, ede, option, parse_options
from corepy.dns.names import is_subdomain
from corepy.dns.wire import FormError, set_ttls
from corepy.plugin import DEPENDS_ON_CLIENT, MADE_WITH_LOOKUPS, ChangedNames
from corepy.plugin.metrics import before_reading
from corepy_cache.classify import NEVER, Classification, classify, matches
from corepy_cache.contents import Contents
from corepy_cache.entry import CacheEntry
from corepy_cache.keys import name_of, subnet_key_of
from corepy_cache.metrics import CacheMetrics
from corepy_cache.purge import purge, purge_names

if TYPE_CHECKING:
    from corepy.dns import Reply, Request
    from corepy_cache.budget import Budget
    from corepy_cache.keys import Subnet
    from corepy_cache.settings import Settings

WILDCARD: Final = "zone/wildcard"
"""Metadata with the wildcard record that a reply was made from; cached with the reply."""

LONGEST_STEP: Final = 5
"""The longest back-off in seconds before an unresponsive upstream is queried again."""

_FORGET_FAILURES: Final = 60.0

_WITHOUT_AD: Final = tuple(bytes((bits & ~c.FLAG_AD,)) for bits in range(256))
"""The last byte of the flags without AD, by its value."""


def back_off(failures: int) -> int:
    """Return the seconds for which the `failures`-th failure in a row is cached.

    RFC 9520 section 3.2: at least one, growing.
    """
    return int(min(1 << min(failures - 1, 8), LONGEST_STEP))


_DENIALS: Final = (c.NOERROR, c.NXDOMAIN)

_shown: Final[WeakKeyDictionary[object, tuple[CacheStore, list[CacheMetrics]]]] = (
    WeakKeyDictionary()
)
"""The caches in use, their entries, and the gauges that show the numbers of these.

During a reload two generations of a cache share gauges; the newer one comes last.
"""


def _show_sizes() -> None:
    for store, shown in list(_shown.values()):
        for metrics in shown:
            metrics.success_entries.value = float(len(store.success.entries))
            metrics.denial_entries.value = float(len(store.denial.entries))


before_reading(_show_sizes)


@final
class CacheStore:
    """The entries of one *cache* directive, and the rules for them."""

    def __init__(self, settings: Settings, budget: Budget, clock: Callable[[], float]) -> None:
        self._use(Contents(settings, budget))
        self.budget = budget
        self.settings = settings
        self.clock = clock
        # An entry is usable while its remaining seconds exceed this; stale ones have less than 1.
        self._least = -settings.stale.up_to
        self._prefers_positive = settings.stale.prefer_positive and settings.stale.up_to > 0

    def _use(self, contents: Contents) -> None:
        self.contents = contents
        self.success, self.denial = contents.success, contents.denial
        self.networks = contents.networks
        contents.users.append(self)

    def share(self, other: CacheStore) -> None:
        """Use the entries of `other` from now on, together with it, until one of both leaves.

        Both must be stores for the same replies. The limits of this store apply to the entries
        when `other` has left.
        """
        self._use(other.contents)

    async def leave(self) -> bool:
        """Stop using the entries; return whether some of them remain for another store.

        Otherwise they are removed.
        """
        remains = await self.contents.leave(self)
        if remains:
            self._hide()
        else:
            self.clear()
        return remains

    def show(self, cache: object, metrics: CacheMetrics) -> None:
        """Update the gauges of `metrics` with the numbers of entries whenever they are read.

        `cache` is the handler with this store; the gauges are updated as long as it exists.
        """
        _shown.setdefault(cache, (self, []))[1].append(metrics)

    def find(self, key: bytes, now: float, metrics: CacheMetrics | None) -> CacheEntry | None:
        """Return the entry to answer from, fresh or stale; with `metrics`, count it."""
        least = self._least
        good = self.success.entries.get(key)
        if self._prefers_positive and good is not None:
            preferred = good if good.answers else good.last_good
            if preferred is not None and preferred.left(now) > least:
                if metrics is not None:
                    metrics.success_hits.value += 1
                good.used = True
                return preferred
        if good is not None and now - good.stored >= good.ttl - least:  # left(now) <= least
            good = None
        bad = self.denial.entries.get(key)
        if (
            bad is not None
            and bad.rcode not in _DENIALS
            and (good is not None or bad.left(now) <= 0)
        ):
            bad = None  # a failure never takes precedence over an answer, nor is it served stale
        if bad is None or bad.left(now) <= least:
            if metrics is not None:
                hits = metrics.misses if good is None else metrics.success_hits
                hits.value += 1
            return good
        if metrics is not None:
            metrics.denial_hits.value += 1
        return bad

    def find_for(
        self, request: Request, subnet: Subnet, now: float, metrics: CacheMetrics
    ) -> CacheEntry | None:
        """Return the fresh entry for clients of `subnet`; such entries are never served stale."""
        for suffix in self.networks.keys(subnet):
            key = subnet_key_of(request, suffix)
            for table in (self.success, self.denial):
                entry = table.get(key)
                if entry is not None and entry.left(now) > 0:
                    hits = metrics.denial_hits if entry.denial else metrics.success_hits
                    hits.value += 1
                    entry.used = True
                    return entry
        metrics.misses.value += 1
        return None

    def peek(self, key: bytes, now: float) -> CacheEntry | None:
        """Return the result of `find` without side effects."""
        good = self.success.get(key)
        used = good is not None and good.used
        entry = self.find(key, now, None)
        if good is not None:
            good.used = used
        return entry

    def keep(
        self,
        key: bytes,
        request: Request,
        reply: Reply,
        metrics: CacheMetrics,
        *,
        refresh: bool = False,
        options: bytes = b"",
    ) -> tuple[Classification | None, CacheEntry | None]:
        """Cache `reply` under `key` if allowed, and modify it for the client.

        `options` are EDNS options to cache with a positive or negative reply.

        Returns the classification (None if the reply is dropped, a series of messages, malformed,
        or answers another question) and the new entry. A failed `refresh` is not cached, so that
        it does not replace the existing entry. A positive or negative reply that may not be cached
        still removes outdated entries.
        """
        if reply.is_dropped or reply.series is not None:
            return None, None
        if not matches(reply, request):
            metrics.drops.value += 1
            return None, None
        try:
            edns = request.edns
            do = edns is not None and edns.do
            # time of day: whether a signature is valid (RFC 4034 section 3.1.5)
            classification = classify(reply, request, time.time() if do else None)
            offsets = reply.ttl_offsets
        except FormError:
            return None, None
        failures = self._failures(key, reply) if classification.failure else 0
        ttl = self._ttl_of(classification, failures)
        # The TTLs of a zone transfer are data.
        if (
            not (classification.uniform and classification.ttl == ttl)
            and classification.kind not in NEVER
        ):
            wire = bytearray(reply.wire)
            set_ttls(wire, offsets, ttl)
            reply.patch(bytes(wire))
        entry = None
        is_passing = classification.failure and (refresh or reply.is_momentary)
        if classification.keep and ttl > 0 and not is_passing:
            entry = CacheEntry(key, request, reply.wire, offsets, ttl, self.clock())
            if options:
                entry.options = options
            if failures:
                entry.failures = failures
            entry = self._put(entry, classification, request, reply, metrics)
        if entry is None and classification.replaces_entry:
            self._end(key, classification)
        if reply.wire[3] & c.FLAG_AD and not (do or request.ad):
            clear_ad(reply)
        return classification, entry

    def _ttl_of(self, classification: Classification, failures: int) -> int:
        """Return for how many seconds a reply is cached, after `failures` of the upstreams."""
        if classification.failure:
            return self._hold(failures)
        bounds = self.settings.denial if classification.denial else self.settings.success
        return bounds.clamp(classification.ttl)

    def _failures(self, key: bytes, reply: Reply) -> int:
        """Return how many times in a row no upstream replied, 0 if one did.

        The plugin that queries the upstreams reports such a failure in `Reply.error`.
        """
        if reply.error is None:
            return 0
        before, now = self.denial.get(key), self.clock()
        if before is None or now - before.stored > _FORGET_FAILURES:
            return 1
        if before.left(now) > 0:
            # No query has tried since it was cached: these clients waited for the same resolution.
            return max(1, before.failures)
        return before.failures + 1

    def _hold(self, failures: int) -> int:
        """Return the seconds for which to cache a failure."""
        longest = self.settings.servfail
        return min(longest, back_off(failures)) if failures else longest

    async def forget(self, is_changed: Callable[[bytes], bool]) -> int:
        """Remove the entries of names whose data has changed; return their number.

        Replies to queries that arrived earlier are not stored, although they arrive later, nor are
        entries of another process.
        """
        self.contents.changes.add(self.clock(), is_changed)
        tables = self.success, self.denial
        if isinstance(is_changed, ChangedNames):
            return await purge_names(tables, is_changed.names)
        return await purge(tables, is_changed)

    def _put(
        self,
        entry: CacheEntry,
        classification: Classification,
        request: Request,
        reply: Reply,
        metrics: CacheMetrics,
    ) -> CacheEntry | None:
        denial = classification.denial or classification.failure
        bounds = self.settings.denial if denial else self.settings.success
        for zone in bounds.except_zones:
            if is_subdomain(request.name_wire, zone):
                return None
        contents = self.contents
        if contents.changes.recent and contents.changes.outdate(request):
            return None
        metadata: Any = request.metadata  # perhaps a dictionary with methods of its own
        if metadata:
            if DEPENDS_ON_CLIENT in metadata:
                return None
            if MADE_WITH_LOOKUPS in metadata:
                if contents.users != [self]:
                    return None  # a reload: another cache, of other server blocks, may remain
                contents.uses_lookups = True
        entry.denial = denial
        entry.answers = classification.answers
        wildcard = metadata.get(WILDCARD, "")
        if type(wildcard) is str:  # any plugin may set the label
            entry.wildcard = wildcard
        if classification.failure:
            entry.options = _failure_options(reply)
        self._replace(entry, classification)
        table = self.denial if denial else self.success
        table.put(entry)
        if table.evicted:
            counter = metrics.denial_evictions if denial else metrics.success_evictions
            counter.value += table.evicted
            table.evicted = 0
        return entry

    def _replace(self, entry: CacheEntry, classification: Classification) -> None:
        """Remove the outdated entry from the other store, and set `last_good` if needed."""
        if classification.failure:
            return
        if not self._prefers_positive:
            other = self.success if classification.denial else self.denial
            if entry.key in other.entries:
                other.remove(entry.key)
        elif entry.answers:
            self.denial.remove(entry.key)
        elif not classification.denial:
            before = self.success.get(entry.key)
            if before is not None:
                entry.last_good = before if before.answers else before.last_good

    def _end(self, key: bytes, classification: Classification) -> None:
        """Remove the entries that an uncached reply outdates."""
        self.denial.remove(key)
        if classification.answers or not self._prefers_positive:
            self.success.remove(key)

    def clear(self) -> None:
        """Remove all entries, finally."""
        self._hide()
        self.success.clear()
        self.denial.clear()

    def _hide(self) -> None:
        """Update the gauges no more; they show 0 unless another cache shares them."""
        for cache, (store, shown) in list(_shown.items()):
            if store is self:
                del _shown[cache]
                for metrics in shown:
                    metrics.success_entries.value = metrics.denial_entries.value = 0.0

    def restore(self, entry: CacheEntry) -> bool:
        """Store an entry of another process, if it can be used; return whether it can."""
        now, used = self.clock(), entry.used
        if not self.limit(entry) or entry.left(now) <= self._least:
            return False
        name = name_of(entry.key)
        if any(change.affects(name) for change in self.contents.changes.recent):
            return False  # purged while the entries are read
        (self.denial if entry.denial else self.success).put(entry)
        entry.used = used
        self.networks.learn(entry.key)
        return True

    def limit(self, entry: CacheEntry) -> bool:
        """Apply the settings to an entry stored under others; return whether it may be kept.

        Its TTL only decreases: the records of the reply may allow no more.
        """
        bounds = self.settings.denial if entry.denial else self.settings.success
        name = name_of(entry.key)
        if any(is_subdomain(name, zone) for zone in bounds.except_zones):
            return False
        is_failure = entry.rcode not in _DENIALS
        longest = self._hold(entry.failures) if is_failure else bounds.max_ttl
        entry.ttl = min(entry.ttl, longest)
        if self._prefers_positive:
            if entry.last_good is not None:
                self.limit(entry.last_good)
            return longest > 0
        # Without `prefer_positive`, a denial has replaced the answer.
        is_replaced = not entry.denial and _is_denial(self.denial.get(entry.key))
        return longest > 0 and not is_replaced


def _is_denial(entry: CacheEntry | None) -> bool:
    return entry is not None and entry.rcode in _DENIALS


@final
class EntryHitCounter:
    """Counts the hits that the packet cache answered for one entry."""

    __slots__ = ("_entry", "_metrics", "_store")

    def __init__(self, store: CacheStore, entry: CacheEntry, metrics: CacheMetrics) -> None:
        self._store = store
        self._entry = entry
        self._metrics = metrics

    def count_hits(self, times: int) -> None:
        """Count `times` hits as if this cache had answered them."""
        store, entry, metrics = self._store, self._entry, self._metrics
        metrics.requests.value += times
        hits = metrics.denial_hits if entry.denial else metrics.success_hits
        hits.value += times
        entry.used = True
        prefetch = store.settings.prefetch
        if prefetch.amount > 0:
            entry.count(times, store.clock(), prefetch.duration)


def _failure_options(reply: Reply) -> bytes:
    """Return the extended errors of a cached failure (RFC 8914 section 4.14: 13)."""
    kept = [option(code, data) for code, data in parse_options(reply.options) if code == OPTION_EDE]
    return b"".join((*kept, ede(EDE_CACHED_ERROR)))


def clear_ad(reply: Reply) -> None:
    """Clear AD, for a client that did not request it (RFC 6840 section 5.8)."""
    wire = reply.wire
    if len(wire) > 3:  # else the server reports it
        reply.patch(b"".join((wire[:3], _WITHOUT_AD[wire[3]], wire[4:])))


def restore(request: Request, reply: Reply, entry: CacheEntry) -> None:
    """Restore the EDNS options and metadata that were cached with the message."""
    reply.options = entry.options
    if entry.wildcard:
        request.metadata[WILDCARD] = entry.wildcard
