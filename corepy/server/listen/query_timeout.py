"""Limits the time of a query: a chain that exceeds it is cancelled, its client gets SERVFAIL.

Queries have no timers of their own. A periodic check looks through all pending queries. An idle
server has none, and a reply from a cache never becomes pending. The limit is that of the process,
or a shorter one of the server block (`corepy.plugin.QueryTimeout`).
"""

from __future__ import annotations

from asyncio import get_running_loop
from collections import defaultdict
from time import monotonic
from typing import TYPE_CHECKING, Final

from corepy.plugin.failures import SERVER, count, logger_of
from corepy.server.contain.failure_report import report_background
from corepy.server.env_settings import seconds_of

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable

    from corepy.dns import Request
    from corepy.server.contain.attribution import Attribution
    from corepy.server.listen.waiting_query import WaitingQuery

LIMIT: Final = 10.0
"""Seconds that a chain may take; longer than a client or an in-tree plugin waits."""

SWITCH: Final = "COREPY_QUERY_TIMEOUT"
"""Environment variable: the limit in seconds, 0 to disable it."""

INTERVAL: Final = 1.0
"""Maximum seconds between two checks."""

SHORTEST_INTERVAL: Final = 0.05
"""Minimum seconds between two checks, however short a limit is."""


def limit() -> float:
    """Return the time limit of a query in this process, in seconds; 0 means unlimited."""
    return seconds_of(SWITCH, LIMIT)


class QueryTimeouts:
    """Expires the pending queries that exceed their time limit."""

    def __init__(self, waiting: Callable[[], Iterable[WaitingQuery]]) -> None:
        """Check the queries that `waiting` returns: those without an answer yet."""
        self._waiting = waiting
        self._limit = limit()
        self._interval = INTERVAL
        self._timer: asyncio.TimerHandle | None = None

    def start(self, limits: Iterable[float] = ()) -> None:
        """Start the periodic check; `limits` are those of the server blocks, 0 without one.

        If it runs already, it continues with these limits.
        """
        self.stop()
        in_use = [it for it in (*limits, self._limit) if it]
        if in_use:
            self._interval = min(INTERVAL, max(SHORTEST_INTERVAL, min(in_use) / 2))
            self._wait()

    def _wait(self) -> None:
        self._timer = get_running_loop().call_later(self._interval, self._expire_overdue)

    def stop(self) -> None:
        """Stop the periodic check."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _limit_of(self, request: Request) -> float:
        """Return the time limit of a query in seconds; 0 means unlimited."""
        route = request.context.route
        of_block: float = 0.0 if route is None else route.time_limit
        return min(of_block, self._limit) if of_block and self._limit else of_block or self._limit

    def _expire_overdue(self) -> None:
        self._wait()
        now = monotonic()
        late: dict[tuple[Attribution, float, str], list[WaitingQuery]] = defaultdict(list)
        for query in self._waiting():
            try:
                allowed = self._limit_of(query.request)
                if allowed and query.request.received < now - allowed:
                    was_overdue, outcome = query.has_timed_out, query.outcome
                    found = query.expire()
                    if not was_overdue:
                        late[found, allowed, outcome].append(query)
            except Exception as error:  # a plugin has changed the request; the others still expire
                report_background(error, "a query with a time limit was cancelled")
                query.cancel()
        for (found, allowed, outcome), queries in late.items():
            try:
                self._report(found, allowed, queries, outcome)
            except Exception as error:
                report_background(error, "a time limit could not be reported")

    def _report(
        self, found: Attribution, allowed: float, queries: list[WaitingQuery], outcome: str
    ) -> None:
        count(found.plugin, "timeout", len(queries))
        request = queries[0].request
        others = f" and {len(queries) - 1} more" if len(queries) > 1 else ""
        logger_of(found.plugin).error(
            "%s %s from %s%s: no answer after %g s (waiting at %s); %s",
            request.name,
            request.type,
            request.remote[0],
            others,
            allowed,
            found.where or SERVER,
            outcome,
        )
