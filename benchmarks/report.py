"""Formats results as Markdown tables, for the terminal and for `docs/benchmarks.md`.

In the page the tables are written between markers; the rest of it is not touched.
"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from benchmarks.results import CaseResult, Results, Track

COMPILED, PURE = "corepy-compiled", "corepy"
"""The servers of this project; goals are for the compiled form."""

NOTHING = "-"
_MARK = "<!-- {} of {}: written by python -m benchmarks -->"


class MarkerError(Exception):
    """The page lacks a marker between which a table is written."""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table with right-aligned figures."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def tables(results: Results) -> str:
    """Return all tables of a run, each below its heading."""
    parts: list[str] = []
    if results.cases:
        parts += ["### CPU time per query (microseconds)", cpu_table(results.cases)]
        parts += ["### Answers per second", rate_table(results.cases)]
        for subject in (COMPILED, PURE):
            if any(subject in result.tracks for result in results.cases):
                parts += [f"### CPU time per query, that of {subject} divided by the other's"]
                parts += [ratio_table(results.cases, subject)]
        for result in results.cases:
            parts += [f"### {result.case.title.capitalize()}", case_table(result)]
            notes = result.remarks | result.unfit
            parts += [f"{name}: {note}." for name, note in notes.items()]
    if results.footprints:
        parts += ["### Start and memory", footprint_table(results)]
    return "\n\n".join(parts)


def server_names(cases: Iterable[CaseResult]) -> list[str]:
    """Return the names of all servers of these cases, in their order."""
    return list(dict.fromkeys(name for result in cases for name in result.tracks))


def cpu_table(cases: Sequence[CaseResult]) -> str:
    """Return the medians with the lowest and highest round: a row per case, a column per server."""

    def cell(track: Track) -> str:
        low, middle, high = track.cpu_us()
        return f"{middle:.1f} ({low:.1f} to {high:.1f})"

    return _by_server(cases, cell)


def rate_table(cases: Sequence[CaseResult]) -> str:
    """Return the medians of the answers per second in thousands."""
    return _by_server(cases, lambda track: f"{track.rate() / 1000:.1f} k")


def _by_server(cases: Sequence[CaseResult], cell: Callable[[Track], str]) -> str:
    names = server_names(cases)
    rows = [
        [
            result.case.title,
            *(cell(result.tracks[name]) if name in result.tracks else NOTHING for name in names),
        ]
        for result in cases
    ]
    return table(["case", *names], rows)


def ratio_table(cases: Sequence[CaseResult], subject: str) -> str:
    """Return the ratios of `subject` to every other server, each with its goal if it has one.

    The pure form is not compared with the compiled one, which the table of that form has.
    """
    peers = [name for name in server_names(cases) if name not in {subject, COMPILED}]
    rows = [
        [result.case.title, *(_ratio(result, subject, peer) for peer in peers)] for result in cases
    ]
    return table(["case", *peers], rows)


def _ratio(result: CaseResult, subject: str, peer: str) -> str:
    ratio = result.ratio(subject, peer)
    if ratio is None:
        return NOTHING
    text = f"{ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"
    goal = result.case.goals.get(peer)
    if goal is None or subject != COMPILED:
        return text
    return f"{text}, goal {goal:g} {'reached' if ratio.median <= goal else '**missed**'}"


def case_table(result: CaseResult) -> str:
    """Return all measurements of one case."""
    head = ["server", "CPU us", "answers/s", "lost", "failed", "mean at full rate"]
    head += ["at rate", "mean", "p99", "p99.9", "lost", "PSS"]
    rows = [[name, *_track_cells(track)] for name, track in result.tracks.items()]
    return table(head, rows)


def _track_cells(track: Track) -> list[str]:
    cells = [
        f"{track.cpu_us().median:.1f}",
        f"{track.rate():,.0f}",
        f"{track.lost_share():.3%}",
        f"{track.failed_share():.3%}",
        _time(track.mean_latency()),
    ]
    if track.latencies:
        cells += [
            f"{track.latencies[0].rate:,}",
            _time(median(one.mean for one in track.latencies)),
            _time(median(one.p99 for one in track.latencies)),
            _time(median(one.p999 for one in track.latencies)),
            str(sum(one.lost for one in track.latencies)),
        ]
    else:
        cells += [NOTHING] * 5
    return [*cells, _memory(track.pss_kib)]


def footprint_table(results: Results) -> str:
    """Return the start times and the memory of the servers."""
    rows = [
        [
            name,
            _time(median(one.first_answers)),
            _memory(one.empty_kib),
            _memory(one.filled_kib),
        ]
        for name, one in results.footprints.items()
    ]
    return table(["server", "first answer after", "PSS, empty", "PSS, 10,000 names"], rows)


def _time(seconds: float) -> str:
    micro = seconds * 1e6
    return f"{micro:.0f} us" if micro < 1000 else f"{micro / 1000:.1f} ms"


def _memory(kib: int) -> str:
    return f"{kib / 1024:.1f} MiB"


def write_page(page: Path, parts: Mapping[str, str]) -> None:
    """Put each of `parts` between its markers in the file `page`; raises `MarkerError`."""
    text = page.read_text()
    for name, content in parts.items():
        text = between_markers(text, name, content)
    page.write_text(text)


def between_markers(text: str, name: str, content: str) -> str:
    """Return `text` with new `content` between the markers of `name`; raises `MarkerError`."""
    begin, end = _MARK.format("begin", name), _MARK.format("end", name)
    before, found_begin, rest = text.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found_begin or not found_end:
        raise MarkerError(f"the page has no {begin} ... {end}")
    return f"{before}{begin}\n\n{content}\n\n{end}{after}"
