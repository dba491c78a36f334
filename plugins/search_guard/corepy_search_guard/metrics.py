"""The metrics of *search_guard*."""

from __future__ import annotations

from corepy.plugin import metrics

DENIALS = metrics.counter(
    "corepy_search_guard_denials_total",
    "Queries that search_guard answered with NXDOMAIN.",
    ("server", "domain"),
)
PROBES = metrics.counter(
    "corepy_search_guard_probes_total",
    "Queries of search_guard for proofs, by result.",
    ("domain", "result"),
)
CONTRADICTIONS = metrics.counter(
    "corepy_search_guard_contradictions_total",
    "Proofs discarded because a name below the denied name exists.",
    ("domain",),
)
VIOLATIONS = metrics.counter(
    "corepy_search_guard_violations_total",
    "Search domains whose server denies names that have names below them (RFC 8020).",
    ("domain",),
)
