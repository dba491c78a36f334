"""The metrics of *dnssec* (CoreDNS: plugin/dnssec/metrics.go)."""

from __future__ import annotations

from typing import NamedTuple

from corepy.plugin import metrics
from corepy.plugin.metrics import Value

_ENTRIES = metrics.gauge(
    "coredns_dnssec_cache_entries",
    "Record sets whose signatures dnssec has cached.",
    ("server", "type"),
)
_HITS = metrics.counter(
    "coredns_dnssec_cache_hits_total",
    "Record sets whose signatures were in the cache.",
    ("server",),
)
_MISSES = metrics.counter(
    "coredns_dnssec_cache_misses_total",
    "Record sets whose signatures were not in the cache.",
    ("server",),
)
_REJECTS = metrics.counter(
    "coredns_dnssec_rejects_total",
    "Queries answered with SERVFAIL because too many waited for signatures.",
    ("server",),
)


class Counts(NamedTuple):
    """The metrics of one server address."""

    entries: Value
    hits: Value
    misses: Value
    rejects: Value

    @classmethod
    def of(cls, server: str) -> Counts:
        """Return those of an address such as "dns://:53"."""
        return cls(
            _ENTRIES.labels(server, "signature"),
            *(it.labels(server) for it in (_HITS, _MISSES, _REJECTS)),
        )
