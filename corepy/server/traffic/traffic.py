"""`Traffic`: counts the queries of a process, and looks at a sample of them.

The counts of replies, and the latencies of queries that had to wait, are exact. The packet cache
counts hits itself and reports them in bulk (`HitCount`), so they cost a query nothing. All else is
estimated from selected queries. There is a sampler for each kind of query: those that the packet
cache answers, those that their chain answers at once, and those whose chain has to wait. The latter
are fewer and of more interest.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from struct import Struct
from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol

from corepy.dns.address import address_bytes
from corepy.dns.constants import NXDOMAIN, OPCODE_STATUS, SERVFAIL
from corepy.server.contain.failure_report import report_background
from corepy.server.traffic.history import COUNTERS, INTERVAL, History
from corepy.server.traffic.latency import BOUNDS, BUCKETS
from corepy.server.traffic.sampler import BUDGET, WATCHED_BUDGET, Sampler
from corepy.server.traffic.top import TopQueries
from corepy.server.traffic.watchers import NO_REPLY, Sighting, Watchers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from corepy.dns import Reply, Request, RequestContext

RCODES: Final = 17
"""Counters of replies: one for each value of the header's rcode, and one for extended rcodes."""

EXTENDED: Final = 16

_QUESTION: Final = Struct("!HH")
_KEY_NAME: Final = 10
"""Position of the name in the key of a packet cache: a query without its ID."""


class Answer(Protocol):
    """A reply in the packet cache (`corepy.server.listen.packet_cache.CachedReply`)."""

    size: int
    """Bytes of the reply without its ID."""

    @property
    def rcode(self) -> int:
        """The rcode in the header."""


class HitCount:
    """Counts the packet cache's repetitions of replies with one rcode (`HitCounter`)."""

    __slots__ = ("hits",)

    def __init__(self) -> None:
        self.hits = 0

    def count_hits(self, times: int) -> None:
        """Count `times` repetitions."""
        self.hits += times


class Traffic:
    """The queries of one process; used in its event loop."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        """`clock` returns monotonic seconds."""
        self.rcodes = [0] * RCODES
        """Replies that the packet cache did not make, by rcode."""
        self.hit_counts = tuple(HitCount() for _ in range(RCODES))
        """Replies of the packet cache, by rcode."""
        self.unanswered = 0
        """Queries that a plugin has dropped."""
        self.waited = 0
        """Queries whose chain did not reply at once."""
        self.latency = [0] * BUCKETS
        self.repeated = Sampler()
        """Selects among the queries that the packet cache answers."""
        self.at_once = Sampler()
        """Selects among the queries that their chain answers at once."""
        self.late = Sampler()
        """Selects among the queries whose chain has to wait."""
        self.top = TopQueries(clock)
        self.history = History()
        self.watchers = Watchers(self._watch)
        self._timer: asyncio.TimerHandle | None = None
        self.before_tick: Callable[[], None] = lambda: None
        """Makes the packet caches report their hits."""

    def start(self) -> None:
        """Record the history from now on; does nothing if it is recorded already."""
        if self._timer is None:
            self._arm(0.0)

    def stop(self) -> None:
        """Stop recording, and end the clients of `corepy tail`."""
        for name in list(self.watchers.active):
            self.watchers.remove(name)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, least: float) -> None:
        """Set the timer for the next record, at least `least` seconds from now."""
        # time of day: the records of all processes end at the same times
        delay = INTERVAL - time.time() % INTERVAL
        if delay < least:  # this one was early: the clock was set, or is less precise
            delay += INTERVAL
        self._timer = asyncio.get_running_loop().call_later(delay, self._tick)

    def _tick(self) -> None:
        self._arm(INTERVAL / 2)
        self.before_tick()
        self.history.record(self.totals(), time.time())  # time of day: for the reader of a graph
        self.top.tick()
        self.watchers.tick()
        now = monotonic()
        for sampler in self._samplers:
            sampler.look_sooner(now)

    @property
    def _samplers(self) -> tuple[Sampler, ...]:
        return self.repeated, self.at_once, self.late

    @property
    def hits(self) -> int:
        """The number of queries that the packet caches have answered."""
        return sum(count.hits for count in self.hit_counts)

    def replies(self) -> list[int]:
        """Return the number of replies by rcode."""
        return [own + hit.hits for own, hit in zip(self.rcodes, self.hit_counts, strict=True)]

    def totals(self) -> list[int]:
        """Return the numbers of a record of the history since the start."""
        replies = self.replies()
        queries = sum(replies) + self.unanswered
        counters = {
            "queries": queries,
            "packet_cache_hits": self.hits,
            "waited": self.waited,
            "nxdomain": replies[NXDOMAIN],
            "servfail": replies[SERVFAIL],
            "unanswered": self.unanswered,
        }
        return [*(counters[name] for name in COUNTERS), *self.latency]

    def count_refusal(self, message: bytes) -> None:
        """Count a reply to a message that is not accepted.

        Those of opcode STATUS do not count: they are self-checks of this server, or of another
        process of it.
        """
        if message[2] >> 3 & 15 != OPCODE_STATUS:
            self.rcodes[message[3] & 15] += 1

    def look_at_once(self, request: Request, reply: Reply, sent: bytes) -> None:
        """Count the selected query that its chain has answered at once with `sent`.

        `sent` is empty if there was no reply.
        """
        now = monotonic()
        seconds = now - request.received
        weight = self.at_once.select(now)
        self.latency[bisect_left(BOUNDS, seconds)] += weight
        self._look(request, reply, sent, seconds, weight)

    def count_late(self, request: Request, reply: Reply, sent: bytes) -> None:
        """Count a query whose chain had to wait, and look at it if it is selected."""
        now = monotonic()
        seconds = now - request.received
        self.waited += 1
        self.latency[bisect_left(BOUNDS, seconds)] += 1
        late = self.late
        late.left -= 1
        if late.left <= 0:
            self._look(request, reply, sent, seconds, late.select(now))

    def _look(
        self, request: Request, reply: Reply, sent: bytes, seconds: float, weight: int
    ) -> None:
        size, rcode = len(sent), NO_REPLY
        if sent:
            rcode = reply.extended_rcode << 4 | sent[3] & 15
        elif reply.series is not None and reply.series.is_ended:
            size, rcode = reply.series.size, reply.wire[3] & 15
        question = request.name_wire, request.qtype, request.qclass
        self._count(
            Sighting(*question, rcode, seconds, size, request.context, request.client, reply),
            weight,
        )

    def _count(self, seen: Sighting, weight: int) -> None:
        """Count a selected query in the tables, and show it to those who watch.

        It has been answered, so a failure must not harm it.
        """
        try:
            client = address_bytes(seen.address)
            self.top.window.count(client, seen.name, seen.rcode, weight)
            if self.watchers.active:
                self.watchers.show(seen, client, weight)
        except Exception as error:  # a plugin may have put anything into the request
            report_background(error, "a query could not be shown")

    def look_at_hit(
        self, context: RequestContext, key: bytes, client: object, entry: Answer, now: float
    ) -> None:
        """Count the selected query that the packet cache has answered from `entry`.

        `key` is the query without its ID, and `now` the monotonic time in seconds at which the
        query was received.
        """
        seconds = monotonic() - now
        weight = self.repeated.select(now)
        self.latency[bisect_left(BOUNDS, seconds)] += weight
        name = key[_KEY_NAME : _end_of_name(key, _KEY_NAME)]
        qtype, qclass = _QUESTION.unpack_from(key, _KEY_NAME + len(name))
        question = name, qtype, qclass
        details = entry.rcode, seconds, entry.size + 2
        self._count(Sighting(*question, *details, context, client, None), weight)

    def _watch(self, is_watched: bool) -> None:
        """Look at more queries while `corepy tail` runs."""
        budget = WATCHED_BUDGET if is_watched else BUDGET
        for sampler in self._samplers:
            sampler.set_budget(budget)


def _end_of_name(wire: bytes, at: int) -> int:
    """Return the end of the uncompressed name that starts at `at`."""
    length = wire[at]
    while length:
        at += length + 1
        length = wire[at]
    return at + 1


def add_up(parts: Sequence[Sequence[int]]) -> list[int]:
    """Return the sums of equally long lists of numbers."""
    return [sum(numbers) for numbers in zip(*parts, strict=True)]
