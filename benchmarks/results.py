"""The results of a run and their statistics: pure values without server or clock.

Ratios are taken round by round before their median: a slow second of the machine affects both
sides.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.cases import Case


class Spread(NamedTuple):
    """A median with the lowest and the highest of its values."""

    low: float
    median: float
    high: float


@dataclass(frozen=True)
class Round:
    """One server under full load for one round; times in seconds."""

    sent: int
    completed: int
    lost: int
    failed: int
    seconds: float
    cpu_seconds: float
    mean_latency: float

    @property
    def cpu_us(self) -> float:
        """CPU microseconds per answered query."""
        return self.cpu_seconds / self.completed * 1e6 if self.completed else float("nan")

    @property
    def rate(self) -> float:
        """Answers per second."""
        return self.completed / self.seconds


@dataclass(frozen=True)
class Latency:
    """One server at a fixed rate (queries a second); times in seconds."""

    rate: int
    mean: float
    p99: float
    p999: float
    lost: int


@dataclass
class Track:
    """All rounds of one server in one case."""

    rounds: list[Round] = field(default_factory=list)
    latencies: list[Latency] = field(default_factory=list)
    pss_kib: int = 0

    def cpu_us(self) -> Spread:
        """Return the CPU microseconds per query over the rounds."""
        return spread([one.cpu_us for one in self.rounds])

    def rate(self) -> float:
        """Return the median of the answers per second."""
        return median(one.rate for one in self.rounds)

    def mean_latency(self) -> float:
        """Return the median of the rounds' mean latencies under full load, in seconds."""
        return median(one.mean_latency for one in self.rounds)

    def lost_share(self) -> float:
        """Return the share of queries without an answer."""
        return share(self.rounds, "lost")

    def failed_share(self) -> float:
        """Return the share of queries with an answer other than NOERROR."""
        return share(self.rounds, "failed")


@dataclass
class CaseResult:
    """The results of one case: servers by name, remarks on them, and why others are missing."""

    case: Case
    tracks: dict[str, Track] = field(default_factory=dict)
    unfit: dict[str, str] = field(default_factory=dict)
    remarks: dict[str, str] = field(default_factory=dict)

    def ratio(self, subject: str, peer: str) -> Spread | None:
        """Return the CPU per query of `subject` divided by that of `peer`, round by round."""
        if subject not in self.tracks or peer not in self.tracks:
            return None
        pairs = zip(self.tracks[subject].rounds, self.tracks[peer].rounds, strict=True)
        return spread([one.cpu_us / other.cpu_us for one, other in pairs])


@dataclass(frozen=True)
class Footprint:
    """The start time and memory of a server without load.

    `first_answers`: seconds from each start to the first answer. Memory in KiB: `empty_kib` at that
    time, `filled_kib` with many names cached.
    """

    first_answers: Sequence[float]
    empty_kib: int
    filled_kib: int


@dataclass
class Results:
    """The results of a whole run."""

    cases: list[CaseResult] = field(default_factory=list)
    footprints: dict[str, Footprint] = field(default_factory=dict)


def spread(values: Sequence[float]) -> Spread:
    """Return median, lowest and highest; raises `ValueError` without values."""
    if not values:
        raise ValueError("no values")
    return Spread(min(values), median(values), max(values))


def share(rounds: Sequence[Round], what: str) -> float:
    """Return the sum of a count over all rounds, as a share of the queries sent.

    `what` names the attribute of `Round`.
    """
    sent = sum(one.sent for one in rounds)
    return sum(getattr(one, what) for one in rounds) / sent if sent else 0.0


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the nearest-rank percentile of sorted values; raises `ValueError` without values."""
    if not ordered:
        raise ValueError("no values")
    rank = -(-len(ordered) * percent // 100)  # rounded up
    return ordered[max(0, min(len(ordered), int(rank)) - 1)]


def latency(rate: int, seconds: Sequence[float], lost: int) -> Latency:
    """Return the figures of one run at `rate`; raises `ValueError` if no query was answered."""
    ordered = sorted(seconds)
    return Latency(
        rate=rate,
        mean=sum(ordered) / len(ordered) if ordered else float("nan"),
        p99=percentile(ordered, 99),
        p999=percentile(ordered, 99.9),
        lost=lost,
    )
