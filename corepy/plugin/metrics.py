"""Counters, gauges and histograms for plugins: plain numbers in memory, read on a scrape.

There is one registry per process. It outlives reloads, so counters never decrease. Declaring a
metric again with the same name returns the existing one. This module is independent of the export
format; the prometheus plugin iterates over `registered()`. On the query path, keep the child that
`labels` returns: counting then costs only `child.value += 1`.

If a server has several processes, the leader's registry is that of the server: it includes the
counts of the other processes (`corepy.server.workers.metrics_report`).
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

TIME_BUCKETS: Final[tuple[float, ...]] = tuple(0.00025 * 2**n for n in range(16))
"""Seconds from 0.25 ms to 8.192 s, the bounds of CoreDNS's time histograms (plugin/plugin.go)."""

MERGES: Final[dict[str, Callable[[list[float]], float]]] = {"sum": sum, "min": min, "max": max}
"""Functions that combine the values of a gauge in several processes into one."""

_registry: Final[dict[str, Metric[Any]]] = {}
_preparations: Final[list[Callable[[], None]]] = []


class Value:
    """One time series of a counter or gauge.

    A counter can be one of `Reply.hit_counters`, to count the repetitions of a reply.
    """

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, amount: float = 1) -> None:
        """Add `amount`."""
        self.value += amount

    def count_hits(self, times: int) -> None:
        """Add `times`; see `corepy.plugin.HitCounter`."""
        self.value += times

    def set(self, value: float) -> None:
        """Set the value (gauges)."""
        self.value = value


class Distribution:
    """One time series of a histogram.

    `counts` has one entry per upper bound and one for +Inf, and is not cumulative.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count `value`, `times` times."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times


Child = TypeVar("Child", Value, Distribution)


class Metric(Generic[Child]):
    """A named family of time series, one child per combination of label values."""

    def __init__(
        self,
        kind: str,
        name: str,
        help_text: str,
        labels: Sequence[str],
        new: Callable[[], Child],
        bounds: Sequence[float] = (),
        merge: str = "sum",
    ) -> None:
        """Create children with `new`, at zero; `merge` is one of `MERGES`."""
        self.kind = kind
        self.name = name
        self.help = help_text
        self.label_names = tuple(labels)
        self.bounds = bounds
        self.merge = merge
        self.others: dict[object, Mapping[tuple[str, ...], float]] = {}
        """For a gauge: its values in other processes of this server, by process."""
        self.added: dict[tuple[str, ...], float] = {}
        """For a counter: the counts of other processes that the children include."""
        self._new: Callable[[], Child] = new
        self._children: dict[tuple[str, ...], Child] = {}

    def labels(self, *values: str) -> Child:
        """Return the child for these label values, in the order of the label names.

        It is created at zero on first use.
        """
        child = self._children.get(values)
        if child is None:
            if len(values) != len(self.label_names):
                raise ValueError(
                    f"{self.name} takes {len(self.label_names)} label values, not {len(values)}"
                )
            child = self._new()
            self._children[values] = child
        return child

    def own(self, *values: str) -> float:
        """Return the count of this process for these label values (a counter)."""
        child = self._children.get(values)
        if child is None:
            return 0
        assert isinstance(child, Value)
        return child.value - self.added.get(values, 0)

    def remove(self, *values: str) -> None:
        """Remove the child of these label values (a gauge whose subject is gone)."""
        self._children.pop(values, None)

    def children(self) -> list[tuple[tuple[str, ...], Child]]:
        """Return all current (label values, child) pairs, of all processes."""
        for prepare in _preparations:
            prepare()
        return self._merged() if self.others else list(self._children.items())

    def _merged(self) -> list[tuple[tuple[str, ...], Child]]:
        values: dict[tuple[str, ...], list[float]] = {}
        for labels, child in self._children.items():
            assert isinstance(child, Value)
            values[labels] = [child.value]
        for other in self.others.values():
            for labels, value in other.items():
                values.setdefault(labels, []).append(value)
        found: list[tuple[tuple[str, ...], Child]] = []
        for labels, several in values.items():
            child = self._new()
            assert isinstance(child, Value)
            child.value = MERGES[self.merge](several)
            found.append((labels, child))
        return found


def counter(name: str, help_text: str, labels: Sequence[str] = ()) -> Metric[Value]:
    """Declare a counter; `name` must end in _total, by Prometheus's convention."""
    return _declare(Metric("counter", name, help_text, labels, Value))


def gauge(
    name: str, help_text: str, labels: Sequence[str] = (), *, merge: str = "sum"
) -> Metric[Value]:
    """Declare a gauge; `merge` ("sum", "min" or "max") combines the values of several processes."""
    return _declare(Metric("gauge", name, help_text, labels, Value, merge=merge))


def histogram(
    name: str, help_text: str, labels: Sequence[str] = (), *, bounds: Sequence[float]
) -> Metric[Distribution]:
    """Declare a histogram with these upper bounds, ascending, without +Inf."""
    upper = tuple(bounds)
    return _declare(
        Metric("histogram", name, help_text, labels, lambda: Distribution(upper), upper)
    )


def _declare(metric: Metric[Child]) -> Metric[Child]:
    known = _registry.setdefault(metric.name, metric)
    if known.kind != metric.kind or known.label_names != metric.label_names:
        raise ValueError(f"metric {metric.name} is declared twice, with another type or labels")
    return known


def before_reading(prepare: Callable[[], None]) -> Callable[[], None]:
    """Call `prepare` each time before the children of a metric are listed. A decorator.

    For a module that counts in its own way and updates its metrics only on demand.
    """
    _preparations.append(prepare)
    return prepare


def registered() -> Iterator[Metric[Any]]:
    """Yield every metric declared so far."""
    yield from list(_registry.values())
