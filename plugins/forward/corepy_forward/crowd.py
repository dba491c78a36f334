"""Different queries for one question at the same time: few of them are in flight.

Clients make queries differ that ask for one name, type and class: by flags, by EDNS options, by
transport. Each in flight is a chance for a forger, who needs to hit only one of them (the birthday
attack of RFC 5452 section 5), so the rest wait. There is a crowd only while there are two or more.

One client can make any number of them, and make queries that an upstream is slow to answer, or does
not answer at all. So those that differ from the plain query of stub resolvers may only have some of
the places, and those that wait are taken from each client in turn.
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
"""Queries in flight to one upstream for one name, type and class."""

MOST_UNUSUAL: Final = (MOST_QUERIES, 3, 2)
"""How many of them may be as unusual as the index says, or more; see `Asking.unusualness`."""

LEAST_TIME: Final = 0.5
"""Seconds that an exchange must have left to be worth a start."""


class Turns:
    """Exchanges that wait to be started: the oldest of each client in turn."""

    __slots__ = ("_clients",)

    def __init__(self) -> None:
        self._clients: dict[bytes, deque[Exchange]] = {}

    def __bool__(self) -> bool:
        return bool(self._clients)

    def add(self, client: bytes, exchange: Exchange) -> None:
        """Append an exchange that `client` began."""
        self._clients.setdefault(client, deque()).append(exchange)

    @property
    def first(self) -> Exchange:
        """The exchange whose turn it is."""
        return next(iter(self._clients.values()))[0]

    def drop_first(self) -> None:
        """Remove it; the turn passes to the next client."""
        client = next(iter(self._clients))
        queue = self._clients.pop(client)
        queue.popleft()
        if queue:
            self._clients[client] = queue


class Crowd:
    """The exchanges of one question."""

    __slots__ = ("_asking", "_is_starting", "_members", "_start", "_waiting")

    def __init__(self, first: Exchange, start: Callable[[Exchange], bool]) -> None:
        """`first` is in flight. `start` lets an exchange ask; False if it is to wait."""
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
        """Return the exchange that asks in this way; a client over UDP may join either kind, since
        it can use a truncated reply as well as a whole one.
        """
        exchange = self._members.get((body, for_tcp))
        if exchange is None and not for_tcp:
            exchange = self._members.get((body, True))
        if exchange is not None:
            metrics.SHARED.value += 1
        return exchange

    def join(self, exchange: Exchange, client: bytes) -> None:
        """Let another exchange, begun by `client`, ask now or when there is room."""
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
        """Return how many queries as unusual as that, or more, are in flight to an upstream."""
        return sum(each.queries_at(upstream, unusualness) for each in self._asking)

    def leave(self, exchange: Exchange, limit: float) -> bool:
        """Take out an exchange that has ended; True if it was the last.

        What has waited since `limit`, in monotonic seconds, or longer is no longer started.
        """
        self._members.pop((exchange.body, exchange.for_tcp), None)
        self._asking.pop(exchange, None)
        if not self._is_starting:  # one that fails at its start leaves within this
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
