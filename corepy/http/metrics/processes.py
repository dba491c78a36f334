"""The resource usage of all processes of this server, in total, as Go's client library exports it.

prometheus_client reads one process, so its samples are added up. The kernel adds the CPU time of
ended processes to the leader, their parent, so that the total never decreases. Three metrics of
Go's client (client_golang, process_collector.go) are not in prometheus_client and are made here.
"""

from __future__ import annotations

import resource
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from prometheus_client.metrics_core import Metric

SUMS: Final = frozenset(
    {
        "process_virtual_memory_bytes",
        "process_resident_memory_bytes",
        "process_cpu_seconds",
        "process_open_fds",
    }
)
"""The metrics that are added up; the others (start time, limits, network) are the leader's."""

CPU: Final = "process_cpu_seconds"

NETSTAT: Final = Path("/proc/self/net/netstat")

UNLIMITED: Final = 2.0**64
"""The limit that Go's client exports for "unlimited": the greatest number of 64 bits, rounded."""


def families(followers: Sequence[int]) -> Iterable[Metric]:
    """Return the families of all metrics; `followers` are process IDs."""
    from prometheus_client import PROCESS_COLLECTOR, ProcessCollector

    found = {family.name: family for family in PROCESS_COLLECTOR.collect()}
    for pid in followers:
        collector = ProcessCollector(pid=partial(int, pid), registry=None)
        for family in collector.collect():
            if family.name in SUMS and family.name in found:
                _add(found[family.name], sum(sample.value for sample in family.samples))
    if CPU in found:
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        _add(found[CPU], ended.ru_utime + ended.ru_stime)
    return (*found.values(), _memory_limit(), *_traffic())


def _add(family: Metric, amount: float) -> None:
    family.samples = [sample._replace(value=sample.value + amount) for sample in family.samples]


def _memory_limit() -> Metric:
    from prometheus_client.metrics_core import GaugeMetricFamily

    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return GaugeMetricFamily(
        "process_virtual_memory_max_bytes",
        "Maximum amount of virtual memory available in bytes.",
        value=UNLIMITED if soft == resource.RLIM_INFINITY else soft,
    )


def _traffic() -> Iterator[Metric]:
    """Yield the traffic of the network namespace, which all processes of this server share.

    Like Go's client: the kernel does not count the traffic of a process.
    """
    from prometheus_client.metrics_core import CounterMetricFamily

    try:
        octets = _ip_octets(NETSTAT.read_text("ascii"))
    except (OSError, ValueError):
        return
    received, sent = octets.get("InOctets", 0), octets.get("OutOctets", 0)
    yield CounterMetricFamily(
        "process_network_receive_bytes",
        "Number of bytes received by the process over the network.",
        value=received,
    )
    yield CounterMetricFamily(
        "process_network_transmit_bytes",
        "Number of bytes sent by the process over the network.",
        value=sent,
    )


def _ip_octets(text: str) -> dict[str, int]:
    """Return the counters IpExt of /proc/net/netstat: a line with names, and one with values."""
    rows = [line.split() for line in text.splitlines() if line.startswith("IpExt:")]
    if len(rows) != 2:
        return {}
    names, values = rows
    return {name: int(value) for name, value in zip(names[1:], values[1:], strict=True)}
