"""The figures of the last hour, in fixed memory: one record for each interval.

A record has the increases of some counters, and of the latency histogram. All are 32-bit numbers.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Final, NamedTuple

from corepy.server.traffic.latency import BUCKETS, percentile

if TYPE_CHECKING:
    from collections.abc import Sequence

INTERVAL: Final = 10
"""Seconds of a record."""

RECORDS: Final = 360

COUNTERS: Final = (
    "queries", "packet_cache_hits", "waited", "nxdomain", "servfail", "unanswered"
)  # fmt: skip
"""The names of the counters in a record, in order."""

SIZE: Final = len(COUNTERS) + BUCKETS
"""Numbers in a record: the counters, and the buckets of the histogram."""

_LARGEST: Final = 0xFFFFFFFF


class HistoryReport(NamedTuple):
    """The records of one process or of several, as plain data."""

    end: float
    """UNIX time in seconds at which the last record ended."""

    records: list[list[int]]
    """The records, the oldest first."""


class History:
    """A ring of records."""

    def __init__(self) -> None:
        self._ring = array("I", bytes(4 * SIZE * RECORDS))
        self._count = 0
        self._end = 0.0
        self._totals = [0] * SIZE

    def record(self, totals: Sequence[int], now: float) -> None:
        """Add a record with the increases since the last one; `now` is the UNIX time.

        `totals` has the counters and the histogram since the start, which never decrease.
        """
        at = self._count % RECORDS * SIZE
        for index, (total, before) in enumerate(zip(totals, self._totals, strict=True)):
            self._ring[at + index] = min(total - before, _LARGEST)
        self._totals[:] = totals
        self._count += 1
        self._end = now

    def since_last(self, totals: Sequence[int]) -> list[int]:
        """Return the increases since the last record."""
        return [total - before for total, before in zip(totals, self._totals, strict=True)]

    def report(self, most: int = RECORDS) -> HistoryReport:
        """Return the last `most` records."""
        count = min(self._count, most, RECORDS)
        records = []
        for number in range(self._count - count, self._count):
            at = number % RECORDS * SIZE
            records.append(self._ring[at : at + SIZE].tolist())
        return HistoryReport(self._end, records)


def merge_histories(reports: list[HistoryReport]) -> HistoryReport:
    """Return the sums of the records of several processes.

    The first report determines the times; the others are shifted by whole intervals to fit.
    """
    first, *others = reports
    sums = [list(record) for record in first.records]
    for other in others:
        shift = round((first.end - other.end) / INTERVAL)
        for age, record in enumerate(reversed(other.records)):
            index = len(sums) - 1 - age - shift
            if 0 <= index < len(sums):
                sums[index] = [one + more for one, more in zip(sums[index], record, strict=True)]
    return HistoryReport(first.end, sums)


def columns(report: HistoryReport) -> dict[str, object]:
    """Return the document of a report: a list for each counter, and the percentiles."""
    found: dict[str, object] = {"interval": INTERVAL, "end": report.end}
    for index, name in enumerate(COUNTERS):
        found[name] = [record[index] for record in report.records]
    latencies = [record[len(COUNTERS) :] for record in report.records]
    found["p50"] = [percentile(counts, 0.5) for counts in latencies]
    found["p99"] = [percentile(counts, 0.99) for counts in latencies]
    return found
