"""Limits the number of queries in this process that wait for upstreams at the same time.

Each waiting query uses memory, and a node-local cache often runs in a small container. If upstreams
are slow and queries frequent, SERVFAIL for some clients is better than an out-of-memory kill.
`max_concurrent` limits one `forward` line, this module all lines together. Both limits are shared
between clients (`corepy.net.connection_limit.Shares`).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from corepy.net.connection_limit import GREED, Shares, client_of

if TYPE_CHECKING:
    from corepy.dns import Request

BYTES_EACH = 4096
"""Bytes of memory for one waiting query with all its objects (measured: 3 KB)."""

SHARE = 8
"""Divisor: waiting queries may use this fraction of the memory limit."""

LEAST, MOST = 1000, 10000

_ENOUGH: Final = 4
"""The count per client ends when waiting queries use less than one place in this number."""


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


LIMIT = Limit()


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
            shares.held.update(Counter(client_of(each.peer) for each in requests))
            self._plenty = 0
        free = min(self.most - len(requests), LIMIT.most - LIMIT.waiting)
        return shares.take(client_of(request.peer), free)

    def leave(self, request: Request) -> None:
        """Release the place of `request`."""
        requests = self.requests
        if request in requests:
            requests.remove(request)
            LIMIT.waiting -= 1
            if self._shares is not None:
                self._give_back_share(self._shares, request)

    def _give_back_share(self, shares: Shares, request: Request) -> None:
        shares.give_back(client_of(request.peer))
        if len(self.requests) * _ENOUGH < self.most and LIMIT.waiting * _ENOUGH < LIMIT.most:
            self._shares = None
            self._plenty = _plenty(self.most)
