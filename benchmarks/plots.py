"""Draws results as plots (SVG; the output is reproducible)."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.report import server_names

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from benchmarks.results import CaseResult, Results, Track

WIDTH = 0.8  # share of the space of a group that its bars take
COLOURS = {
    "corepy": "#d62728",
    "corepy-compiled": "#ff9896",
    "unbound": "#1f77b4",
    "dnsmasq": "#2ca02c",
    "dnsdist": "#9467bd",
    "knot": "#8c564b",
    "nsd": "#e377c2",
    "coredns": "#7f7f7f",
    "node-cache": "#c7c7c7",
}


def draw(results: Results, folder: Path) -> dict[str, str]:
    """Write the plots that the results allow; return their file names and titles."""
    mpl.rcParams["svg.hashsalt"] = "corepy"
    drawn = {}
    if results.cases:
        title = "CPU time per query (microseconds, less is better)"
        drawn["bench-cpu.svg"] = title
        _save(_by_case(results.cases, title, lambda track: track.cpu_us().median), folder, "cpu")
        title = "Answers per second (thousands, more is better)"
        drawn["bench-rate.svg"] = title
        _save(_by_case(results.cases, title, lambda track: track.rate() / 1000), folder, "rate")
    if any(track.latencies for result in results.cases for track in result.tracks.values()):
        title = "p99.9 latency at half rate (milliseconds, logarithmic, less is better)"
        drawn["bench-latency.svg"] = title
        _save(_by_case(results.cases, title, _p999, log=True), folder, "latency")
    if results.footprints:
        title = "Memory (PSS, MiB, less is better)"
        drawn["bench-memory.svg"] = title
        _save(_memory(results, title), folder, "memory")
    return drawn


def _p999(track: Track) -> float:
    return median(one.p999 for one in track.latencies) * 1000 if track.latencies else 0.0


def _by_case(
    cases: Sequence[CaseResult], title: str, value: Callable[[Track], float], *, log: bool = False
) -> Figure:
    names = server_names(cases)
    series = {
        name: [value(one.tracks[name]) if name in one.tracks else 0.0 for one in cases]
        for name in names
    }
    colours = {name: COLOURS.get(name, "#333333") for name in names}
    return _bars([one.case.title for one in cases], series, colours, title, log=log)


def _memory(results: Results, title: str) -> Figure:
    footprints = results.footprints.values()
    series = {
        "just started": [one.empty_kib / 1024 for one in footprints],
        "10,000 names cached": [one.filled_kib / 1024 for one in footprints],
    }
    colours = {"just started": "#aec7e8", "10,000 names cached": "#1f77b4"}
    return _bars(list(results.footprints), series, colours, title)


def _bars(
    groups: Sequence[str],
    series: Mapping[str, Sequence[float]],
    colours: Mapping[str, str],
    title: str,
    *,
    log: bool = False,
) -> Figure:
    """Return horizontal bars: one group per case, from the top, one bar per series."""
    figure = Figure(
        figsize=(8, 1.2 + 0.14 * len(groups) * (len(series) + 1.5)), layout="constrained"
    )
    axes = figure.subplots()
    height = WIDTH / len(series)
    for index, (name, values) in enumerate(series.items()):
        places = [place - WIDTH / 2 + (index + 0.5) * height for place in range(len(groups))]
        axes.barh(places, values, height, label=name, color=colours[name])
    axes.set_yticks(range(len(groups)), groups)
    axes.invert_yaxis()
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", alpha=0.3)
    if log:
        axes.set_xscale("log")
    axes.legend(fontsize=8, frameon=False)
    return figure


def _save(figure: Figure, folder: Path, name: str) -> None:
    figure.savefig(folder / f"bench-{name}.svg", metadata={"Date": None})
