"""The first screen: the figures of the whole server, and the first rows of the lists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from corepy.commands.top import numbers_shown as show
from corepy.commands.top.glyphs import safe
from corepy.commands.top.lists import (
    CACHE_COLUMNS,
    LISTENER_COLUMNS,
    UPSTREAM_COLUMNS,
    details,
    listener_rows,
    top_columns,
    top_rows,
)
from corepy.commands.top.screen_table import sort_rows, table
from corepy.commands.top.top_figures import caches, plugin_states, share, upstreams

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corepy.commands.top.glyphs import Glyphs
    from corepy.commands.top.screen_table import Line
    from corepy.commands.top.top_figures import Figures, PluginStatus

GRAPHS: Final = (("queries/s", "queries"), ("p99", "p99"))
"""The graphs: the title, and the list of the history."""

LABEL: Final = 11
ORDER: Final = {"down": 0, "suspect": 1}
"""Upstreams with problems come first."""


def header(found: Figures) -> Line:
    """Return the line about the process."""
    server, memory = found.document["server"], found.document.get("memory") or {}
    limit = f"/{show.size(memory['limit'])}" if memory.get("limit") else ""
    count = len(found.document.get("processes") or ())
    parts = [
        f"pid {server['pid']}" + (f" and {count - 1} more" if count > 1 else ""),
        f"up {show.age(server.get('uptime'))}",
        f"mem {show.size(memory.get('bytes'))}{limit}",
    ]
    if found.cpu is not None:
        parts.append(f"cpu {found.cpu * 100:.0f}%")
    parts.append(safe(server.get("name") or ""))
    return [("head", f"corepy {safe(server.get('version') or '')}"), ("", "  " + "  ".join(parts))]


def summary(found: Figures) -> list[Line]:
    """Return the lines about queries, latency and rcodes."""
    return [
        [
            *_label("queries"),
            ("head", f"{show.rate(found.queries)}/s"),
            ("", f"  packet cache {show.percent(found.packet_cache_ratio)}"),
            ("", f"  cache {show.percent(cache_ratio(found))}"),
            ("", f"  waited {show.percent(found.waited_ratio)}"),
        ],
        [
            *_label("latency"),
            ("", f"p50 {show.seconds(found.p50)}  p99 {show.seconds(found.p99)}  "),
            *_rcodes(found),
        ],
    ]


def cache_ratio(found: Figures) -> float | None:
    """Return the hit ratio of all caches of plugins together."""
    known = list(caches(found))
    return share(sum(it.hits for it in known), sum(it.asked for it in known))


def _rcodes(found: Figures) -> Line:
    parts: Line = []
    for name, number in sorted(found.rcodes.items(), key=lambda it: -it[1]):
        if number > 0:
            style = "bad" if name in ("SERVFAIL", "REFUSED") else ""
            parts.append((style, f"  {safe(name)} {show.rate(number)}/s"))
    if found.unanswered:
        parts.append(("bad", f"  no reply {show.rate(found.unanswered)}/s"))
    return parts


def _label(text: str) -> Line:
    return [("dim", f"{text:<{LABEL}}")]


def graphs(found: Figures, glyphs: Glyphs, width: int) -> list[Line]:
    """Return a graph of the queries and one of the latency, a column for each step of history."""
    history = found.document.get("history") or {}
    step = history.get("interval") or 10
    lines: list[Line] = []
    for title, key in GRAPHS:
        values = list(history.get(key) or ())
        if key == "queries":
            values = [None if it is None else it / step for it in values]
        room = min(360, width - LABEL - 12)
        most = max([it for it in values[-room:] if it is not None], default=None)
        shown = show.rate(most) if key == "queries" else show.seconds(most)
        graph = glyphs.graph(values, room)
        lines.append([*_label(title), ("graph", graph), ("dim", f" max {shown}")])
    return lines


def states(found: Figures) -> list[Line]:
    """Return a line for each plugin that reports a state or has problems, such as of the node."""
    shown = plugin_states(found.document)
    return [_state(it) for it in shown if it.status.get("state") or it.status.get("problems")]


def _state(plugin: PluginStatus) -> Line:
    problems = [safe(it) for it in plugin.status.get("problems") or ()]
    state = safe(plugin.status.get("state") or "")
    line = _label(safe(plugin.plugin))
    line.append(("bad" if problems else "good", "; ".join(problems) or state))
    line.append(("dim", f"  {details(plugin)}"))
    return line


def sections(found: Figures, width: int, rows: int) -> list[Line]:
    """Return tables for `rows` rows of the screen: upstreams, listeners, caches, top talkers."""
    ups = sorted(upstreams(found), key=lambda it: (ORDER.get(it.state, 2), -(it.queries or 0.0)))
    kinds: list[tuple[Any, Sequence[Any]]] = [
        (UPSTREAM_COLUMNS, ups),
        (CACHE_COLUMNS, sort_rows(list(caches(found)), CACHE_COLUMNS[2])),
        (LISTENER_COLUMNS, listener_rows(found)),
    ]
    kinds = [it for it in kinds if it[1]]
    talkers = max(rows // 3, 4)
    counts = shares_of([len(it[1]) for it in kinds], rows - talkers - 2 * len(kinds))
    lines: list[Line] = []
    for (columns, items), number in zip(kinds, counts, strict=True):
        lines += [[], *table(columns, items[:number], width)] if number else []
    left = rows - len(lines) - 2
    return lines + ([[], *_talkers(found, width, left)] if left > 0 else [])


def shares_of(wanted: Sequence[int], rows: int) -> list[int]:
    """Return how many rows each table gets: one in turn, until all have enough or none is left."""
    given = [0] * len(wanted)
    while rows > 0 and any(given[it] < wanted[it] for it in range(len(wanted))):
        for place, most in enumerate(wanted):
            if rows > 0 and given[place] < most:
                given[place] += 1
                rows -= 1
    return given


def _talkers(found: Figures, width: int, rows: int) -> list[Line]:
    """Return clients and names with the most queries, side by side."""
    left = min(40, width // 2 - 1)
    parts = [
        _talker_lines(found, "clients", "client", left, rows),
        _talker_lines(found, "names", "name", width - left - 2, rows),
    ]
    height = max(len(part) for part in parts)
    empty: Line = [("", " " * left)]
    clients = parts[0] + [empty] * (height - len(parts[0]))
    names = parts[1] + [[]] * (height - len(parts[1]))
    return [[*a, ("", "  "), *b] for a, b in zip(clients, names, strict=True)]


def _talker_lines(found: Figures, section: str, key: str, width: int, rows: int) -> list[Line]:
    columns = top_columns(key)
    chosen = (columns[0], columns[3]) if width < 50 else (columns[0], columns[1], columns[3])
    lines = table(chosen, top_rows(found, section)[:rows], width)
    return [_padded(line, width) for line in lines]


def _padded(line: Line, width: int) -> Line:
    missing = width - sum(len(text) for _, text in line)
    if missing <= 0:
        return line
    (style, first), *rest = line
    return [(style, first + " " * missing), *rest]
