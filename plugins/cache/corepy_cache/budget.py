"""A memory budget for all caches of the process: cached replies and queries that wait for one.

CoreDNS bounds each cache only by its number of entries. So the memory that a configuration may need
is the product of its server blocks, and a slow upstream makes waiting queries grow without bound.
Here both are counted in bytes against one limit. Waiting queries evict cached replies, up to half
of the limit. Beyond that new misses fail while hits continue; the misses of the client with most
waiting queries fail first.

Waiting queries also cost time, especially queries that began at the same time. Thousands of queries
that time out within a few milliseconds delay every hit behind them. So the number of queries that
may wait rises only slowly above a number that any server can handle (`Budget.begin_wait`).
"""

from __future__ import annotations

from collections import Counter
from os import sysconf
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from corepy.net.connection_limit import GREED, Shares, client_of
from corepy.plugin.memory_limit import cgroup_limit, read_text
from corepy.plugin.metrics import before_reading
from corepy_cache.metrics import MEMORY, MEMORY_LIMIT

if TYPE_CHECKING:
    from corepy.dns import Request

WAITING_SIZE: Final = 4096
"""Bytes that a waiting query costs.

This covers its chain and the exchange with an upstream (3500 bytes each when 12,000 waited for
*forward*), and its share of the sockets' buffers.
"""

SMALLEST: Final = 4 << 20
"""Minimum default budget in bytes."""

BASE_CEILING: Final = 256
"""Queries that may begin to wait at once regardless of the budget; few enough to be harmless."""

MOST_BASE_CEILING: Final = 4000
PER_SECOND: Final = 1000
"""Growth per second of the number of waiting queries above that."""

_LONGEST_PAUSE: Final = 0.016
"""Seconds since the last rise that count towards the next one, at most."""

_FORGET_AFTER: Final = 10.0
"""Seconds without a rise after which the ceiling falls back and has to rise again."""

_ENOUGH: Final = 4
"""The ceiling must exceed this many times the waiting queries before shares are discarded.

Shares are counted per client. The threshold is far from scarcity, because counting begins with a
scan of all waiting queries.
"""

_LARGEST_DEFAULT: Final = 1 << 30


class Evictable(Protocol):
    """A table of entries, as the budget uses it; see `entry_table.EntryTable`."""

    bytes: int
    """The memory that its entries use."""

    def evict(self) -> bool:
        """Evict the least useful entry; returns False if there is none."""


class Budget:
    """The memory in use and its limit; one per process, see `process_budget`."""

    def __init__(self, limit: int) -> None:
        self.used = 0
        """Bytes in use by entries and waiting queries."""
        self._requests: dict[Request, object] = {}
        """The queries that wait for a reply from below a cache; see `begin_wait` and `end_wait`.

        Each has its client's address at `begin_wait`: a handler below may set another one.
        """
        self._shares: Shares | None = None
        """The number of waiting queries per client; None while there is enough room."""
        self.tables: set[Evictable] = set()
        """The tables that may have entries."""
        self._default = limit
        self._processes = 1
        self._requested_limits: dict[object, int] = {}
        self._raised = 0.0
        self.is_ceiling_raised = False
        """Whether the ceiling has risen; it then falls with each unanswered query."""
        self._set(limit)

    @property
    def waiting(self) -> int:
        """The number of queries that wait for a reply from below a cache."""
        return len(self._requests)

    def _set(self, whole: int) -> None:
        self.limit = limit = whole // self._processes
        MEMORY_LIMIT.value = float(limit)
        most = self.most_waiting = limit // 2 // WAITING_SIZE
        self._base_ceiling = max(min(most // 2, MOST_BASE_CEILING), min(most, BASE_CEILING))
        self._set_ceiling(self._base_ceiling)

    def _set_ceiling(self, ceiling: int) -> None:
        self._ceiling = ceiling
        self.is_ceiling_raised = ceiling > self._base_ceiling
        if self._shares is None:
            # With fewer waiting queries no client can exceed its share in `Shares`.
            self._plenty = -(-GREED * ceiling // (GREED + 1))

    def divide(self, processes: int) -> None:
        """Divide the limit equally among the `processes` of this server."""
        if processes != self._processes:
            self._processes = processes
            self._set(min(self._requested_limits.values(), default=self._default))
            self.make_room()

    def request_limit(self, owner: object, limit: int) -> None:
        """Set the limit in bytes that `owner` requests; the lowest request applies."""
        self._requested_limits[owner] = limit
        self._set(min(self._requested_limits.values()))
        self.make_room()

    def withdraw_request(self, owner: object) -> None:
        """Remove the request of `owner`, if any."""
        self._requested_limits.pop(owner, None)
        self._set(min(self._requested_limits.values(), default=self._default))

    def begin_wait(self, request: Request) -> bool:
        """Count `request` as waiting; returns False if the limit is reached.

        A fixed number may always wait; above it the ceiling rises by `PER_SECOND`. An answered
        query frees its place for the next one at once; an unanswered one also lowers the ceiling.
        So a distant but healthy upstream gets as many queries as it can answer. Queries to an
        unresponsive one neither begin nor end all at the same time. A client with most of the
        places gets no more while others may need them (`Shares`); this costs nothing while there is
        enough room.
        """
        requests = self._requests
        if len(requests) >= self._plenty and not self._take_share(request):
            return False
        requests.setdefault(request, request.client)
        self.used += WAITING_SIZE
        if self.used > self.limit:
            self.make_room()
        return True

    def _take_share(self, request: Request) -> bool:
        requests, shares = self._requests, self._shares
        if request in requests:
            return True  # two caches in one chain
        if shares is None:
            shares = self._shares = Shares()
            shares.held.update(Counter(map(client_of, requests.values())))
            self._plenty = 0
        client = client_of(request.client)
        if shares.take(client, self._ceiling - len(requests)):
            return True
        self._rise(request.received)
        return shares.take(client, self._ceiling - len(requests))

    def _rise(self, now: float) -> None:
        elapsed = now - self._raised
        if elapsed > _FORGET_AFTER:
            self._set_ceiling(max(self._base_ceiling, self.waiting))
        room = self.most_waiting - self._ceiling
        rise = min(int(min(elapsed, _LONGEST_PAUSE) * PER_SECOND), room)
        if rise > 0:
            self._raised = now
            self._set_ceiling(self._ceiling + rise)

    def end_wait(self, request: Request, *, answered: bool) -> None:
        """Stop counting `request` as waiting; `answered` matters only while `is_ceiling_raised`."""
        if self._shares is not None:
            self._give_back_share(self._shares, request)
        self._requests.pop(request, None)
        self.used -= WAITING_SIZE
        if not answered and self.is_ceiling_raised:
            self._set_ceiling(self._ceiling - 1)

    def _give_back_share(self, shares: Shares, request: Request) -> None:
        if request in self._requests:
            shares.give_back(client_of(self._requests[request]))
        if len(self._requests) * _ENOUGH < self._ceiling:
            self._shares = None
            self._set_ceiling(self._ceiling)

    def make_room(self) -> None:
        """Evict entries from the largest store until the usage is within the limit."""
        while self.used > self.limit:
            fullest = max(self.tables, key=lambda table: table.bytes, default=None)
            if fullest is None or not fullest.evict():
                return


_process: Budget | None = None


@before_reading
def _show_used() -> None:
    if _process is not None:
        MEMORY.value = float(_process.used)


def process_budget() -> Budget:
    """Return the budget that all caches of this process share."""
    global _process
    if _process is None:
        _process = Budget(default_limit())
    return _process


def default_limit(root: Path = Path("/")) -> int:
    """Return the default budget in bytes: half of the unused memory below the cgroup's limit.

    The other half is for memory that is not counted: Python's allocator and the kernel's buffers.
    Without a cgroup limit the budget is a quarter of the machine's memory, at most 1 GiB.
    """
    limit = cgroup_limit(root)
    if limit is None:
        return min(max(_memory_total(root) // 4, SMALLEST), _LARGEST_DEFAULT)
    return max((limit - _resident(root)) // 2, SMALLEST)


def _resident(root: Path) -> int:
    fields = read_text(root / "proc/self/statm").split()
    return int(fields[1]) * sysconf("SC_PAGE_SIZE") if len(fields) > 1 else 0


def _memory_total(root: Path) -> int:
    for line in read_text(root / "proc/meminfo").splitlines():
        name, _, rest = line.partition(":")
        if name == "MemTotal":
            return int(rest.split()[0]) * 1024
    return 0
