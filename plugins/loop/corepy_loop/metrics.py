"""The metrics of *loop*; CoreDNS has none."""

from __future__ import annotations

from typing import Final

from corepy.plugin import metrics

DETECTED: Final = metrics.counter(
    "coredns_loop_detected_total",
    "Counter of queries that came back to the server that had forwarded them.",
    ("server", "zone"),
)
