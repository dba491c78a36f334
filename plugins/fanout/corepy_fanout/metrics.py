"""The metrics of *fanout* (github.com/networkservicemesh/fanout: metrics.go)."""

from __future__ import annotations

from typing import Final

from corepy.plugin import metrics

REQUESTS: Final = metrics.counter(
    "coredns_fanout_request_count_total", "Queries that an upstream has answered.", ("to",)
)
RCODES: Final = metrics.counter(
    "coredns_fanout_response_rcode_count_total",
    "Replies of an upstream by rcode.",
    ("rcode", "to"),
)
DURATION: Final = metrics.histogram(
    "coredns_fanout_request_duration_seconds",
    "Time from a query to the reply of an upstream.",
    ("to",),
    bounds=metrics.TIME_BUCKETS,
)
