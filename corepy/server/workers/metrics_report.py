"""Transfers the metrics of one process of a server to the leader, which adds them to its own.

Counters and histograms are sent as increments since the last report, so they never decrease when a
process ends and its successor starts at zero. Gauges are sent as values and are removed with their
process; each gauge defines how its values are combined.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from corepy.plugin import metrics
from corepy.plugin.metrics import Distribution

if TYPE_CHECKING:
    from collections.abc import Sequence

    Labels = tuple[str, ...]


class Family(NamedTuple):
    """A metric with its reported time series: a number each, or counts and a total."""

    kind: str
    name: str
    help: str
    label_names: tuple[str, ...]
    bounds: tuple[float, ...]
    merge: str
    series: dict[Labels, Any]


class Reporter:
    """Reports the changes of this process's metrics since the previous report."""

    def __init__(self) -> None:
        self._reported: dict[str, dict[Labels, Any]] = {}

    def report(self) -> list[Family]:
        """Return the metrics of this process that have changed, and all gauges."""
        families = []
        for metric in metrics.registered():
            series = self._changes(metric)
            if series or metric.kind == "gauge":
                bounds = tuple(metric.bounds)
                families.append(
                    Family(
                        metric.kind,
                        metric.name,
                        metric.help,
                        metric.label_names,
                        bounds,
                        metric.merge,
                        series,
                    )
                )
        return families

    def _changes(self, metric: metrics.Metric[Any]) -> dict[Labels, Any]:
        if metric.kind == "gauge":
            return {labels: child.value for labels, child in metric.children()}
        reported = self._reported.setdefault(metric.name, {})
        changes: dict[Labels, Any] = {}
        for labels, child in metric.children():
            if type(child) is Distribution:
                before = reported.get(labels) or ([0] * len(child.counts), 0.0)
                if before[0] != child.counts:
                    changes[labels] = _difference(child.counts, before[0]), child.total - before[1]
                    reported[labels] = list(child.counts), child.total
            elif labels not in reported or reported[labels] != child.value:
                changes[labels] = child.value - reported.get(labels, 0)
                reported[labels] = child.value
        return changes


def _difference(now: Sequence[int], before: Sequence[int]) -> list[int]:
    return [new - old for new, old in zip(now, before, strict=True)]


def add(source: object, report: Sequence[Family]) -> None:
    """Add the `report` of another process, `source`, to the metrics of this one."""
    for family in report:
        metric = _declared(family)
        if family.kind == "gauge":
            metric.others[source] = family.series
            continue
        for labels, change in family.series.items():
            child = metric.labels(*labels)
            if type(child) is Distribution:
                counts, total = change
                child.counts = [old + new for old, new in zip(child.counts, counts, strict=True)]
                child.total += total
            else:
                child.value += change
                metric.added[labels] = metric.added.get(labels, 0) + change


def _declared(family: Family) -> metrics.Metric[Any]:
    """Return the metric, declaring it if only the other process has imported its module so far."""
    if family.kind == "histogram":
        return metrics.histogram(family.name, family.help, family.label_names, bounds=family.bounds)
    if family.kind == "counter":
        return metrics.counter(family.name, family.help, family.label_names)
    return metrics.gauge(family.name, family.help, family.label_names, merge=family.merge)


def forget(source: object) -> None:
    """Remove the gauges of a process that is gone."""
    for metric in metrics.registered():
        metric.others.pop(source, None)
