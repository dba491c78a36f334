"""The metric of *dns64* (CoreDNS: plugin/dns64/metrics.go)."""

from __future__ import annotations

from corepy.plugin import metrics

TRANSLATED = metrics.counter(
    "coredns_dns64_requests_translated_total",
    "Queries that dns64 answered with translated addresses.",
    ("server",),
)
