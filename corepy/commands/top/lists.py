"""The tables of the screen: their columns, and the rows from a document."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from corepy.commands.top import numbers_shown as show
from corepy.commands.top.glyphs import safe
from corepy.commands.top.screen_table import Column
from corepy.commands.top.top_figures import caches, plugin_states, upstreams

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from corepy.commands.top.top_figures import CacheFigures, Figures, PluginStatus, Upstream


@dataclass(frozen=True, slots=True)
class ListView:
    """A table that fills a screen."""

    key: str
    """The key that selects it."""
    name: str
    short: str
    """The name on a narrow screen."""
    title: str
    columns: tuple[Column, ...]
    rows: Callable[[Figures], Sequence[Any]]
    note: Callable[[Figures], str] = lambda _: ""
    """Returns a line below the title."""


def _top_note(found: Figures, section: str) -> str:
    top = found.document.get("top") or {}
    asked, sampled = top.get("queries") or 0, top.get("sampled") or 0
    looked = "all counted" if sampled >= asked else f"{show.count(sampled)} sampled"
    bound = (top.get("bounds") or {}).get(section)
    rest = f"; not listed: at most {show.count(bound)}" if bound else ""
    return f"last {top.get('seconds') or 0:.0f} s, {show.count(asked)} queries, {looked}{rest}"


def top_rows(found: Figures, section: str) -> list[dict[str, Any]]:
    """Return the items of a section of the top talkers, largest first."""
    return list((found.document.get("top") or {}).get(section) or ())


def bounds(item: dict[str, Any]) -> str:
    """Return by how much the count of an item may be wrong: below it, and above it."""
    over = (item.get("error") or 0) + (item.get("margin") or 0)
    under = item.get("margin") or 0
    if not over and not under:
        return "exact"
    return f"-{show.count(over)} +{show.count(under)}"


def top_columns(name: str) -> tuple[Column, ...]:
    """Return the columns for items that are called by the key `name`."""
    return (
        Column(name.upper(), lambda it: safe(it[name]), lambda it: it[name], ascends=True),
        Column("QUERIES", lambda it: show.count(it.get("count")), lambda it: it.get("count"), 8),
        Column("ERROR", bounds, lambda it: (it.get("error") or 0) + (it.get("margin") or 0), 13),
        Column(
            "PER S", lambda it: show.rate(it.get("per_second")), lambda it: it.get("per_second"), 7
        ),
    )


def _top_view(key: str, section: str, short: str, title: str, name: str = "name") -> ListView:
    return ListView(
        key,
        section,
        short,
        title,
        top_columns(name),
        lambda found: top_rows(found, section),
        lambda found: _top_note(found, section),
    )


def counted(title: str, key: str, priority: int = 0) -> Column:
    """Return the column of a number that rows have under `key`."""

    def value(row: dict[str, Any]) -> Any:
        return row.get(key)

    width = max(6, len(title))
    return Column(title, lambda it: show.count(value(it)), value, width, priority=priority)


def _state_style(upstream: Upstream) -> str:
    return {"up": "good", "down": "bad"}.get(upstream.state, "warn")


UPSTREAM_COLUMNS: Final = (
    Column("UPSTREAM", lambda it: safe(it.address), lambda it: it.address, ascends=True),
    Column("PROTO", lambda it: safe(it.protocol), lambda it: it.protocol, ascends=True, priority=4),
    Column(
        "STATE", lambda it: safe(it.state), lambda it: it.state, style=_state_style, ascends=True
    ),
    Column("RTT", lambda it: show.seconds(it.rtt), lambda it: it.rtt, 6),
    Column("PER S", lambda it: show.rate(it.queries), lambda it: it.queries, 7),
    Column("FAIL/S", lambda it: show.rate(it.failures), lambda it: it.failures, 6),
    Column("FAILED", lambda it: show.count(it.failed), lambda it: it.failed, 6),
    Column("WAITING", lambda it: show.count(it.in_flight), lambda it: it.in_flight, 7, priority=3),
    Column("BLOCK", lambda it: safe(it.block), lambda it: it.block, ascends=True, priority=5),
)

LISTENER_COLUMNS: Final = (
    Column("LISTENER", lambda it: safe(it["server"]), lambda it: it["server"], ascends=True),
    Column("PROTO", lambda it: safe(it["protocol"]), lambda it: it["protocol"], ascends=True),
    counted("CONNS", "connections"),
    counted("WAITING", "waiting"),
    counted("CACHED", "packet_cache_entries"),
    counted("UNSENT", "unsent", priority=2),
    counted("LOST", "overflows", priority=1),
)


def _fill_of(cache: CacheFigures) -> float | None:
    return cache.entries / cache.capacity if cache.capacity else None


CACHE_COLUMNS: Final = (
    Column("CACHE", lambda it: safe(f"{it.plugin} {' '.join(it.zones)}"), lambda it: it.zones),
    Column("HITS", lambda it: show.percent(it.ratio), lambda it: it.ratio, 6),
    Column("ENTRIES", lambda it: show.count(it.entries), lambda it: it.entries, 7),
    Column("FULL", lambda it: show.percent(_fill_of(it)), _fill_of, 6),
    Column("SIZE", lambda it: show.size(it.bytes), lambda it: it.bytes, 8, priority=1),
    Column("EVICT/S", lambda it: show.rate(it.evictions), lambda it: it.evictions, 7, priority=2),
    Column("BLOCK", lambda it: safe(it.block), lambda it: it.block, ascends=True, priority=3),
)


def _state_of(plugin: PluginStatus) -> str:
    problems = plugin.status.get("problems") or ()
    return safe("; ".join(map(str, problems)) or plugin.status.get("state") or "")


def details(plugin: PluginStatus) -> str:
    """Return what a plugin reports besides the sections that have tables of their own."""
    others = {
        key: value
        for key, value in plugin.status.items()
        if key not in ("cache", "upstreams", "state", "problems")
    }
    return safe(", ".join(f"{key} {_value(value)}" for key, value in others.items()))


def _value(value: object) -> str:
    if isinstance(value, dict):
        return "(" + ", ".join(f"{key} {_value(it)}" for key, it in value.items()) + ")"
    if isinstance(value, list):
        return " ".join(map(_value, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return show.NOTHING if value is None else f"{value:g}" if type(value) is float else str(value)


def _problem_style(plugin: PluginStatus) -> str:
    return "bad" if plugin.status.get("problems") else ""


PLUGIN_COLUMNS: Final = (
    Column("PLUGIN", lambda it: safe(it.plugin), lambda it: it.plugin, 13, ascends=True),
    Column("BLOCK", lambda it: safe(it.block), lambda it: it.block, ascends=True, priority=1),
    Column("STATE", _state_of, _state_of, style=_problem_style, ascends=True),
    Column("DETAILS", details, details, ascends=True, priority=2),
)


def plugin_rows(found: Figures) -> list[PluginStatus]:
    """Return the plugins that report more than caches and upstreams."""
    return [it for it in plugin_states(found.document) if it.status.keys() - {"cache", "upstreams"}]


def listener_rows(found: Figures) -> list[dict[str, Any]]:
    """Return the listeners."""
    return list(found.document.get("listeners") or ())


CLIENTS: Final = _top_view("2", "clients", "clients", "Clients with the most queries", "client")
NAMES: Final = _top_view("3", "names", "names", "Names with the most queries")
UPSTREAMS: Final = ListView(
    "7", "upstreams", "up", "Upstreams", UPSTREAM_COLUMNS, lambda found: list(upstreams(found))
)
CACHES: Final = ListView(
    "8", "caches", "caches", "Caches", CACHE_COLUMNS, lambda found: list(caches(found))
)
LISTENERS: Final = ListView(
    "9", "listeners", "listen", "Listeners", LISTENER_COLUMNS, listener_rows
)
LISTS: Final = (
    CLIENTS,
    NAMES,
    _top_view("4", "suffixes", "suffix", "Suffixes: names with the most queries below them"),
    _top_view("5", "nxdomain", "nx", "Names that do not exist (NXDOMAIN)"),
    _top_view("6", "servfail", "fail", "Names that failed (SERVFAIL)"),
    UPSTREAMS,
    CACHES,
    LISTENERS,
    ListView("0", "plugins", "other", "Other plugins", PLUGIN_COLUMNS, plugin_rows),
)
