"""The figures on the screen, computed from one or two documents of the command "stats"."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from corepy.server.traffic.latency import percentile

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Document = dict[str, Any]

SHORTEST = 0.2
"""Seconds between two documents below which their difference is not meaningful."""


@dataclass(slots=True)
class Figures:
    """What happened between two documents or, with only one, in its last seconds."""

    document: Document
    before: Document | None = None
    """The document before, of the same processes."""
    seconds: float = 0.0
    queries: float | None = None
    """A second, as all of these."""
    unanswered: float | None = None
    rcodes: dict[str, float] = field(default_factory=dict)
    packet_cache_ratio: float | None = None
    waited_ratio: float | None = None
    p50: float | None = None
    p99: float | None = None
    cpu: float | None = None
    """Processors in use; 1.0 is one of them."""

    def rate(self, now: float | None, before: float | None) -> float | None:
        """Return how often a counter was increased a second; None if it cannot be computed."""
        if self.before is None or now is None or before is None or now < before:
            return None
        return (now - before) / self.seconds


def figures(document: Document, before: Document | None) -> Figures:
    """Return the figures of the time between the documents, or the recent ones of `document`."""
    if before is None or not _continues(document, before):
        return _recent(document)
    seconds = document["time"] - before["time"]
    found = Figures(document, before, seconds)
    now, then = document["totals"], before["totals"]
    made = {key: now[key] - then[key] for key in now if isinstance(now[key], int | float)}
    asked = made["queries"]
    found.queries = asked / seconds
    found.unanswered = made["unanswered"] / seconds
    found.packet_cache_ratio = share(made["packet_cache_hits"], asked)
    found.waited_ratio = share(made["waited"], asked)
    found.rcodes = {
        name: (number - then["rcodes"].get(name, 0)) / seconds
        for name, number in now["rcodes"].items()
    }
    counts = [a - b for a, b in zip(now["latency"], then["latency"], strict=True)]
    found.p50, found.p99 = percentile(counts, 0.5), percentile(counts, 0.99)
    found.cpu = _cpu(document, before, seconds)
    return found


def _continues(document: Document, before: Document) -> bool:
    """Return whether the same processes have counted on since the document `before`."""
    seconds = document["time"] - before["time"]
    now, then = document["totals"], before["totals"]
    return (
        seconds >= SHORTEST
        and document["server"]["pid"] == before["server"]["pid"]
        and all(now[key] >= then[key] for key in ("queries", "packet_cache_hits", "waited"))
        and all(now["rcodes"].get(it, 0) >= number for it, number in then["rcodes"].items())
        and len(now["latency"]) == len(then["latency"])
        and all(a >= b for a, b in zip(now["latency"], then["latency"], strict=True))
    )


def _recent(document: Document) -> Figures:
    recent = document.get("recent") or {}
    return Figures(
        document,
        None,
        recent.get("seconds", 0.0),
        recent.get("queries_per_second"),
        recent.get("unanswered_per_second"),
        {
            name: recent.get(f"{name.lower()}_per_second") or 0.0
            for name in ("NXDOMAIN", "SERVFAIL")
        },
        recent.get("packet_cache_ratio"),
        recent.get("waited_ratio"),
        recent.get("p50"),
        recent.get("p99"),
    )


def _cpu(document: Document, before: Document, seconds: float) -> float | None:
    then = {it["pid"]: it.get("cpu_seconds") for it in before["processes"]}
    used = [
        it["cpu_seconds"] - then[it["pid"]]
        for it in document["processes"]
        if it.get("cpu_seconds") is not None and then.get(it["pid"]) is not None
    ]
    return sum(used) / seconds if used else None


def share(part: float, whole: float) -> float | None:
    """Return `part` of `whole`, None of nothing."""
    return part / whole if whole else None


@dataclass(frozen=True, slots=True)
class PluginStatus:
    """The state of one plugin in one server block."""

    plugin: str
    block: str
    zones: tuple[str, ...]
    status: Mapping[str, Any]

    @property
    def key(self) -> tuple[str, str, tuple[str, ...]]:
        """The identity, the same in later documents."""
        return self.plugin, self.block, self.zones


def plugin_states(document: Document | None) -> list[PluginStatus]:
    """Return the plugins that have a state, in the order of the document."""
    rows = (document or {}).get("plugins") or []
    return [
        PluginStatus(
            it["plugin"],
            it.get("block") or "",
            tuple(it.get("zones") or ()),
            _well_formed(it["status"]),
        )
        for it in rows
    ]


def _well_formed(status: Any) -> dict[str, Any]:
    """Return the state of a plugin, maybe of a third party, with its known parts as expected."""
    if not isinstance(status, dict):
        return {"state": str(status)}
    made = dict(status)
    if "upstreams" in made:
        made["upstreams"] = [it for it in _list(made["upstreams"]) if _has_address(it)]
    if "problems" in made:
        made["problems"] = _list(made["problems"])
    if not isinstance(made.get("cache"), dict):
        made.pop("cache", None)
    return made


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _has_address(upstream: Any) -> bool:
    return isinstance(upstream, dict) and isinstance(upstream.get("address"), str)


def _number(value: Any) -> Any:
    """Return a number, None for other values."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


@dataclass(frozen=True, slots=True)
class Upstream:
    """One upstream of one plugin, with the rates of its counters."""

    plugin: str
    block: str
    address: str
    protocol: str
    state: str
    rtt: float | None
    queries: float | None
    """A second."""
    failures: float | None
    """A second."""
    failed: int
    """Since the start."""
    in_flight: int | None


def upstreams(found: Figures) -> Iterator[Upstream]:
    """Yield the upstreams of all plugins."""
    then = {
        (*it.key, up["address"], up.get("protocol")): up
        for it in plugin_states(found.before)
        for up in it.status.get("upstreams", ())
    }
    for plugin in plugin_states(found.document):
        for up in plugin.status.get("upstreams", ()):
            before = then.get((*plugin.key, up["address"], up.get("protocol")), {})
            yield Upstream(
                plugin.plugin,
                plugin.block,
                up["address"],
                str(up.get("protocol") or ""),
                str(up.get("state") or ""),
                _number(up.get("rtt")),
                found.rate(_number(up.get("queries")), _number(before.get("queries"))),
                found.rate(_number(up.get("failures")), _number(before.get("failures"))),
                _number(up.get("failures")) or 0,
                _number(up.get("in_flight")),
            )


@dataclass(frozen=True, slots=True)
class CacheFigures:
    """One cache of one plugin."""

    plugin: str
    block: str
    zones: tuple[str, ...]
    entries: int
    capacity: int | None
    bytes: int | None
    hits: int
    """Between the documents; since the start if there is only one, or no query between them."""
    asked: int
    """Queries, as for `hits`."""
    evictions: float | None
    """A second."""

    @property
    def ratio(self) -> float | None:
        """Hits of all queries."""
        return share(self.hits, self.asked)


def caches(found: Figures) -> Iterator[CacheFigures]:
    """Yield the caches of all plugins."""
    then = {it.key: it.status.get("cache") or {} for it in plugin_states(found.before)}
    for plugin in plugin_states(found.document):
        if "cache" not in plugin.status:
            continue
        cache = {key: _number(value) for key, value in plugin.status["cache"].items()}
        before = {key: _number(value) for key, value in then.get(plugin.key, {}).items()}
        yield CacheFigures(
            plugin.plugin,
            plugin.block,
            plugin.zones,
            cache.get("entries") or 0,
            cache.get("capacity"),
            cache.get("bytes"),
            *_hits(cache, before),
            found.rate(cache.get("evictions"), before.get("evictions")),
        )


def _hits(cache: Mapping[str, Any], before: Mapping[str, Any]) -> tuple[int, int]:
    hits, misses = cache.get("hits") or 0, cache.get("misses") or 0
    new_hits = hits - (before.get("hits") or 0)
    new_misses = misses - (before.get("misses") or 0)
    if new_hits < 0 or new_misses < 0 or not new_hits + new_misses:
        return hits, hits + misses
    return new_hits, new_hits + new_misses
