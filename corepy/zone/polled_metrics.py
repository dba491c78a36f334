"""The metrics of zones that are copied from an API. CoreDNS has none of these plugins."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from corepy.dns.names import to_text
from corepy.plugin import metrics

if TYPE_CHECKING:
    from corepy.zone.polled_api import PolledZone

_LABELS: Final = ("plugin", "zone", "id")

REFRESHED: Final = metrics.gauge(
    "corepy_polled_zone_last_success_timestamp_seconds",
    "Unix time at which the records of a hosted zone were last listed with success.",
    _LABELS,
    merge="max",
)
RECORDS: Final = metrics.gauge(
    "corepy_polled_zone_records", "Records of the copy of a hosted zone.", _LABELS, merge="max"
)
FAILURES: Final = metrics.counter(
    "corepy_polled_zone_failures_total",
    "Lists of the records of a hosted zone that have failed.",
    _LABELS,
)


class PolledMetrics:
    """The metrics of the hosted zones of one plugin."""

    def __init__(self, plugin: str) -> None:
        """Count for the directive `plugin`."""
        self._plugin = plugin

    def _labels(self, zone: PolledZone) -> tuple[str, str, str]:
        return self._plugin, to_text(zone.origin), zone.id

    def succeeded(self, zone: PolledZone, records: int) -> None:
        """Note a list with success."""
        labels = self._labels(zone)
        REFRESHED.labels(*labels).value = time.time()  # time of day: a metric
        RECORDS.labels(*labels).value = records

    def failed(self, zone: PolledZone) -> None:
        """Count a failure."""
        FAILURES.labels(*self._labels(zone)).inc()

    def forget(self, zone: PolledZone) -> None:
        """Remove the gauges of a zone that is not copied any more."""
        for gauge in (REFRESHED, RECORDS):
            gauge.remove(*self._labels(zone))
