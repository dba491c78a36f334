"""The status of a cache for an operator (`corepy.plugin.HookSpecs.status`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from corepy_cache import metrics

if TYPE_CHECKING:
    from collections.abc import Iterable

    from corepy.plugin.metrics import Metric, Value
    from corepy_cache.cache_store import CacheStore
    from corepy_cache.metrics import CacheMetrics


def status_of(store: CacheStore, shown: Iterable[CacheMetrics]) -> dict[str, Any]:
    """Return the numbers of a cache; `shown` are its metrics at each listen address.

    The counts are those of this process, and include the queries that the packet cache answers.
    """
    shown = list(shown)
    tables = store.success, store.denial
    return {
        "cache": {
            "entries": sum(map(len, tables)),
            "success_entries": len(store.success),
            "denial_entries": len(store.denial),
            "capacity": sum(table.capacity for table in tables),
            "bytes": sum(table.bytes for table in tables),
            "limit": store.budget.limit,
            "hits": _sum_by_type(metrics.HITS, shown),
            "misses": _sum(metrics.MISSES, shown),
            "stale": _sum(metrics.STALE, shown),
            "evictions": _sum_by_type(metrics.EVICTIONS, shown),
            "prefetches": _sum(metrics.PREFETCHES, shown),
        },
    }


def _sum(metric: Metric[Value], shown: Iterable[CacheMetrics]) -> int:
    return int(sum(metric.own(*each.labels) for each in shown))


def _sum_by_type(metric: Metric[Value], shown: Iterable[CacheMetrics]) -> int:
    """Return the sum for positive entries and denials."""
    found = 0.0
    for each in shown:
        server, *others = each.labels
        found += sum(metric.own(server, kind, *others) for kind in ("success", "denial"))
    return int(found)
