"""Defines the metrics of forward.

Those named coredns_* are CoreDNS's (plugin/forward/metrics.go, pkg/proxy/metrics.go); those named
corepy_* measure features that CoreDNS lacks.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from corepy.plugin import metrics

PROXY: Final = "forward"
"""Value of the label `proxy_name`."""

REQUEST_DURATION: Final = metrics.histogram(
    "coredns_proxy_request_duration_seconds",
    "Time from a query to its upstream's reply.",
    ("proxy_name", "to", "rcode"),
    bounds=metrics.TIME_BUCKETS,
)
HEALTHCHECK_FAILURES: Final = metrics.counter(
    "coredns_proxy_healthcheck_failures_total",
    "Failed health checks per upstream.",
    ("proxy_name", "to"),
)
CONN_CACHE_HITS: Final = metrics.counter(
    "coredns_proxy_conn_cache_hits_total",
    "Queries sent over a socket that was already open.",
    ("proxy_name", "to", "proto"),
)
CONN_CACHE_MISSES: Final = metrics.counter(
    "coredns_proxy_conn_cache_misses_total",
    "Queries for which a new socket was opened.",
    ("proxy_name", "to", "proto"),
)
HEALTHCHECK_BROKEN: Final = metrics.counter(
    "coredns_forward_healthcheck_broken_total",
    "Queries for which every upstream was unhealthy.",
).labels()
MAX_CONCURRENT_REJECTS: Final = metrics.counter(
    "coredns_forward_max_concurrent_rejects_total",
    "Queries answered SERVFAIL because as many as allowed were in flight.",
).labels()
DROPPED: Final = metrics.counter(
    "corepy_forward_dropped_replies_total",
    "Messages from upstreams that match no query in flight, by reason.",
    ("to", "reason"),
)
SHARED: Final = metrics.counter(
    "corepy_forward_shared_queries_total",
    "Queries answered by the exchange of an identical one in flight.",
).labels()
HEDGED: Final = metrics.counter(
    "corepy_forward_hedged_queries_total",
    "Second queries sent because an upstream was late.",
    ("to",),
)
UP: Final = metrics.gauge(
    "corepy_forward_upstream_up",
    "1 while an upstream is considered healthy, else 0.",
    ("to",),
    merge="min",
)
DESIGNATED: Final = metrics.gauge(
    "corepy_forward_designated_upstream",
    "1 while an upstream is asked over the encrypted protocol that it has designated.",
    ("to", "protocol"),
    merge="max",
)
VERDICTS: Final = metrics.counter(
    "coredns_forward_dnssec_validations_total",
    "Replies that were validated with DNSSEC, by the result.",
    ("result",),
)
"""The results are "secure", "insecure", "bogus" and "indeterminate" (RFC 4033 section 5)."""

_shown: Final = Counter[str]()


def show_up(address: str) -> metrics.Value:
    """Return the gauge of an upstream; several `Upstream` objects may share it."""
    _shown[address] += 1
    return UP.labels(address)


def hide_up(address: str) -> None:
    """Remove the gauge of an upstream once the last of its `Upstream` objects is closed.

    An unused upstream is neither up nor down. Called once for each `show_up`.
    """
    _shown[address] -= 1
    if not _shown[address]:
        del _shown[address]
        UP.remove(address)
