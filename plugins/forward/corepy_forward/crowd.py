"""Limits the number of different queries for one question that are in flight at the same time.

Queries for one name, type and class may differ in flags, EDNS options and transport. Each query in
flight gives a forger another chance, because the forged reply needs to match only one of them (the
birthday attack of RFC 5452 section 5). Therefore further exchanges wait. A `Crowd` exists only
while a question has two or more exchanges.

A single client can send any number of such queries, also ones that an upstream answers slowly or
not at all. Therefore queries that differ from the plain query of stub resolvers may use only a part
of the limit, and waiting exchanges start in turns, by client.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from corepy_forward import metrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from corepy_forward.exchange import Exchange
    from corepy_forward.upstream import Upstream

MOST_QUERIES: Final = 4
"""Maximum number of queries in flight to one upstream for one name, type and class."""

MOST_UNUSUAL: Final = (MOST_QUERIES, 3, 2)
"""Maximum number of these whose `Asking.unusualness` is at least the index."""

LEAST_TIME: Final = 0.5
"""Seconds that must remain of an exchange's time for it to be started."""


class Turns:
    """A queue of waiting exchanges that returns the oldest exchange of each client in turn."""

    __slots__ = ("_clients",)

    def __init__(self) -> None:
        self._clients: dict[bytes, deque[Exchange]] = {}

    def __bool__(self) -> bool:
        return bool(self._clients)

    def add(self, client: bytes, exchange: Exchange) -> None:
        """Append an exchange that was started for a query of `client`."""
        self._clients.setdefault(client, deque()).append(exchange)

    @property
    def first(self) -> Exchange:
        """The next exchange to start."""
        return next(iter(self._clients.values()))[0]

    def drop_first(self) -> None:
        """Remove the first exchange and continue with the next client."""
        client = next(iter(self._clients))
        queue = self._clients.pop(client)
        queue.popleft()
        if queue:
            self._clients[client] = queue


class Crowd:
    """The concurrent exchanges of one question."""

    __slots__ = ("_asking", "_is_starting", "_members", "_start", "_waiting")

    def __init__(self, first: Exchange, start: Callable[[Exchange], bool]) -> None:
        """Take the exchange in flight, and a function that starts one; False if it must wait."""
        self._start = start
        self._members: dict[tuple[bytes, bool], Exchange] = {}
        self._asking: dict[Exchange, None] = {first: None}
        self._waiting = tuple(Turns() for _ in MOST_UNUSUAL)
        self._is_starting = False
        self._add(first)

    def _add(self, exchange: Exchange) -> None:
        self._members[exchange.body, exchange.for_tcp] = exchange
        exchange.crowd = self

    def find(self, body: bytes, for_tcp: bool) -> Exchange | None:
        """Return the exchange with this query, if there is one.

        A client over UDP may also join an exchange for TCP clients, because it accepts a complete
        reply as well as a truncated one.
        """
        exchange = self._members.get((body, for_tcp))
        if exchange is None and not for_tcp:
            exchange = self._members.get((body, True))
        if exchange is not None:
            metrics.SHARED.value += 1
        return exchange

    def join(self, exchange: Exchange, client: bytes) -> None:
        """Add an exchange for a query of `client`; start it now, or when the limits permit it."""
        self._add(exchange)
        waiting = self._waiting[exchange.unusualness]
        if waiting or not self._let_ask(exchange):
            waiting.add(client, exchange)

    def _let_ask(self, exchange: Exchange) -> bool:
        self._asking[exchange] = None
        if self._start(exchange):
            return True
        del self._asking[exchange]
        return False

    def queries_at(self, upstream: Upstream, unusualness: int = 0) -> int:
        """Return the number of queries in flight to an upstream with at least this unusualness."""
        return sum(each.queries_at(upstream, unusualness) for each in self._asking)

    def leave(self, exchange: Exchange, limit: float) -> bool:
        """Remove an exchange that has ended; return True if it was the last one.

        Exchanges that have been waiting since `limit` (monotonic time in seconds) or longer are not
        started.
        """
        self._members.pop((exchange.body, exchange.for_tcp), None)
        self._asking.pop(exchange, None)
        if not self._is_starting:  # an exchange that fails at its start calls `leave` from here
            self._is_starting = True
            self._start_waiting(limit)
            self._is_starting = False
        return not self._members

    def _start_waiting(self, limit: float) -> None:
        for waiting in self._waiting:
            while waiting:
                first = waiting.first
                if not first.done and first.started > limit and not self._let_ask(first):
                    break
                waiting.drop_first()
