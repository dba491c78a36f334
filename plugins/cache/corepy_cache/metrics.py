"""The metrics of the cache: CoreDNS's names and labels (plugin/cache/metrics.go), and additions.

A `CacheMetrics` object holds the children for one server label, so that counting costs one
addition.
"""

from __future__ import annotations

from typing import Final

from corepy.plugin import metrics

_LABELS: Final = ("server", "zones", "view")
_TYPE_LABELS: Final = ("server", "type", "zones", "view")

ENTRIES: Final = metrics.gauge(
    "coredns_cache_entries", "The number of elements in the cache.", _TYPE_LABELS
)
REQUESTS: Final = metrics.counter(
    "coredns_cache_requests_total", "The count of cache requests.", _LABELS
)
HITS: Final = metrics.counter("coredns_cache_hits_total", "The count of cache hits.", _TYPE_LABELS)
MISSES: Final = metrics.counter(
    "coredns_cache_misses_total",
    "The count of cache misses. Deprecated, derive misses from cache hits/requests counters.",
    _LABELS,
)
PREFETCHES: Final = metrics.counter(
    "coredns_cache_prefetch_total",
    "The number of times the cache has prefetched a cached item.",
    _LABELS,
)
DROPS: Final = metrics.counter(
    "coredns_cache_drops_total",
    "The number of replies not cached because they answer another question.",
    _LABELS,
)
STALE: Final = metrics.counter(
    "coredns_cache_served_stale_total",
    "The number of requests served from stale cache entries.",
    _LABELS,
)
EVICTIONS: Final = metrics.counter(
    "coredns_cache_evictions_total", "The count of cache evictions.", _TYPE_LABELS
)
REJECTS: Final = metrics.counter(
    "coredns_cache_rejects_total",
    "The count of misses answered SERVFAIL because too many queries waited.",
    _LABELS,
)
MEMORY: Final = metrics.gauge(
    "coredns_cache_memory_bytes", "Bytes used by cached replies and waiting queries."
).labels()
MEMORY_LIMIT: Final = metrics.gauge(
    "coredns_cache_memory_limit_bytes", "Bytes that caches and waiting queries may use."
).labels()


class CacheMetrics:
    """The children of one server label."""

    __slots__ = (
        "denial_entries",
        "denial_evictions",
        "denial_hits",
        "drops",
        "labels",
        "misses",
        "prefetches",
        "rejects",
        "requests",
        "stale",
        "success_entries",
        "success_evictions",
        "success_hits",
    )

    def __init__(self, server: str, zones: str, view: str) -> None:
        self.labels = labels = (server, zones, view)
        success = (server, "success", zones, view)
        denial = (server, "denial", zones, view)
        self.requests = REQUESTS.labels(*labels)
        self.misses = MISSES.labels(*labels)
        self.prefetches = PREFETCHES.labels(*labels)
        self.drops = DROPS.labels(*labels)
        self.stale = STALE.labels(*labels)
        self.rejects = REJECTS.labels(*labels)
        self.success_hits = HITS.labels(*success)
        self.denial_hits = HITS.labels(*denial)
        self.success_entries = ENTRIES.labels(*success)
        self.denial_entries = ENTRIES.labels(*denial)
        self.success_evictions = EVICTIONS.labels(*success)
        self.denial_evictions = EVICTIONS.labels(*denial)
