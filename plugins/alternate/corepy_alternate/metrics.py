"""The metric of *alternate*."""

from __future__ import annotations

from typing import Final

from corepy.plugin import metrics

ASKED: Final = metrics.counter(
    "corepy_alternate_queries_total",
    "Queries that alternate upstreams were asked, by the rcode of the first reply.",
    ("server", "rcode"),
)
