"""Format the document of the command `status` as text, one screen for a server."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from corepy.commands.figures_text import (
    number,
    pairs,
    plural,
    printable,
    seconds,
    share,
    size,
    span,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_WIDTH: Final = 15
_DIGITS: Final = 16
"""Digits of the hash that are shown; -json has all."""


def render(status: dict[str, Any]) -> str:
    """Return the text, which ends with a newline."""
    rows = [
        *_server(status),
        *_configuration(status),
        *_traffic(status),
        *_listeners(status),
        *_blocks(status),
        *_plugins(status),
        *_processes(status),
        *(("problem", printable(problem)) for problem in status["problems"]),
    ]
    lines = []
    before = None
    for title, text in rows:
        lines.append(f"{'' if title == before else title:<{_WIDTH}}{text}".rstrip())
        before = title
    return "".join(f"{line}\n" for line in lines)


def _server(status: dict[str, Any]) -> Iterator[tuple[str, str]]:
    server = status["server"]
    build = f"{server['form']}, commit {server['commit'][:12]}, Python {server['python']}"
    yield "server", f"corepy {server['version']} ({printable(build)})"
    waits_for = ", ".join(status["not_ready"]) or "it has no configuration"
    ready = "ready" if status["ready"] else f"not ready: {waits_for}"
    yield "", f"process {server['pid']}, up {span(server['uptime'])}, {printable(ready)}"


def _configuration(status: dict[str, Any]) -> Iterator[tuple[str, str]]:
    found = status["configuration"]
    if found["loaded"] is None:  # the server starts or stops
        yield "configuration", "none"
        return
    yield "configuration", printable(found["file"])
    digest = (found["sha256"] or "-")[:_DIGITS]
    changed = ", changed on disk since" if found["changed"] else ""
    yield "", f"SHA-256 {digest}, loaded {_when(found['loaded'])}{changed}"
    if found["warnings"]:
        yield "", plural(len(found["warnings"]), "warning")
    last = status["reload"]
    if last is None:
        yield "last reload", "none"
        return
    outcome = "succeeded" if last["error"] is None else "failed"
    counts = f"{plural(last['count'], 'reload')}, {number(last['failed'])} failed"
    yield "last reload", f"{_when(last['time'])}, {printable(last['reason'])}: {outcome} ({counts})"
    for line in (last["error"] or "").splitlines():
        yield "", printable(line)


def _when(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))


def _traffic(status: dict[str, Any]) -> Iterator[tuple[str, str]]:
    totals, recent = status["totals"], status["recent"]
    rate = recent["queries_per_second"]
    latency = f"p50 {seconds(recent['p50'])}, p99 {seconds(recent['p99'])}"
    yield "queries", f"{number(totals['queries'])}, now {rate:,.1f}/s, {latency}"
    packet_cache = share(totals["packet_cache_hits"], totals["queries"])
    waited = share(totals["waited"], totals["queries"])
    yield "", f"packet cache {packet_cache}, waited {waited}"
    rcodes = sorted(totals["rcodes"].items(), key=lambda it: -it[1])
    if rcodes:
        yield "", ", ".join(f"{name} {number(count)}" for name, count in rcodes[:6])


def _listeners(status: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for listener in status["listeners"]:
        connections = listener.get("connections")
        parts = [] if connections is None else [plural(connections, "connection")]
        parts.append(f"{number(listener['waiting'])} waiting")
        lost = {key: listener.get(key) for key in ("queued", "unsent", "overflows")}
        parts += [f"{number(count)} {key}" for key, count in lost.items() if count]
        where = f"{listener['server']} {listener['protocol']}"
        yield "listening", f"{printable(where)}: {', '.join(parts)}"


def _blocks(status: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for block in status["blocks"]:
        view = f", view {block['view']}" if block["view"] else ""
        yield "block", printable(f"{' '.join(block['zones'])} ({block['place']}{view})")
        yield "", printable(" > ".join(block["chain"]) or "no handlers")
        packet_cache = block["packet_cache"]
        state = "on" if packet_cache["on"] else f"off ({packet_cache['reason']})"
        yield "", f"packet cache {printable(state)}"
    packets = status["packet_cache"]
    entries = "entry" if packets["entries"] == 1 else "entries"
    used = f"{size(packets['bytes'])} of {size(packets['limit'])}"
    yield "packet cache", f"{number(packets['entries'])} {entries}, {used}"


def _plugins(status: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for plugin in status["plugins"]:
        zones = printable(" ".join(plugin["zones"]))
        for line in plugin_lines(plugin["status"]):
            yield printable(plugin["plugin"]), f"{zones}: {line}" if zones else line


def plugin_lines(status: dict[str, Any]) -> Iterator[str]:
    """Yield lines about a plugin, of any kind."""
    cache, upstreams = status.get("cache"), status.get("upstreams")
    if isinstance(cache, dict):
        yield _cache_line(cache)
    for upstream in upstreams if isinstance(upstreams, list) else ():
        yield _upstream_line(upstream)
    named = ("cache", "upstreams", "state", "problems")
    rest = pairs({key: value for key, value in status.items() if key not in named})
    words = [it for it in (printable(status.get("state") or ""), rest) if it]
    if words and not upstreams:
        yield ", ".join(words)


def _cache_line(cache: dict[str, Any]) -> str:
    hits, misses = cache.get("hits", 0), cache.get("misses", 0)
    return (
        f"{number(cache.get('entries', 0))} of {number(cache.get('capacity', 0))} entries,"
        f" {size(cache.get('bytes', 0))}, hits {share(hits, hits + misses)},"
        f" {number(cache.get('evictions', 0))} evicted"
    )


def _upstream_line(upstream: dict[str, Any]) -> str:
    failures = f"{number(upstream.get('failures') or 0)} failed"
    last = upstream.get("last_failure")
    return (
        f"{printable(upstream.get('address', '-'))} {printable(upstream.get('protocol', ''))}"
        f" {printable(upstream.get('state', '-'))}, RTT {seconds(upstream.get('rtt'))},"
        f" {number(upstream.get('queries') or 0)} queries, {failures}"
        + (f" (last: {printable(last)})" if last else "")
    )


def _processes(status: dict[str, Any]) -> Iterator[tuple[str, str]]:
    memory = status["memory"]
    limit = "" if memory["limit"] is None else f" of {size(memory['limit'])}"
    yield "memory", f"{size(memory['bytes'])}{limit}"
    processes = status["processes"]
    for process in processes if len(processes) > 1 else ():
        role = ", leads" if process["leader"] else ""
        yield (
            "process",
            f"{process['pid']}{role}: {number(process['queries'])} queries,"
            f" {process['cpu_seconds']:.1f} s CPU, {size(process['memory_bytes'])}",
        )
