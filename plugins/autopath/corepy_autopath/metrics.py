"""The metric of *autopath* (CoreDNS: plugin/autopath/metrics.go)."""

from __future__ import annotations

from corepy.plugin import metrics

SUCCESSES = metrics.counter(
    "coredns_autopath_success_total",
    "Queries for which autopath found an existing name in the search path.",
    ("server",),
)
