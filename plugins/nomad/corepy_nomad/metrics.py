"""The counters of *nomad*, with CoreDNS's names (plugin/nomad/metrics.go)."""

from __future__ import annotations

from typing import Final

from corepy.plugin import metrics

SUCCESSES: Final = metrics.counter(
    "coredns_nomad_success_requests_total",
    "Queries for services that exist, by server and namespace.",
    ("server", "namespace"),
)
FAILURES: Final = metrics.counter(
    "coredns_nomad_failed_requests_total",
    "Queries for services that do not exist, or that Nomad did not answer.",
    ("server", "namespace"),
)
