"""`Signer`: makes signatures, each once, and caches them."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple
from weakref import WeakValueDictionary

from corepy.plugin import in_thread
from corepy.zone.signatures import SignedData, Validity, signatures

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

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
"""Seconds of signing after which a thread returns its signatures."""

MOST_WAITING: Final = 1000
"""Record sets that may wait for the thread; a query that needs more is refused."""

TYPE_DNSKEY: Final = 48


class Wanted(NamedTuple):
    """A record set to sign, and the zone that signs it, in wire form and lower case."""

    data: SignedData
    zone: bytes


class Signed(NamedTuple):
    """The signatures of a record set."""

    rdatas: tuple[bytes, ...]
    since: int
    renewed: int
    """The time from which the signatures are used, and at which they are renewed; since 1970."""


class TooManyWaiting(Exception):
    """So many record sets wait for their signatures that no further ones are accepted."""


class _Job(NamedTuple):
    wanted: Wanted
    key: bytes
    now: int
    future: asyncio.Future[Signed]


class Signer:
    """Signs record sets with some keys.

    If there are keys with the SEP bit and keys without it, the former sign only DNSKEY sets, and
    the latter all others. Otherwise every key signs every set.
    """

    def __init__(self, keys: Sequence[SigningKey]) -> None:
        self.keys = tuple(keys)
        ksks = tuple(key for key in keys if key.is_ksk)
        zsks = tuple(key for key in keys if not key.is_ksk)
        self.is_split = bool(ksks and zsks)
        self._for_keys, self._for_data = (ksks, zsks) if self.is_split else (self.keys, self.keys)
        self.capacity = 0
        """The number of record sets whose signatures are kept."""
        self._cache: dict[bytes, Signed] = {}
        self._jobs: dict[bytes, _Job] = {}
        self._queue: deque[_Job] = deque()
        self._worker: asyncio.Task[None] | None = None
        self._spent = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None

    def __len__(self) -> int:
        return len(self._cache)

    def _keys_for(self, data: SignedData) -> tuple[SigningKey, ...]:
        return self._for_keys if data.rtype == TYPE_DNSKEY else self._for_data

    def sign(
        self, wanted: Sequence[Wanted], now: int, counts: Counts
    ) -> list[Signed] | Awaitable[list[Signed]]:
        """Return the signatures of record sets, at once if that takes less than `INLINE`.

        `now` is in seconds since 1970. Raises TooManyWaiting.
        """
        self._enter(asyncio.get_running_loop())
        keys = [_digest(it) for it in wanted]
        found = [self._find(key, now) for key in keys]
        missing = [it for it, signed in zip(wanted, found, strict=True) if signed is None]
        counts.hits.value += len(wanted) - len(missing)
        counts.misses.value += len(missing)
        if missing and not self._may_sign_now(missing):
            return self._wait(wanted, keys, found, now)
        results = []
        for it, key, signed in zip(wanted, keys, found, strict=True):
            results.append(signed or self._find(key, now) or self._add(key, self.make(it, now)))
        counts.entries.value = len(self._cache)
        return results

    def _enter(self, loop: asyncio.AbstractEventLoop) -> None:
        """Forget the work for an event loop that has ended, which is left undone."""
        if loop is not self._loop:
            self._loop, self._worker, self._spent = loop, None, 0.0
            self._jobs.clear()
            self._queue.clear()

    def _find(self, key: bytes, now: int) -> Signed | None:
        """Return signatures from the cache unless they must be renewed."""
        signed = self._cache.pop(key, None)
        if signed is None or not signed.since <= now < signed.renewed:
            return None
        self._cache[key] = signed  # the least recently used ones are at the beginning
        return signed

    def _add(self, key: bytes, signed: Signed) -> Signed:
        self._cache[key] = signed
        while len(self._cache) > self.capacity:
            del self._cache[next(iter(self._cache))]
        return signed

    def _may_sign_now(self, missing: Sequence[Wanted]) -> bool:
        """Return whether the event loop may make these signatures, and count their time."""
        cost = sum(map(self._cost, missing))
        if self._jobs or self._spent + cost > INLINE:
            return False
        if not self._spent:
            assert self._loop is not None
            self._loop.call_soon(self._begin_turn)
        self._spent += cost
        return True

    def _begin_turn(self) -> None:
        self._spent = 0.0

    def _cost(self, wanted: Wanted) -> float:
        return sum(key.cost for key in self._keys_for(wanted.data))

    def make(self, wanted: Wanted, now: int) -> Signed:
        """Return new signatures of a record set."""
        validity = Validity(now - BEFORE, now + VALID)
        rdatas = signatures(wanted.data, self._keys_for(wanted.data), wanted.zone, validity)
        return Signed(rdatas, validity.inception, now + RENEWED)

    async def _wait(
        self, wanted: Sequence[Wanted], keys: list[bytes], found: list[Signed | None], now: int
    ) -> list[Signed]:
        """Return the signatures when the thread has made the missing ones."""
        jobs = [
            signed or self._job(it, key, now)
            for it, key, signed in zip(wanted, keys, found, strict=True)
        ]
        return [it if isinstance(it, Signed) else await asyncio.shield(it.future) for it in jobs]

    def _job(self, wanted: Wanted, key: bytes, now: int) -> _Job:
        """Return the job for a record set, the same one for all queries that wait for it."""
        job = self._jobs.get(key)
        if job is None:
            if len(self._jobs) >= MOST_WAITING:
                raise TooManyWaiting
            job = _Job(wanted, key, now, asyncio.get_running_loop().create_future())
            self._jobs[key] = job
            self._queue.append(job)
            if self._worker is None or self._worker.done():
                self._worker = asyncio.create_task(self._work(), name="sign record sets")
        return job

    async def _work(self) -> None:
        """Let a thread work on the queue, and return when it is empty."""
        while self._queue:
            portion = self._next_portion()
            try:
                results = await in_thread(partial(self._make_all, portion))
            except BaseException as error:
                self._fail(portion, error)
                if isinstance(error, Exception):
                    return  # the queries that wait for it report it
                raise
            for job, signed in zip(portion, results, strict=True):
                self._add(job.key, signed)
                del self._jobs[job.key]
                job.future.set_result(signed)

    def _next_portion(self) -> list[_Job]:
        portion, cost = [], 0.0
        while self._queue and cost < PORTION:
            job = self._queue.popleft()
            cost += self._cost(job.wanted)
            portion.append(job)
        return portion

    def _make_all(self, portion: list[_Job]) -> list[Signed]:
        return [self.make(job.wanted, job.now) for job in portion]

    def _fail(self, portion: list[_Job], error: BaseException) -> None:
        """Fail this portion and all that waits."""
        for job in (*portion, *self._queue):
            self._jobs.pop(job.key, None)
            if isinstance(error, Exception):
                job.future.set_exception(error)
                job.future.exception()  # read, for a query that waits for several or has ended
            else:
                job.future.cancel()
        self._queue.clear()

    def close(self) -> None:
        """Stop making signatures."""
        if self._worker is not None:
            self._worker.cancel()


def _digest(wanted: Wanted) -> bytes:
    """Return the key of a record set in the cache."""
    data = wanted.data
    digest = hashlib.blake2b(wanted.zone, digest_size=16)
    digest.update(data.records)
    return digest.digest()


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
