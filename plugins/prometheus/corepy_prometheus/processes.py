"""The resource usage of all processes of this server, in total.

prometheus_client reads one process, so its samples are added up. The kernel adds the CPU time of
ended processes to the leader, their parent, so that the total never decreases.
"""

from __future__ import annotations

import resource
from functools import partial
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from prometheus_client.metrics_core import Metric

SUMS: Final = frozenset(
    {
        "process_virtual_memory_bytes",
        "process_resident_memory_bytes",
        "process_cpu_seconds",
        "process_open_fds",
    }
)
"""The metrics that are added up; the others (start time, limits) are the leader's."""

CPU: Final = "process_cpu_seconds"


def families(followers: Sequence[int]) -> Iterable[Metric]:
    """Return the families of prometheus_client's collector; `followers` are process IDs."""
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
    return found.values()


def _add(family: Metric, amount: float) -> None:
    family.samples = [sample._replace(value=sample.value + amount) for sample in family.samples]
