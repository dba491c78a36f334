"""The metrics of *trace*; CoreDNS has none."""

from __future__ import annotations

from typing import Final

from corepy.plugin import metrics

SENT: Final = metrics.counter(
    "coredns_trace_spans_sent_total", "Spans that a collector has accepted.", ("collector",)
)
DROPPED: Final = metrics.counter(
    "coredns_trace_spans_dropped_total",
    "Spans that were not sent: the backlog was full, the collector rejected them, or the server "
    "stopped.",
    ("collector", "reason"),
)
SKIPPED: Final = metrics.counter(
    "coredns_trace_queries_skipped_total",
    "Selected queries that were not traced, because the collector fails and the backlog is full.",
    ("collector",),
)
FAILURES: Final = metrics.counter(
    "coredns_trace_send_failures_total",
    "Batches of spans that a collector did not accept.",
    ("collector",),
)
REASONS: Final = ("backlog", "rejected", "shutdown")
"""The values of the label reason."""
