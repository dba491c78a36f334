"""The metrics of *grpc* (CoreDNS: plugin/grpc/metrics.go)."""

from __future__ import annotations

from typing import Final

from corepy.plugin import metrics

REQUESTS: Final = metrics.counter(
    "coredns_grpc_requests_total", "Queries that an upstream has answered.", ("to",)
)
RESPONSES: Final = metrics.counter(
    "coredns_grpc_responses_total", "Replies of an upstream by rcode.", ("rcode", "to")
)
DURATION: Final = metrics.histogram(
    "coredns_grpc_request_duration_seconds",
    "Time from a query to the reply of an upstream.",
    ("to",),
    bounds=metrics.TIME_BUCKETS,
)
SHARED: Final = metrics.counter(
    "corepy_grpc_shared_queries_total",
    "Queries answered by the exchange of an identical one in flight.",
).labels()
