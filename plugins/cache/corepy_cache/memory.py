"""One byte budget for all caches of the process: kept replies and queries that wait for one.

CoreDNS bounds each cache by a number of entries and nothing else, so what a configuration may need
is the product of its blocks, and a slow upstream lets waiting queries grow without end. Here both
are counted in bytes against one limit. Kept replies make way for waiting queries, up to half of it;
beyond that new misses fail while hits go on, those of the client first that waits for most.

What waits also costs time, all at once when it began all at once: thousands of queries that run
into their timeout within a few milliseconds hold up every hit behind them. So the number that may
wait rises slowly above what any server has to bear (`Budget.wait`).
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final
from weakref import WeakSet

from corepy.net.clients import GREED, Shares, client_of
from corepy.plugin.memory import cgroup_limit, read_text
from corepy.plugin.metrics import before_reading
from corepy_cache.meters import MEMORY, MEMORY_LIMIT

if TYPE_CHECKING:
    from corepy.dns import Request
    from corepy_cache.store import Store

WAITING_SIZE: Final = 4096
"""Bytes that a query costs while it waits: its chain and the exchange with an upstream (3500 each
when 12,000 waited for *forward*), and its share of the sockets' buffers.
"""

SMALLEST: Final = 4 << 20
"""Bytes that the budget has at least when nobody says otherwise."""

UNPACED: Final = 256
"""Queries that may begin to wait at once whatever the budget: few enough to be no burden."""

MOST_UNPACED: Final = 4000
PER_SECOND: Final = 1000
"""Queries by which the number of waiting ones may rise in a second above that."""

_LONGEST_PAUSE: Final = 0.016
"""Seconds without a wish to wait that count for the rise."""

_FORGET_AFTER: Final = 10.0
"""Seconds after which it takes proof once more that more may wait."""

_ENOUGH: Final = 4
"""So many times the queries that wait have to find room before it is no longer kept in mind who has
how many. That is far below what is scarce, since to begin takes a look at all that wait.
"""

_LARGEST_DEFAULT: Final = 1 << 30


class Budget:
    """What is used and what may be; one per process, see `process_budget`."""

    def __init__(self, limit: int) -> None:
        self.used = 0
        """Bytes in use by entries and waiting queries."""
        self._requests: set[Request] = set()
        """Those that wait for a reply from below a cache; see `wait` and `waited`."""
        self._shares: Shares | None = None
        """How many of them each client has, while places are scarce."""
        self.stores: WeakSet[Store] = WeakSet()
        self._default = limit
        self._processes = 1
        self._wishes: dict[object, int] = {}
        self._raised = 0.0
        self.is_paced = False
        """The ceiling has risen, and comes down with each query that is not answered."""
        self._set(limit)

    @property
    def waiting(self) -> int:
        """How many queries wait for a reply from below a cache."""
        return len(self._requests)

    def _set(self, whole: int) -> None:
        self.limit = limit = whole // self._processes
        MEMORY_LIMIT.value = limit
        most = self.most_waiting = limit // 2 // WAITING_SIZE
        self._unpaced = max(min(most // 2, MOST_UNPACED), min(most, UNPACED))
        self._set_ceiling(self._unpaced)

    def _set_ceiling(self, ceiling: int) -> None:
        self._ceiling = ceiling
        self.is_paced = ceiling > self._unpaced
        if self._shares is None:
            # With fewer in all, none can have as many as `Shares` refuses.
            self._plenty = -(-GREED * ceiling // (GREED + 1))

    def divide(self, processes: int) -> None:
        """Leave the other processes of this server as much as this one takes."""
        if processes != self._processes:
            self._processes = processes
            self._set(min(self._wishes.values(), default=self._default))
            self.make_room()

    def wish(self, owner: object, limit: int) -> None:
        """Let `owner` ask for a limit in bytes; of several the lowest counts."""
        self._wishes[owner] = limit
        self._set(min(self._wishes.values()))
        self.make_room()

    def withdraw(self, owner: object) -> None:
        """Forget what `owner` wished, if anything."""
        self._wishes.pop(owner, None)
        self._set(min(self._wishes.values(), default=self._default))

    def wait(self, request: Request) -> bool:
        """Count `request` as waiting, if there is room for it.

        Above a number that is allowed at any time the ceiling rises by `PER_SECOND`. A query that
        was answered leaves its place to the next at once; one that was not takes its place along.
        So an upstream that is far but well has as many as it can answer, and those that an ill one
        lets wait neither begin nor end together. A client that has most of the places gets no
        more while others may want them (`Shares`), which costs nothing while there are plenty.
        """
        requests = self._requests
        if len(requests) >= self._plenty and not self._take_share(request):
            return False
        requests.add(request)
        self.used += WAITING_SIZE
        if self.used > self.limit:
            self.make_room()
        return True

    def _take_share(self, request: Request) -> bool:
        requests, shares = self._requests, self._shares
        if request in requests:
            return True  # two caches, one below the other
        if shares is None:
            shares = self._shares = Shares()
            shares.held.update(Counter(client_of(other.peer) for other in requests))
            self._plenty = 0
        client = client_of(request.peer)
        if shares.take(client, self._ceiling - len(requests)):
            return True
        self._rise(request.received)
        return shares.take(client, self._ceiling - len(requests))

    def _rise(self, now: float) -> None:
        elapsed = now - self._raised
        if elapsed > _FORGET_AFTER:
            self._set_ceiling(max(self._unpaced, self.waiting))
        room = self.most_waiting - self._ceiling
        rise = min(int(min(elapsed, _LONGEST_PAUSE) * PER_SECOND), room)
        if rise > 0:
            self._raised = now
            self._set_ceiling(self._ceiling + rise)

    def waited(self, request: Request, *, answered: bool) -> None:
        """Count `request` as waiting no more; `answered` matters only while `is_paced`."""
        if self._shares is not None:
            self._give_back_share(self._shares, request)
        self._requests.discard(request)
        self.used -= WAITING_SIZE
        if not answered and self.is_paced:
            self._set_ceiling(self._ceiling - 1)

    def _give_back_share(self, shares: Shares, request: Request) -> None:
        if request in self._requests:
            shares.give_back(client_of(request.peer))
        if len(self._requests) * _ENOUGH < self._ceiling:
            self._shares = None
            self._set_ceiling(self._ceiling)

    def make_room(self) -> None:
        """Evict, from the store that holds most, until the limit is kept."""
        while self.used > self.limit:
            fullest = max(self.stores, key=lambda store: store.bytes, default=None)
            if fullest is None or not fullest.evict():
                return


_process: Budget | None = None


@before_reading
def _show_used() -> None:
    if _process is not None:
        MEMORY.value = _process.used


def process_budget() -> Budget:
    """Return the budget that all caches of this process share."""
    global _process
    if _process is None:
        _process = Budget(default_limit())
    return _process


def default_limit(root: Path = Path("/")) -> int:
    """Return the budget in bytes for this machine: half of what is left under the cgroup's limit.

    The rest is for what Python's allocator and the kernel's buffers take beside what is counted.
    Without such a limit it is a quarter of the machine's memory, a gibibyte at most.
    """
    limit = cgroup_limit(root)
    if limit is None:
        return min(max(_memory_total(root) // 4, SMALLEST), _LARGEST_DEFAULT)
    return max((limit - _resident(root)) // 2, SMALLEST)


def _resident(root: Path) -> int:
    fields = read_text(root / "proc/self/statm").split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") if len(fields) > 1 else 0


def _memory_total(root: Path) -> int:
    for line in read_text(root / "proc/meminfo").splitlines():
        name, _, rest = line.partition(":")
        if name == "MemTotal":
            return int(rest.split()[0]) * 1024
    return 0
