"""The metrics of zones that are copied from an API. CoreDNS has none of these plugins."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from corepy.dns.names import to_text
from corepy.plugin import metrics

if TYPE_CHECKING:
    from corepy.zone.polled_api import PolledZone

_LABELS = ("zone", "id")


class PolledMetrics:
    """The metrics of one plugin, by zone and its name at the API."""

    def __init__(self, plugin: str) -> None:
        """Declare the metrics of the directive `plugin`."""
        self._refreshed = metrics.gauge(
            f"corepy_{plugin}_last_success_timestamp_seconds",
            "Unix time at which the records of a zone were last listed with success.",
            _LABELS,
            merge="max",
        )
        self._records = metrics.gauge(
            f"corepy_{plugin}_records", "Records of the copy of a zone.", _LABELS, merge="max"
        )
        self._failures = metrics.counter(
            f"corepy_{plugin}_failures_total", "Lists of records that have failed.", _LABELS
        )

    def succeeded(self, zone: PolledZone, records: int) -> None:
        """Note a list with success."""
        labels = to_text(zone.origin), zone.id
        self._refreshed.labels(*labels).value = time.time()  # time of day: a metric
        self._records.labels(*labels).value = records

    def failed(self, zone: PolledZone) -> None:
        """Count a failure."""
        self._failures.labels(to_text(zone.origin), zone.id).inc()

    def forget(self, zone: PolledZone) -> None:
        """Remove the gauges of a zone that is not copied any more."""
        labels = to_text(zone.origin), zone.id
        self._refreshed.remove(*labels)
        self._records.remove(*labels)
