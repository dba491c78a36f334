"""The metrics of `runtime_metrics`: garbage collection pauses and event loop lag.

As in CoreDNS the option is a latch: once a server block enables it, it stays on until the process
ends.
"""

from __future__ import annotations

import asyncio
import gc
import time
from typing import TYPE_CHECKING, Final
from weakref import WeakSet

from corepy.http.metrics import add_source
from corepy.plugin import metrics

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client.metrics_core import Metric

INTERVAL: Final = 0.5
"""Seconds between two measurements of the event loop."""

_BOUNDS: Final = tuple(0.0001 * 4**n for n in range(8))
_watched: WeakSet[asyncio.AbstractEventLoop] = WeakSet()
_collector: list[_CollectorWatch] = []


def enable() -> None:
    """Measure from now on, in the running loop."""
    if not _collector:
        _collector.append(_CollectorWatch())
        add_source(_collections)
    loop = asyncio.get_running_loop()
    if loop not in _watched:
        _watched.add(loop)
        _LoopWatch(loop)


def _collections() -> Iterable[Metric]:
    """Return the garbage collector's own counts."""
    from prometheus_client import GC_COLLECTOR

    return GC_COLLECTOR.collect()


class _CollectorWatch:
    """Measures the pauses of the garbage collector."""

    def __init__(self) -> None:
        pauses = metrics.histogram(
            "python_gc_pause_seconds",
            "Duration of a garbage collection.",
            ("generation",),
            bounds=_BOUNDS,
        )
        self._pauses = [pauses.labels(str(generation)) for generation in range(3)]
        self._began = 0.0
        gc.callbacks.append(self._note)

    def _note(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._began = time.perf_counter()
        else:
            self._pauses[info["generation"]].observe(time.perf_counter() - self._began)


class _LoopWatch:
    """Measures the delay of a timer in the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._lag = metrics.histogram(
            "python_event_loop_lag_seconds",
            "Delay of a timer of the event loop, which is also the delay of a query.",
            bounds=_BOUNDS,
        ).labels()
        self._loop = loop
        self._sleep()

    def _sleep(self) -> None:
        self._due = self._loop.time() + INTERVAL
        self._loop.call_at(self._due, self._wake)

    def _wake(self) -> None:
        self._lag.observe(max(0.0, self._loop.time() - self._due))
        self._sleep()
