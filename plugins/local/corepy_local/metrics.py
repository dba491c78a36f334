"""The metric of *local* (CoreDNS: plugin/local/metrics.go)."""

from __future__ import annotations

from corepy.plugin import metrics

REQUESTS = metrics.counter(
    "coredns_local_localhost_requests_total",
    "Queries for names below localhost, or that begin with localhost.",
).labels()
