"""Limits the queries that wait: in this process, for one `forward` line, and for one question.

Each waiting query uses memory, and a node-local cache often runs in a small container. If upstreams
are slow and queries frequent, SERVFAIL for some clients is better than an out-of-memory kill.
`max_concurrent` limits one `forward` line, `LIMIT` all lines together. Both limits are shared
between clients (`corepy.net.connection_limit.Shares`).

A `Crowd` limits the different queries for one question that are in flight at the same time. They
may differ in flags, EDNS options and transport. Each query in flight gives a forger another chance,
because the forged reply needs to match only one of them (the birthday attack of RFC 5452 section
5). Therefore further exchanges wait. A crowd exists only while a question has two or more
exchanges.

A single client can send any number of such queries, also ones that an upstream answers slowly or
not at all. Therefore queries that differ from the plain query of stub resolvers may use only a part
of the limit, and waiting exchanges start in turns, by client.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, Final

from corepy.net.connection_limit import GREED, Shares, client_of
from corepy_forward import metrics
from corepy_forward.asking import MOST_UNUSUAL

if TYPE_CHECKING:
    from collections.abc import Callable

    from corepy.dns import Request
    from corepy_forward.attempt import UpstreamLike
    from corepy_forward.exchange import Exchange

BYTES_EACH: Final = 4096
"""Bytes of memory for one waiting query with all its objects (measured: 3 KB)."""

SHARE: Final = 8
"""Divisor: waiting queries may use this fraction of the memory limit."""

LEAST, MOST = 1000, 10000

_ENOUGH: Final = 4
"""The count per client ends when waiting queries use less than one place in this number."""

LEAST_TIME: Final = 0.5
"""Seconds that must remain of an exchange's time for it to be started."""


def _plenty(most: int) -> int:
    """Return the number of used places below which no client can exceed its share of `most`."""
    return -(-GREED * most // (GREED + 1))


class Limit:
    """The number of waiting queries in this process, and its maximum."""

    __slots__ = ("most", "plenty", "waiting")

    def __init__(self) -> None:
        self.waiting = 0
        self.configure(None)

    def configure(self, memory: int | None) -> None:
        """Set the maximum for a memory limit in bytes; None: unlimited."""
        fitting = MOST if memory is None else memory // SHARE // BYTES_EACH
        self.most = min(max(fitting, LEAST), MOST)
        self.plenty = _plenty(self.most)

    def most_of_one(self, max_concurrent: int) -> int:
        """Return the maximum number of waiting queries of one `forward` line.

        If `max_concurrent` is 0, the default, this is less than `most`, so that queries of other
        lines are still forwarded while the upstreams of one line do not answer.
        """
        return min(max_concurrent or self.most * 3 // 4, self.most)


LIMIT: Final = Limit()


class Places:
    """The queries that wait for the upstreams of one line; at most `most`.

    While few places are used, the places of each client are not counted, because `take` and `leave`
    run for every query. The count starts from the set of waiting queries.
    """

    __slots__ = ("_plenty", "_shares", "most", "requests")

    def __init__(self, most: int) -> None:
        self.most = most
        self.requests: set[Request] = set()
        self._plenty = _plenty(most)
        self._shares: Shares | None = None

    def take(self, request: Request) -> bool:
        """Take a place for `request`; return whether the limits permit it."""
        requests, limit = self.requests, LIMIT
        if (
            len(requests) >= self._plenty or limit.waiting >= limit.plenty
        ) and not self._take_share(request):
            return False
        if request not in requests:  # a request that a plugin forwards twice has one place
            requests.add(request)
            limit.waiting += 1
        return True

    def _take_share(self, request: Request) -> bool:
        requests, shares = self.requests, self._shares
        if request in requests:
            return True
        if shares is None:
            shares = self._shares = Shares()
            shares.held.update(Counter(client_of(each.client) for each in requests))
            self._plenty = 0
        free = min(self.most - len(requests), LIMIT.most - LIMIT.waiting)
        return shares.take(client_of(request.client), free)

    def leave(self, request: Request) -> None:
        """Release the place of `request`."""
        requests = self.requests
        if request in requests:
            requests.remove(request)
            LIMIT.waiting -= 1
            if self._shares is not None:
                self._give_back_share(self._shares, request)

    def _give_back_share(self, shares: Shares, request: Request) -> None:
        shares.give_back(client_of(request.client))
        if len(self.requests) * _ENOUGH < self.most and LIMIT.waiting * _ENOUGH < LIMIT.most:
            self._shares = None
            self._plenty = _plenty(self.most)


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

    def queries_at(self, upstream: UpstreamLike, unusualness: int = 0) -> int:
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
