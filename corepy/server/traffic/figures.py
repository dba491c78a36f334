"""The document of the command `stats`: the figures of all processes of a server.

Each process reports its own (`local_report`), and the leader merges the reports (`document`).
"""

from __future__ import annotations

import ipaddress
import os
import time
from functools import cache
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from corepy.dns.constants import rcode_name
from corepy.dns.names import to_text
from corepy.plugin import CommandError
from corepy.plugin.memory_limit import cgroup_limit, read_text
from corepy.release import form, version
from corepy.server.traffic import plugin_status
from corepy.server.traffic.history import (
    COUNTERS,
    INTERVAL,
    RECORDS,
    HistoryReport,
    columns,
    merge_histories,
)
from corepy.server.traffic.latency import BOUNDS, percentile
from corepy.server.traffic.top import CAPACITY, TABLES, TopReport, merge_reports
from corepy.server.traffic.traffic import EXTENDED, add_up

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corepy.server.server import Server
    from corepy.server.traffic.space_saving import Summary

MOST: Final = 100
"""Items of a table in a document."""

USUAL: Final = 20
_STATM: Final = Path("/proc/self/statm")


class Asked(NamedTuple):
    """The argument of the command."""

    top: int
    history: bool

    @classmethod
    def of(cls, argument: Any) -> Asked:
        """Return the argument of a command; raises `CommandError`."""
        if argument is None:
            argument = {}
        if not isinstance(argument, dict) or not argument.keys() <= {"top", "history"}:
            raise CommandError('stats takes {"top": NUMBER, "history": BOOLEAN}')
        top, history = argument.get("top", USUAL), argument.get("history", False)
        if type(top) is not int or not 0 <= top <= MOST:
            raise CommandError(f"top of stats must be a number from 0 to {MOST}")
        if type(history) is not bool:
            raise CommandError("history of stats must be true or false")
        return cls(top, history)


class Report(NamedTuple):
    """The figures of one process, as plain data."""

    pid: int
    replies: list[int]
    hits: int
    unanswered: int
    waited: int
    waiting: int
    latency: list[int]
    since_record: list[int]
    history: HistoryReport
    top: TopReport
    listeners: list[dict[str, Any]]
    plugins: list[dict[str, Any]]
    cpu_seconds: float
    memory: int


def local_report(server: Server, asked: Asked) -> Report:
    """Return the figures of this process."""
    traffic = server.traffic
    server.report_hits()
    totals = traffic.totals()
    cpu = os.times()
    endpoints = list(server.every_endpoint())
    return Report(
        os.getpid(),
        traffic.replies(),
        traffic.hits,
        traffic.unanswered,
        traffic.waited,
        sum(len(endpoint.waiting()) for endpoint in endpoints),
        list(traffic.latency),
        traffic.history.since_last(totals),
        traffic.history.report(RECORDS if asked.history else 1),
        traffic.top.report(CAPACITY),
        [status for endpoint in endpoints for status in endpoint.status()],
        [] if server.generation is None else plugin_status.collect(server.generation),
        cpu.user + cpu.system,
        resident(),
    )


def resident() -> int:
    """Return the resident memory of this process in bytes; 0 if the system does not show it."""
    fields = read_text(_STATM).split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") if len(fields) > 1 else 0


def document(server: Server, reports: Sequence[Report], asked: Asked) -> dict[str, Any]:
    """Return the document; the first report is that of the leader."""
    now = time.time()  # time of day: for the reader
    found: dict[str, Any] = {
        "time": now,
        "server": identity(server, now),
        "processes": processes(reports),
        "memory": memory(reports),
        "totals": totals(reports),
        "latency_bounds": list(BOUNDS),
        "recent": recent(server, reports, now),
        "top": _top(merge_reports([report.top for report in reports], asked.top)),
        "listeners": listeners(reports),
        "plugins": plugin_status.merge([report.plugins for report in reports]),
    }
    if asked.history:
        found["history"] = columns(merge_histories([report.history for report in reports]))
    return found


@cache
def _build() -> tuple[str, str]:
    """Return the version and the form, which are in files."""
    return version(), form()


def identity(server: Server, now: float) -> dict[str, Any]:
    """Return the process and the version of a server."""
    built = _build()
    return {
        "pid": os.getpid(),
        "started": server.started,
        "uptime": max(0.0, now - server.started),
        "version": built[0],
        "form": built[1],
        "name": server.configuration_name,
    }


def processes(reports: Sequence[Report]) -> list[dict[str, Any]]:
    """Return an object for each process, the leader first."""
    return [
        {
            "pid": report.pid,
            "leader": index == 0,
            "queries": sum(report.replies) + report.unanswered,
            "packet_cache_hits": report.hits,
            "waiting": report.waiting,
            "cpu_seconds": report.cpu_seconds,
            "memory_bytes": report.memory,
        }
        for index, report in enumerate(reports)
    ]


def memory(reports: Sequence[Report]) -> dict[str, int | None]:
    """Return the memory of all processes and the limit of their control group, in bytes."""
    return {"bytes": sum(report.memory for report in reports), "limit": cgroup_limit()}


def rcodes(counts: Sequence[int]) -> dict[str, int]:
    """Return the numbers of replies by the name of the rcode, without those that are 0."""
    names = [*map(rcode_name, range(EXTENDED)), "other"]
    return {name: count for name, count in zip(names, counts, strict=True) if count}


def totals(reports: Sequence[Report]) -> dict[str, Any]:
    """Return the counts of all processes since their start."""
    replies = add_up([report.replies for report in reports])
    unanswered = sum(report.unanswered for report in reports)
    return {
        "queries": sum(replies) + unanswered,
        "packet_cache_hits": sum(report.hits for report in reports),
        "waited": sum(report.waited for report in reports),
        "unanswered": unanswered,
        "rcodes": rcodes(replies),
        "latency": add_up([report.latency for report in reports]),
    }


def recent(server: Server, reports: Sequence[Report], now: float) -> dict[str, Any]:
    """Return the rates of the last record and the time since; `now` is the UNIX time."""
    history = merge_histories([report.history for report in reports])
    parts = [*history.records[-1:], *(report.since_record for report in reports)]
    sums = add_up(parts)
    seconds = now - history.end + INTERVAL if history.records else now - server.started
    seconds = max(seconds, 0.001)
    counters = dict(zip(COUNTERS, sums, strict=False))
    queries = counters["queries"]
    latencies = sums[len(COUNTERS) :]
    return {
        "seconds": seconds,
        "queries_per_second": queries / seconds,
        "packet_cache_ratio": counters["packet_cache_hits"] / queries if queries else None,
        "waited_ratio": counters["waited"] / queries if queries else None,
        "nxdomain_per_second": counters["nxdomain"] / seconds,
        "servfail_per_second": counters["servfail"] / seconds,
        "unanswered_per_second": counters["unanswered"] / seconds,
        "p50": percentile(latencies, 0.5),
        "p99": percentile(latencies, 0.99),
    }


def _top(report: TopReport) -> dict[str, Any]:
    """Return the document of the tables."""
    queries = report.tables["clients"].total
    weight = queries / report.sampled if report.sampled else 1.0
    found: dict[str, Any] = {
        "seconds": report.seconds,
        "queries": queries,
        "sampled": report.sampled,
        "capacity": CAPACITY,
        "bounds": {name: report.tables[name].bound for name in TABLES},
    }
    for name in TABLES:
        found[name] = _rows(report.tables[name], name, weight, report.seconds)
    return found


def _rows(table: Summary, name: str, weight: float, seconds: float) -> list[dict[str, Any]]:
    """Return an object for each item; `weight` is the mean number of queries of a selected one."""
    is_client = name == "clients"
    return [
        {
            "client" if is_client else "name": client_text(key) if is_client else to_text(key),
            "count": count,
            "error": error,
            "margin": margin(count, weight),
            "per_second": count / max(seconds, 1.0),
        }
        for key, count, error in table.items
    ]


def margin(count: int, weight: float) -> int:
    """Return two standard deviations of a count whose selected queries stand for `weight` each."""
    return round(2 * sqrt(count * (weight - 1.0))) if weight > 1.0 else 0


def client_text(packed: bytes) -> str:
    """Return a packed address as text, "" for a client without one."""
    return str(ipaddress.ip_address(packed)) if packed else ""


def listeners(reports: Sequence[Report]) -> list[dict[str, Any]]:
    """Return the listeners of all processes, those of one address and protocol added up."""
    parts: dict[tuple[object, object], list[dict[str, Any]]] = {}
    for report in reports:
        for listener in report.listeners:
            parts.setdefault((listener["server"], listener["protocol"]), []).append(listener)
    return [plugin_status.plain(plugin_status.merge_values("", each)) for each in parts.values()]
