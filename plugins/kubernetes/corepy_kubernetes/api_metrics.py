"""The metrics of the requests to the API, by the names of CoreDNS (and of client-go)."""

from __future__ import annotations

from typing import Final

from corepy.plugin import metrics

BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds: the default bounds of Go's Prometheus client."""

REQUEST_SECONDS: Final = metrics.histogram(
    "coredns_kubernetes_rest_client_request_duration_seconds",
    "Request latency in seconds. Broken down by verb and host.",
    ("verb", "host"),
    bounds=BUCKETS,
)
RATE_LIMITER_SECONDS: Final = metrics.histogram(
    "coredns_kubernetes_rest_client_rate_limiter_duration_seconds",
    "Client side rate limiter latency in seconds. Broken down by verb and host.",
    ("verb", "host"),
    bounds=BUCKETS,
)
REQUESTS: Final = metrics.counter(
    "coredns_kubernetes_rest_client_requests_total",
    "Number of HTTP requests, partitioned by status code, method, and host.",
    ("code", "method", "host"),
)
