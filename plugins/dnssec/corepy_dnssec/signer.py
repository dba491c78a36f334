"""`Signer`: makes signatures, each once, and caches them."""

from __future__ import annotations

import asyncio
import hashlib
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

from corepy.net.fair_queue import FairQueue
from corepy.plugin import Wakeups, in_thread
from corepy.zone.signatures import SignedData, Validity, signatures
from corepy_dnssec.jobs import Job, Signed, Waiting, Wanted
from corepy_dnssec.recent import Recent

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from corepy.zone.signing_keys import SigningKey
    from corepy_dnssec.metrics import Counts

DAY: Final = 24 * 3600
BEFORE: Final = 3 * 3600
"""Seconds before now from which a signature is valid, for clocks that differ from ours."""

VALID: Final = 8 * DAY
RENEWED: Final = 6 * DAY
"""Seconds for which a signature is valid, and after which it is renewed (CoreDNS: dnssec.go)."""

INLINE: Final = 0.001
"""Seconds of signing in one turn of the event loop; signatures above that are made in a thread."""

PORTION: Final = 0.01
"""Seconds of signing after which the thread returns its signatures."""

MOST_WAITING: Final = 1000
"""Queries that may wait for the thread; one client may have three quarters of them."""

TYPE_DNSKEY: Final = 48


class TooManyWaiting(Exception):
    """So many queries, or queries of one client, wait for signatures that no more are accepted."""


class Signer:
    """Signs record sets with some keys.

    If an algorithm has keys with the SEP bit and keys without it, the former sign only DNSKEY sets,
    and the latter all others. Otherwise each key of the algorithm signs every set: all sets need a
    signature of each algorithm (RFC 4035 section 2.2).
    """

    def __init__(self, keys: Sequence[SigningKey]) -> None:
        self.keys = tuple(keys)
        split = _split_algorithms(keys)
        self.is_split = bool(split)
        self._for_keys = tuple(it for it in keys if it.is_ksk or it.algorithm not in split)
        self._for_data = tuple(it for it in keys if not it.is_ksk or it.algorithm not in split)
        self._cost_of_keys = sum(it.cost for it in self._for_keys)
        self._cost_of_data = sum(it.cost for it in self._for_data)
        self._cache: Recent[Signed] = Recent(0)
        self._jobs: dict[bytes, Job] = {}
        self._queue: FairQueue[list[Job]] = FairQueue(MOST_WAITING)
        self._worker: asyncio.Task[None] | None = None
        self._portion: list[Job] = []
        """The jobs on which the thread works."""
        self._portions: SimpleQueue[list[Job]] | None = None
        self._spent = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self.wakeups: Wakeups
        """Resumes the queries that wait, from the first `sign` on."""

    def __len__(self) -> int:
        return len(self._cache)

    @property
    def capacity(self) -> int:
        """The number of record sets whose signatures are kept."""
        return self._cache.capacity

    @capacity.setter
    def capacity(self, value: int) -> None:
        self._cache.capacity = value

    def _keys_for(self, data: SignedData) -> tuple[SigningKey, ...]:
        return self._for_keys if data.rtype == TYPE_DNSKEY else self._for_data

    def _cost(self, wanted: Wanted) -> float:
        return self._cost_of_keys if wanted.data.rtype == TYPE_DNSKEY else self._cost_of_data

    def sign(
        self, wanted: Sequence[Wanted], now: int, client: bytes, counts: Counts
    ) -> list[Signed] | Waiting:
        """Return the signatures of record sets, at once if that takes less than `INLINE`.

        `now` is in seconds since 1970, `client` is from `client_of`. Raises TooManyWaiting.
        """
        self._enter(asyncio.get_running_loop())
        keys = [_digest(it) for it in wanted]
        found = [self._find(key, now) for key in keys]
        missing = found.count(None)
        counts.hits.value += len(wanted) - missing
        counts.misses.value += missing
        if missing and not self._may_sign_now(
            [it for it, signed in zip(wanted, found, strict=True) if signed is None]
        ):
            absent = {keys[at]: wanted[at] for at, signed in enumerate(found) if signed is None}
            self._ask_for(absent, now, client)
            return Waiting([it or self._jobs[keys[at]] for at, it in enumerate(found)])
        results = [it or self._made(keys[at], wanted[at], now) for at, it in enumerate(found)]
        counts.entries.value = len(self._cache)
        return results

    def _made(self, key: bytes, wanted: Wanted, now: int) -> Signed:
        """Return the new signatures of a record set; of two equal ones, the second has them."""
        return self._find(key, now) or self._add(key, self.make(wanted, now))

    def _enter(self, loop: asyncio.AbstractEventLoop) -> None:
        """Forget the work for an event loop that has ended, which is left undone."""
        if loop is not self._loop:
            self._end_thread()
            self._loop, self._worker, self._spent = loop, None, 0.0
            self.wakeups = Wakeups(loop)
            self._jobs.clear()
            self._queue.clear()

    def _find(self, key: bytes, now: int) -> Signed | None:
        """Return signatures from the cache unless they must be renewed."""
        signed = self._cache.get(key)
        return signed if signed is not None and signed.since <= now < signed.renewed else None

    def _add(self, key: bytes, signed: Signed) -> Signed:
        self._cache.put(key, signed)
        return signed

    def _may_sign_now(self, missing: Sequence[Wanted]) -> bool:
        """Return whether the event loop may make these signatures, and count their time."""
        cost = sum(map(self._cost, missing))
        if self._jobs or self._spent + cost > INLINE:
            return False
        if not self._spent:
            assert self._loop is not None
            self._loop.call_soon(self.begin_turn)
        self._spent += cost
        return True

    def begin_turn(self) -> None:
        """Allow `INLINE` seconds of signing in this turn of the event loop."""
        self._spent = 0.0

    def make(self, wanted: Wanted, now: int) -> Signed:
        """Return new signatures of a record set."""
        validity = Validity(now - BEFORE, now + VALID)
        rdatas = signatures(wanted.data, self._keys_for(wanted.data), wanted.zone, validity)
        return Signed(rdatas, validity.inception, now + RENEWED)

    def _ask_for(self, missing: dict[bytes, Wanted], now: int, client: bytes) -> None:
        """Queue the jobs for record sets, each one once for all queries that wait for it."""
        jobs = [Job(it, key, now) for key, it in missing.items() if key not in self._jobs]
        if not jobs:
            return
        if not self._queue.put(client, jobs):
            raise TooManyWaiting
        self._jobs.update((job.key, job) for job in jobs)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work(), name="sign record sets")

    async def _work(self) -> None:
        """Let a thread work on the queue, and return when it is empty.

        The start of a thread takes as long as ten signatures, so one makes all portions.
        """
        while len(self._queue):
            portions = self._portions = SimpleQueue()
            self._give_portion(portions)
            try:
                await in_thread(partial(self._make_all, portions, asyncio.get_running_loop()))
            except BaseException as error:
                self._end_thread()
                self._fail(self._portion, error)
                if isinstance(error, Exception):
                    return  # the queries that wait for it report it
                raise

    def _give_portion(self, portions: SimpleQueue[list[Job]]) -> None:
        """Give the thread its next portion; an empty one ends it."""
        self._portion = self._next_portion()
        portions.put(self._portion)

    def _end_thread(self) -> None:
        """Let the thread end after its portion, whose results are ignored."""
        if self._portions is not None:
            self._portions.put([])
            self._portions = None

    def _make_all(self, portions: SimpleQueue[list[Job]], loop: asyncio.AbstractEventLoop) -> None:
        """Make the signatures of all portions; runs in the thread."""
        while portion := portions.get():
            results = [self.make(job.wanted, job.now) for job in portion]
            loop.call_soon_threadsafe(self._deliver, portions, results)

    def _deliver(self, portions: SimpleQueue[list[Job]], results: Sequence[Signed]) -> None:
        """Pass the signatures of a portion on, and give the thread the next one."""
        if portions is not self._portions:  # the work was cancelled
            return
        portion = self._portion
        self._give_portion(portions)  # the thread works while the queries resume
        self.wakeups.hold()
        for job, signed in zip(portion, results, strict=True):
            job.signed = self._add(job.key, signed)
            del self._jobs[job.key]
            job.end()
        self.wakeups.release()

    def _next_portion(self) -> list[Job]:
        """Return jobs for about `PORTION` seconds, and all of at least one query."""
        portion: list[Job] = []
        cost = 0.0
        for jobs in self._queue.take(MOST_WAITING):
            portion += jobs
            cost += sum(self._cost(job.wanted) for job in jobs)
            if cost >= PORTION:
                break
        return portion

    def _fail(self, portion: list[Job], error: BaseException) -> None:
        """Fail this portion and all that waits."""
        waiting = [job for jobs in self._queue.take(MOST_WAITING) for job in jobs]
        reason = error if isinstance(error, Exception) else asyncio.CancelledError()
        for job in (*portion, *waiting):
            self._jobs.pop(job.key, None)
            job.end(reason)

    def close(self) -> None:
        """Stop making signatures."""
        if self._worker is not None:
            self._worker.cancel()


def _split_algorithms(keys: Iterable[SigningKey]) -> frozenset[int]:
    """Return the algorithms that have both keys with the SEP bit and keys without it."""
    ksks, zsks = (
        {key.algorithm for key in keys if key.is_ksk == is_ksk} for is_ksk in (True, False)
    )
    return frozenset(ksks & zsks)


def _digest(wanted: Wanted) -> bytes:
    """Return the key of a record set in the cache."""
    return hashlib.blake2b(wanted.zone + wanted.data.records, digest_size=16).digest()


_signers: WeakValueDictionary[tuple[bytes, ...], Signer] = WeakValueDictionary()


def signer_for(keys: Sequence[SigningKey], capacity: int) -> Signer:
    """Return the signer of some keys, which all directives and generations with them share.

    So the signatures survive a reload. `capacity` is that of the last directive.
    """
    unique = {key.rdata: key for key in keys}
    ident = tuple(sorted(unique))
    signer = _signers.get(ident)
    if signer is None:
        signer = _signers[ident] = Signer(list(unique.values()))
    signer.capacity = capacity
    return signer
