"""Counts the queries of each client, and finds those over the limit.

Each client has a bucket of `burst` tokens, which is refilled with `rate` tokens a second; a query
takes one. The state of a bucket is one number, the time at which it will be full (the generic cell
rate algorithm, ITU-T I.371). A denied query takes no token, so a client that sends too much gets
answers at its rate.
"""

from __future__ import annotations

from math import isinf
from typing import TYPE_CHECKING, Final

from corepy.net.client_prefix import ClientPrefix
from corepy.net.time_table import TimeTable

if TYPE_CHECKING:
    from collections.abc import Sequence

IDLE: Final = 60.0
"""Seconds without a query after which a client may lose its place in the table; at least the time
that its bucket needs to be full.
"""

WHOLE: Final = 0.999
"""The part of a token that counts as one, since sums of times are not exact."""

EACH_CLIENT: Final = ClientPrefix()


class Rates:
    """The buckets of all clients of a server block."""

    def __init__(
        self,
        rate: float,
        burst: float,
        size: int,
        prefix: ClientPrefix = EACH_CLIENT,
    ) -> None:
        """`rate` is in queries a second, `burst` at least 1.

        `size` clients have buckets of their own. Clients with the same prefix share a bucket.
        """
        self.rate = rate
        self.burst = burst
        self._prefix = prefix
        self._size = size
        self._step: float
        self._slack: float
        self._table: TimeTable
        self.divide(1)

    def divide(self, processes: int) -> None:
        """Divide the rate by the number of processes that share the clients; fill all buckets."""
        self._step = processes / self.rate
        self._slack = (self.burst - WHOLE) * self._step
        self._table = TimeTable(self._size, max(IDLE, self.burst * self._step))

    def over_limit(self, clients: Sequence[int], now: float) -> list[int]:
        """Take a token for each client; return the indexes of those that have none."""
        # It runs for every query, also for those that the packet cache answers.
        table = self._table
        if now >= table.due:
            table.turn(now)
        if not self._prefix.is_whole:
            clients = list(map(self._prefix.of, clients))
        recent, step = table.recent, self._step
        known, full_at_once, latest = recent.get, now + step, now + self._slack
        over = []
        for index, client in enumerate(clients):
            full = known(client)
            if full is None:
                full = table.get(client)
                if full > latest:
                    over.append(index)
                else:
                    table.put(client, (full if full > now else now) + step)
            elif full <= now:
                recent[client] = full_at_once
            elif full <= latest:
                recent[client] = full + step
            else:
                over.append(index)
        return over

    def tokens(self, client: int, now: float) -> float:
        """Return the tokens of a client; its next query is over the limit if there is not one."""
        full = self._table.view(self._prefix.of(client))
        missing = 0.0 if isinf(full) or full <= now else (full - now) / self._step
        return self.burst - missing

    @property
    def missed(self) -> int:
        """Queries of clients that shared their state because the table was full."""
        return self._table.missed

    def __len__(self) -> int:
        """Return the number of clients with a bucket of their own."""
        return len(self._table)
