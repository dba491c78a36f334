"""The metrics of *no_aaaa*."""

from __future__ import annotations

from corepy.plugin import metrics

ANSWERED = metrics.counter(
    "coredns_no_aaaa_answered_total",
    "AAAA queries that no_aaaa answered without data.",
    ("server",),
)
FILTERED = metrics.counter(
    "coredns_no_aaaa_filtered_total",
    "Replies from which no_aaaa removed IPv6 addresses.",
    ("server",),
)
