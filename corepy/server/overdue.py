"""Queries that never get an answer: a chain has so long, then its client gets SERVFAIL.

There is no timer per query. Once in a while all that wait are looked through; none do in a quiet
server, and a reply from memory never waits.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Final

from corepy.plugin.failures import SERVER, count, logger_of
from corepy.server.switches import seconds_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from corepy.server.blame import Blame
    from corepy.server.query import Query

LIMIT: Final = 10.0
"""Seconds that a chain may take: more than any client waits, and any in-tree plugin asks for."""

SWITCH: Final = "COREPY_QUERY_TIMEOUT"
"""Environment variable: another number of seconds, 0 for no limit."""

INTERVAL: Final = 1.0
"""Seconds between two looks."""


def limit() -> float:
    """Return how many seconds a query may take in this process; 0 is without end."""
    return seconds_of(SWITCH, LIMIT)


class Overdue:
    """Looks through the queries that wait."""

    def __init__(self, waiting: Callable[[], Iterable[Query]]) -> None:
        """Look through what `waiting` returns: the queries that have no answer yet."""
        self._waiting = waiting
        self._limit = limit()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Look from now on; nothing happens if that has begun already."""
        if self._timer is None and self._limit:
            self._wait()

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._interval(), self._look)

    def _interval(self) -> float:
        return min(INTERVAL, self._limit / 2)

    def stop(self) -> None:
        """Look no longer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._wait()
        since = time.monotonic() - self._limit
        late: dict[Blame, list[Query]] = defaultdict(list)
        for query in self._waiting():
            if query.request.received < since:
                was_overdue = query.is_overdue
                found = query.expire()
                if not was_overdue:
                    late[found].append(query)
        for found, queries in late.items():
            self._report(found, queries)

    def _report(self, found: Blame, queries: list[Query]) -> None:
        count(found.plugin, "timeout", len(queries))
        request = queries[0].request
        others = f" and {len(queries) - 1} more" if len(queries) > 1 else ""
        logger_of(found.plugin).error(
            "%s %s from %s%s: no answer after %g s (waiting at %s); answered SERVFAIL",
            request.name,
            request.type,
            request.remote[0],
            others,
            self._limit,
            found.where or SERVER,
        )
