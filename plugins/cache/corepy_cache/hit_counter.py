"""Count the packet cache's answers from an entry as hits of this cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from corepy_cache.entry import CacheEntry
    from corepy_cache.handler import Cache
    from corepy_cache.metrics import CacheMetrics


class EntryHitCounter:
    """Counts the hits that the packet cache answered for one entry."""

    __slots__ = ("_cache", "_entry", "_metrics")

    def __init__(self, cache: Cache, entry: CacheEntry, metrics: CacheMetrics) -> None:
        self._cache = cache
        self._entry = entry
        self._metrics = metrics

    def count_hits(self, times: int) -> None:
        """Count `times` hits as if this cache had answered them."""
        cache, entry, metrics = self._cache, self._entry, self._metrics
        metrics.requests.value += times
        hits = metrics.denial_hits if entry.denial else metrics.success_hits
        hits.value += times
        entry.used = True
        if cache.settings.prefetch.amount > 0:
            entry.count(times, cache.store.clock(), cache.settings.prefetch.duration)
