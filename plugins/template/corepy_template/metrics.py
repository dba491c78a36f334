"""The metrics of *template* (CoreDNS: plugin/template/metrics.go)."""

from __future__ import annotations

from corepy.plugin import metrics

_QUERY = ("server", "zone", "view", "class", "type")

MATCHES = metrics.counter(
    "coredns_template_matches_total", "Queries that a template matched.", _QUERY
)
TEMPLATE_FAILURES = metrics.counter(
    "coredns_template_template_failures_total",
    "Templates that could not be rendered.",
    (*_QUERY, "section", "template"),
)
RR_FAILURES = metrics.counter(
    "coredns_template_rr_failures_total",
    "Rendered texts that are not valid records.",
    (*_QUERY, "section", "template"),
)
