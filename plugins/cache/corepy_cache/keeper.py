"""What one cache keeps: two stores, who is looked up first, and who replaces whom.

After CoreDNS's plugin/cache/handler.go (getIfNotStale) and cache.go (WriteMsg, set). The newest
truth wins: a positive reply removes a kept denial and the other way round, except under
`prefer_positive`. CoreDNS leaves the loser in place, so that a name that was deleted can come back
from its cache once the denial has expired.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Final, cast
from weakref import WeakKeyDictionary

from corepy.dns import constants as c
from corepy.dns.edns import EDE_CACHED_ERROR, OPTION_EDE, ede, option, parse_options
from corepy.dns.names import is_subdomain
from corepy.dns.wire import FormError, set_ttls
from corepy.plugin.metrics import Value, before_reading
from corepy_cache.entry import Entry
from corepy_cache.meters import Meters
from corepy_cache.store import Store
from corepy_cache.subnet import Networks
from corepy_cache.verdict import NEVER, Verdict, judge, matches

if TYPE_CHECKING:
    from corepy.dns import Reply, Request
    from corepy_cache.memory import Budget
    from corepy_cache.settings import Settings
    from corepy_cache.subnet import Subnet

WILDCARD: Final = "zone/wildcard"
"""Metadata that says which wildcard record a reply came from; it is kept with the reply."""

LONGEST_STEP: Final = 5
"""Seconds after which an upstream that did not answer is asked again at the latest."""

_FORGET_FAILURES: Final = 60.0
_UNUSUAL: Final = tuple(bytes((bits,)) for bits in range(8))
"""By CD (1), missing RD (2) and DO (4)."""


def key_of(request: Request) -> bytes:
    """Return what a reply is kept under: name, type, class and, where unusual, CD, RD and DO.

    All bytes are compared, not a hash of them. A name tells its own length, so no two keys are
    spelled alike. RD counts (CoreDNS leaves it out), or one client could have what an upstream says
    to a query without RD given to all others.
    """
    wire, key, edns = request.wire, request.asked, request.edns
    with_do = edns is not None and edns.do
    if wire[2] & 1 and not wire[3] & c.FLAG_CD and not with_do:
        return key
    return key + _UNUSUAL[wire[3] >> 4 & 1 | ~wire[2] << 1 & 2 | with_do << 2]


def subnet_key_of(request: Request, suffix: bytes) -> bytes:
    """Return what a reply for the clients of one subnet is kept under; see `Networks`.

    CD, RD and DO always stand before `suffix`, so this is none of the keys that `key_of` makes.
    """
    wire = request.wire
    flags = _UNUSUAL[wire[3] >> 4 & 1 | ~wire[2] << 1 & 2 | request.do << 2]
    return request.asked + flags + suffix


def back_off(failures: int) -> int:
    """Return for how many seconds the `failures`-th failure in a row holds (RFC 9520 section 3.2:
    at least one, growing).
    """
    return int(min(1 << min(failures - 1, 8), LONGEST_STEP))


_UNCOUNTED: Final = cast(
    Meters, SimpleNamespace(success_hits=Value(), denial_hits=Value(), misses=Value())
)
_DENIALS: Final = (c.NOERROR, c.NXDOMAIN)

_shown: Final[WeakKeyDictionary[Keeper, list[Meters]]] = WeakKeyDictionary()
"""The caches in use, and the gauges that show how many entries each has. Of two generations of a
cache, which have gauges in common for a moment, the newer one comes last.
"""


@before_reading
def _show_sizes() -> None:
    for keeper, shown in list(_shown.items()):
        for meters in shown:
            meters.success_entries.value = len(keeper.success.entries)
            meters.denial_entries.value = len(keeper.denial.entries)


class Keeper:
    """The entries of one *cache* directive."""

    def __init__(self, settings: Settings, budget: Budget, clock: Callable[[], float]) -> None:
        self.success = Store(settings.success.capacity, budget)
        self.denial = Store(settings.denial.capacity, budget)
        self.networks = Networks()
        self.budget = budget
        self.settings = settings
        self.clock = clock
        # An entry can be used while more seconds than this are left; stale ones have less than 1.
        self._least = -settings.stale.up_to
        self._prefers_positive = settings.stale.prefer_positive and settings.stale.up_to > 0

    def show(self, meters: Meters) -> None:
        """Let the gauges of `meters` show how many entries there are, whenever they are read."""
        _shown.setdefault(self, []).append(meters)

    def find(self, key: bytes, now: float, meters: Meters) -> Entry | None:
        """Return the entry to answer from, fresh or stale."""
        least = self._least
        good = self.success.get(key)
        if self._prefers_positive and good is not None:
            preferred = good if good.answers else good.last_good
            if preferred is not None and preferred.left(now) > least:
                meters.success_hits.value += 1
                good.used = True
                return preferred
        if good is not None and now - good.stored >= good.ttl - least:  # left(now) <= least
            good = None
        bad = self.denial.get(key)
        if (
            bad is not None
            and bad.rcode not in _DENIALS
            and (good is not None or bad.left(now) <= 0)
        ):
            bad = None  # a failure passes: it never stands before an answer, nor is it served stale
        if bad is None or bad.left(now) <= least:
            if good is not None:
                meters.success_hits.value += 1
            else:
                meters.misses.value += 1
            return good
        meters.denial_hits.value += 1
        return bad

    def find_for(
        self, request: Request, subnet: Subnet, now: float, meters: Meters
    ) -> Entry | None:
        """Return the fresh entry for clients of `subnet`; none is served stale."""
        for suffix in self.networks.keys(subnet):
            key = subnet_key_of(request, suffix)
            for store in (self.success, self.denial):
                entry = store.get(key)
                if entry is not None and entry.left(now) > 0:
                    hits = meters.denial_hits if entry.denial else meters.success_hits
                    hits.value += 1
                    entry.used = True
                    return entry
        meters.misses.value += 1
        return None

    def peek(self, key: bytes, now: float) -> Entry | None:
        """Return what `find` would, and change nothing."""
        good = self.success.get(key)
        used = good is not None and good.used
        entry = self.find(key, now, _UNCOUNTED)
        if good is not None:
            good.used = used
        return entry

    def keep(
        self,
        key: bytes,
        request: Request,
        reply: Reply,
        meters: Meters,
        *,
        refresh: bool = False,
        options: bytes = b"",
    ) -> tuple[Verdict | None, Entry | None]:
        """Keep `reply` under `key` if it may be kept, and make it what the client gets.

        `options` are EDNS options to keep with a positive or negative reply.

        Returns what the reply is (None if it answers another question or cannot be read) and what
        was kept. A failed `refresh` is not kept: it must not take the place of what is there. A
        positive or negative reply that may not be kept still removes what it outdates.
        """
        if not matches(reply, request):
            meters.drops.value += 1
            return None, None
        try:
            edns = request.edns
            do = edns is not None and edns.do
            verdict = judge(reply, request, time.time() if do else None)
            offsets = reply.ttl_offsets
        except FormError:
            return None, None
        settings, failures = self.settings, 0
        if verdict.failure:
            failures = self._failures(key, reply)
            ttl = self._hold(failures)
        else:
            ttl = (settings.denial if verdict.denial else settings.success).clamp(verdict.ttl)
        # A transfer's TTLs are its content.
        if not (verdict.uniform and verdict.ttl == ttl) and verdict.kind not in NEVER:
            wire = bytearray(reply.wire)
            set_ttls(wire, offsets, ttl)
            reply.wire = bytes(wire)
        entry = None
        is_passing = verdict.failure and (refresh or reply.is_momentary)
        if verdict.keep and ttl > 0 and not is_passing:
            entry = Entry(key, request, reply.wire, offsets, ttl, self.clock())
            if options:
                entry.options = options
            if failures:
                entry.failures = failures
            entry = self._put(entry, verdict, request, reply, meters)
        if entry is None and verdict.settles:
            self._end(key, verdict)
        if reply.wire[3] & c.FLAG_AD and not (do or request.ad):
            clear_ad(reply)
        return verdict, entry

    def _failures(self, key: bytes, reply: Reply) -> int:
        """Return how many times in a row there was no reply from any upstream, 0 if there is one.

        Whoever asks the upstreams says so in `Reply.error`.
        """
        if reply.error is None:
            return 0
        before, now = self.denial.get(key), self.clock()
        if before is None or now - before.stored > _FORGET_FAILURES:
            return 1
        if before.left(now) > 0:
            # Nobody has asked since it was kept: these clients waited for the same resolution.
            return max(1, before.failures)
        return before.failures + 1

    def _hold(self, failures: int) -> int:
        """Return for how long a failure is kept."""
        longest = self.settings.servfail
        return min(longest, back_off(failures)) if failures else longest

    def _put(
        self, entry: Entry, verdict: Verdict, request: Request, reply: Reply, meters: Meters
    ) -> Entry | None:
        denial = verdict.denial or verdict.failure
        bounds = self.settings.denial if denial else self.settings.success
        for zone in bounds.except_zones:
            if is_subdomain(request.name_wire, zone):
                return None
        entry.denial = denial
        entry.answers = verdict.answers
        entry.wildcard = request.metadata.get(WILDCARD, "")
        if verdict.failure:
            entry.options = _failure_options(reply)
        self._replace(entry, verdict)
        store = self.denial if denial else self.success
        store.put(entry)
        if store.evicted:
            counter = meters.denial_evictions if denial else meters.success_evictions
            counter.value += store.evicted
            store.evicted = 0
        return entry

    def _replace(self, entry: Entry, verdict: Verdict) -> None:
        """Remove what `entry` outdates from the other store, and let it remember what is good."""
        if verdict.failure:
            return
        if not self._prefers_positive:
            other = self.success if verdict.denial else self.denial
            if entry.key in other.entries:
                other.remove(entry.key)
        elif entry.answers:
            self.denial.remove(entry.key)
        elif not verdict.denial:
            before = self.success.get(entry.key)
            if before is not None:
                entry.last_good = before if before.answers else before.last_good

    def _end(self, key: bytes, verdict: Verdict) -> None:
        """Forget what a reply outdates that is not kept itself."""
        self.denial.remove(key)
        if verdict.answers or not self._prefers_positive:
            self.success.remove(key)

    def clear(self) -> None:
        """Forget everything, for good: gauges show 0 unless another cache has them as well."""
        for meters in _shown.pop(self, ()):
            meters.success_entries.value = meters.denial_entries.value = 0
        self.success.clear()
        self.denial.clear()


def _failure_options(reply: Reply) -> bytes:
    """Return the extended errors to repeat with a kept failure (RFC 8914 section 4.14: 13)."""
    kept = [option(code, data) for code, data in parse_options(reply.options) if code == OPTION_EDE]
    return b"".join((*kept, ede(EDE_CACHED_ERROR)))


def clear_ad(reply: Reply) -> None:
    """Clear AD, for a client that has not asked for it (RFC 6840 section 5.8)."""
    wire = reply.wire
    reply.wire = b"".join((wire[:3], bytes(bits & ~c.FLAG_AD for bits in wire[3:4]), wire[4:]))


def restore(request: Request, reply: Reply, entry: Entry) -> None:
    """Give back what was kept beside the message."""
    reply.options = entry.options
    if entry.wildcard:
        request.metadata[WILDCARD] = entry.wildcard
