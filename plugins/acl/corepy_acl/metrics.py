"""The metrics of *acl* (CoreDNS: plugin/acl/metrics.go)."""

from __future__ import annotations

from corepy.plugin import metrics

_QUERY = ("server", "zone", "view")

ALLOWED = metrics.counter(
    "coredns_acl_allowed_requests_total", "Queries that acl allowed.", ("server", "view")
)
BLOCKED = metrics.counter(
    "coredns_acl_blocked_requests_total", "Queries that acl answered with REFUSED.", _QUERY
)
FILTERED = metrics.counter(
    "coredns_acl_filtered_requests_total", "Queries that acl answered without records.", _QUERY
)
DROPPED = metrics.counter(
    "coredns_acl_dropped_requests_total", "Queries that acl did not answer.", _QUERY
)
