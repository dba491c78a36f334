"""The metrics of the option `top`: the most frequent clients and names, as few time series.

The server estimates them in fixed memory, whether or not they are exported (docs/watching.md). Only
the items of each table that are frequent now have a time series; those that are not any more lose
theirs. The leader of a server with several processes exports them for all.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from corepy.plugin import CommandError, metrics, plugin_logger
from corepy.plugin.failures import reported

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Labels = tuple[str, str]

MOST: Final = 20
"""Time series of each table."""

INTERVAL: Final = 10.0
"""Seconds between two updates."""

TABLES: Final = {
    "clients": "client", "names": "name", "suffixes": "name", "nxdomain": "name",
    "servfail": "name",
}  # fmt: skip
"""The tables, each with the key of its items."""

TOP_QUERIES = metrics.gauge(
    "corepy_top_queries_per_second",
    "Estimated queries per second of the most frequent clients and names, in the last minutes.",
    ("table", "item"),
)

_shown: dict[TopSeries, set[Labels]] = {}


class TopSeries:
    """Updates the time series for one server block with the option, until `stop`."""

    def __init__(self, most: int, run_command: Callable[[str, Any], Awaitable[Any]]) -> None:
        """Show at most `most` items of each table; `run_command` is that of the server."""
        self._most = most
        self._run_command = run_command
        self._task = asyncio.create_task(self._run(), name="corepy-top")

    async def _run(self) -> None:
        while True:
            with reported("prometheus", "the top queries cannot be updated"):
                await self._try_update()
            await asyncio.sleep(INTERVAL)

    async def _try_update(self) -> None:
        try:
            await self.update()
        except CommandError as error:
            plugin_logger("prometheus").warning("the top queries are unknown: %s", error)

    async def update(self) -> None:
        """Show the current items."""
        top = (await self._run_command("stats", {"top": self._most}))["top"]
        rates = {
            (table, row[key]): row["per_second"] for table, key in TABLES.items()
            for row in top[table]
        }  # fmt: skip
        for labels, rate in rates.items():
            TOP_QUERIES.labels(*labels).set(rate)
        before = _shown.get(self, set())
        _shown[self] = set(rates)
        _remove(before)

    async def stop(self) -> None:
        """Stop, and remove the time series that no other object shows."""
        self._task.cancel()
        await asyncio.wait([self._task])
        _remove(_shown.pop(self, set()))


def _remove(labels: set[Labels]) -> None:
    """Remove the time series with these labels that no object shows."""
    for each in labels.difference(*_shown.values()):
        TOP_QUERIES.remove(*each)
