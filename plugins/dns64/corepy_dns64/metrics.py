"""The metric of *dns64* (CoreDNS: plugin/dns64/metrics.go)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corepy.plugin import metrics

if TYPE_CHECKING:
    from corepy.plugin.metrics import Value

TRANSLATED = metrics.counter(
    "coredns_dns64_requests_translated_total",
    "Queries that dns64 answered with translated addresses.",
    ("server",),
)


class RepetitionCounter:
    """Counts the translated replies that the packet cache repeats: a `corepy.plugin.HitCounter`."""

    __slots__ = ("_value",)

    def __init__(self, value: Value) -> None:
        self._value = value

    def count_hits(self, times: int) -> None:
        """Count `times` queries."""
        self._value.inc(times)
