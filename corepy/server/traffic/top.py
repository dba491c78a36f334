"""The most frequent clients, names and suffixes of the last minutes, and names by error.

Each of the five tables is a sketch of a window of `WINDOW` seconds. Two windows are kept, the
current one and the one before, so that the tables always cover at least the length of a window.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final, NamedTuple

from corepy.dns.constants import NXDOMAIN, SERVFAIL
from corepy.server.traffic.space_saving import SpaceSaving, Summary, merged, summary

if TYPE_CHECKING:
    from collections.abc import Callable

CAPACITY: Final = 256
"""Counters of a sketch: an item with more than 1/256 of the queries of a window is in it."""

MEMORY: Final = 1_000_000
"""Bytes that all sketches of a process take at most; a test compares it with the real size."""

WINDOW: Final = 60.0
"""Seconds."""

TABLES: Final = ("clients", "names", "suffixes", "nxdomain", "servfail")

MOST_LABELS: Final = 4
"""Labels of a suffix. The name of a Kubernetes service has five, of which the last four are its
namespace and the domain of the cluster."""

LEAST_LABELS: Final = 2


class Window:
    """The sketches of one window."""

    __slots__ = ("clients", "names", "nxdomain", "sampled", "servfail", "suffixes")

    def __init__(self) -> None:
        self.clients = SpaceSaving(CAPACITY)
        self.names = SpaceSaving(CAPACITY)
        self.suffixes = SpaceSaving(CAPACITY)
        self.nxdomain = SpaceSaving(CAPACITY)
        self.servfail = SpaceSaving(CAPACITY)
        self.sampled = 0
        """The number of queries that were counted, each with its weight."""

    def count(self, client: bytes, name: bytes, rcode: int, weight: int) -> None:
        """Count a query from the packed address `client`, for `name` in wire form and lower case.

        `rcode` is that of the reply, negative without one.
        """
        self.sampled += 1
        self.clients.add(client, weight)
        self.names.add(name, weight)
        self.suffixes.add(suffix_of(name), weight)
        if rcode == NXDOMAIN:
            self.nxdomain.add(name, weight)
        elif rcode == SERVFAIL:
            self.servfail.add(name, weight)


class TopReport(NamedTuple):
    """The tables of one process or of several, as plain data."""

    tables: dict[str, Summary]
    seconds: float
    """The length of the time that the tables cover."""

    sampled: int
    """The number of queries that were looked at."""


class TopQueries:
    """The two windows."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        """`clock` returns monotonic seconds."""
        self._clock = clock
        self._before: Window | None = None
        self._before_began = self._began = clock()
        self.window = Window()
        """The current window, which counts."""

    def tick(self) -> None:
        """Begin another window if it is time; to be called every few seconds."""
        now = self._clock()
        if now - self._began >= WINDOW:
            self._before, self._before_began = self.window, self._began
            self.window, self._began = Window(), now

    def report(self, most: int) -> TopReport:
        """Return at most `most` items of each table."""
        windows = [self.window] if self._before is None else [self._before, self.window]
        began = self._began if self._before is None else self._before_began
        tables = {
            name: merged([summary(getattr(it, name), CAPACITY) for it in windows], most)
            for name in TABLES
        }
        sampled = sum(window.sampled for window in windows)
        return TopReport(tables, self._clock() - began, sampled)


def merge_reports(reports: list[TopReport], most: int) -> TopReport:
    """Return the report for several processes together."""
    tables = {name: merged([report.tables[name] for report in reports], most) for name in TABLES}
    seconds = max(report.seconds for report in reports)
    return TopReport(tables, seconds, sum(report.sampled for report in reports))


def suffix_of(name: bytes) -> bytes:
    """Return the suffix of a name in wire form under which it is counted.

    That is its parent, but at least `LEAST_LABELS` and at most `MOST_LABELS` labels, and the name
    itself if it has no more than the former. So names made at random below one zone share a suffix.
    """
    starts = []
    at = 0
    length = name[0]
    while length:
        starts.append(at)
        at += length + 1
        length = name[at]
    labels = len(starts)
    if labels <= LEAST_LABELS:
        return name
    return name[starts[-min(MOST_LABELS, labels - 1)] :]
