"""How many clients of this process may wait for upstreams at once.

Each costs memory while it waits, and a node's cache lives in a small container: when upstreams are
slow and questions many, SERVFAIL for some is better than being killed. `max_concurrent` limits one
`forward` line; this limits them all. Both are shared between clients (`corepy.net.clients.Shares`).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from corepy.net.clients import GREED, Shares, client_of

if TYPE_CHECKING:
    from corepy.dns import Request

BYTES_EACH = 4096
"""Memory that a waiting query takes with all that belongs to it (3 KB were measured)."""

SHARE = 8
"""The part of the memory limit that waiting queries may take: one in so many."""

LEAST, MOST = 1000, 10000

_ENOUGH: Final = 4
"""So many times the queries that wait have to find room before clients are no longer counted."""


def _plenty(most: int) -> int:
    """Return below how many of `most` places in use no client can have more than its share."""
    return -(-GREED * most // (GREED + 1))


class Limit:
    """Number of clients that wait, and of those that may."""

    __slots__ = ("most", "plenty", "waiting")

    def __init__(self) -> None:
        self.waiting = 0
        self.configure(None)

    def configure(self, memory: int | None) -> None:
        """Set the limit for `memory` bytes; None is unlimited memory."""
        fitting = MOST if memory is None else memory // SHARE // BYTES_EACH
        self.most = min(max(fitting, LEAST), MOST)
        self.plenty = _plenty(self.most)

    def most_of_one(self, max_concurrent: int) -> int:
        """Return how many may wait for the upstreams of one line; 0 is the default of
        `max_concurrent`: another line still gets its turn while these upstreams are silent.
        """
        return min(max_concurrent or self.most * 3 // 4, self.most)


LIMIT = Limit()


class Places:
    """The queries that wait for the upstreams of one line, of which there may be `most`.

    While places are plenty nobody counts how many each client has; `take` and `leave` run for every
    query. The count begins with a look at all that wait.
    """

    __slots__ = ("_plenty", "_shares", "most", "requests")

    def __init__(self, most: int) -> None:
        self.most = most
        self.requests: set[Request] = set()
        self._plenty = _plenty(most)
        self._shares: Shares | None = None

    def take(self, request: Request) -> bool:
        """Take a place for `request`; False if its client may not have one."""
        requests, limit = self.requests, LIMIT
        if (
            len(requests) >= self._plenty or limit.waiting >= limit.plenty
        ) and not self._take_share(request):
            return False
        if request not in requests:  # else a plugin asks twice, and has one place
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
        """Give the place of `request` back."""
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
