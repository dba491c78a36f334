"""Limits the time of a query: a chain that exceeds it is cancelled, its client gets SERVFAIL.

Queries have no timers of their own. A periodic check looks through all pending queries. An idle
server has none, and a reply from a cache never becomes pending.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Final

from corepy.plugin.failures import SERVER, count, logger_of
from corepy.server.env_settings import seconds_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from corepy.server.contain.attribution import Attribution
    from corepy.server.listen.chain_runner import ChainTask

LIMIT: Final = 10.0
"""Seconds that a chain may take; longer than a client or an in-tree plugin waits."""

SWITCH: Final = "COREPY_QUERY_TIMEOUT"
"""Environment variable: the limit in seconds, 0 to disable it."""

INTERVAL: Final = 1.0
"""Seconds between two checks."""


def limit() -> float:
    """Return the time limit of a query in this process, in seconds; 0 means unlimited."""
    return seconds_of(SWITCH, LIMIT)


class QueryTimeouts:
    """Expires the pending queries that exceed the time limit."""

    def __init__(self, waiting: Callable[[], Iterable[ChainTask]]) -> None:
        """Check the queries that `waiting` returns: those without an answer yet."""
        self._waiting = waiting
        self._limit = limit()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Start the periodic check; does nothing if it runs already."""
        if self._timer is None and self._limit:
            self._wait()

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._interval(), self._expire_overdue)

    def _interval(self) -> float:
        return min(INTERVAL, self._limit / 2)

    def stop(self) -> None:
        """Stop the periodic check."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire_overdue(self) -> None:
        self._wait()
        since = time.monotonic() - self._limit
        late: dict[Attribution, list[ChainTask]] = defaultdict(list)
        for query in self._waiting():
            if query.request.received < since:
                was_overdue = query.has_timed_out
                found = query.expire()
                if not was_overdue:
                    late[found].append(query)
        for found, queries in late.items():
            self._report(found, queries)

    def _report(self, found: Attribution, queries: list[ChainTask]) -> None:
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
