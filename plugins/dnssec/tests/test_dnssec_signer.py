"""The cache of signatures, and the queue of those that a thread makes."""

import asyncio
import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.dns import constants as c
from corepy.zone.signatures import SignedData, signed_data
from corepy.zone.signing_keys import SigningKey
from corepy_dnssec.jobs import Signed, Waiting, Wanted
from corepy_dnssec.metrics import Counts
from corepy_dnssec.recent import Recent
from corepy_dnssec.signer import (
    MOST_WAITING,
    PORTION,
    Signer,
    TooManyWaiting,
)

NOW = 1_800_000_000
ZONE = b"\4test\0"
SLOW = PORTION / 5
"""Seconds of a signature, so that a portion has five, and each one is made in the thread."""


def key(*, algorithm: int = 13, flags: int = 257, cost: float = SLOW, sign: Any = bytes):
    return SigningKey(ZONE, bytes((1, flags & 255, 3, algorithm)), algorithm, cost, sign)


def wanted(name: str, rtype: int = 1) -> Wanted:
    return Wanted(SignedData(rtype, 2, 60, name.encode()), ZONE)


def counts() -> Counts:
    return Counts.of("dns://:53")


# -- the cache


def test_values_that_are_used_once_do_not_evict_others():
    cache: Recent[int] = Recent(100)
    hot = [b"hot %d" % number for number in range(80)]
    for name in hot:
        cache.put(name, 1)
        assert cache.get(name) == 1
    for number in range(1000):
        cache.put(b"%d" % number, 2)
    assert all(cache.get(name) for name in hot)
    assert len(cache) == 100
    for number in range(1000):  # what is used no longer leaves
        cache.put(b"%d" % number, 2)
        cache.get(b"%d" % number)
    assert not any(cache.get(name) for name in hot)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("gp"), st.integers(0, 9))), st.integers(0, 6),
    st.integers(0, 6),
)  # fmt: skip
def test_the_cache_is_bounded(steps, first, second):
    """By its present capacity after each addition, and it returns the last value of each key."""
    cache: Recent[int] = Recent(first)
    put: dict[bytes, int] = {}
    for at, (step, number) in enumerate(steps):
        name = b"%d" % number
        if step == "p":
            cache.put(name, at)
            put[name] = at
            assert len(cache) <= cache.capacity
        else:
            assert cache.get(name) in (None, put.get(name))
        if at == len(steps) // 2:
            cache.capacity = second


# -- the keys


@pytest.mark.parametrize(
    ("keys", "for_keys", "for_data"),
    [
        ([(13, 257)], {13}, {13}),
        ([(13, 257), (13, 256)], {(13, 257)}, {(13, 256)}),
        # RFC 4035 section 2.2: a signature of each algorithm for each set
        ([(8, 257), (13, 256)], {8, 13}, {8, 13}),
        ([(8, 257), (8, 256), (13, 257)], {(8, 257), (13, 257)}, {(8, 256), (13, 257)}),
    ],
    ids=["one", "split", "two algorithms", "rollover to a key that is not split"],
)
def test_each_set_has_a_signature_of_each_algorithm(keys, for_keys, for_data):
    signer = Signer([key(algorithm=algorithm, flags=flags) for algorithm, flags in keys])
    for rtype, expected in ((48, for_keys), (1, for_data)):
        used = {(it.algorithm, it.flags) for it in signer._keys_for(wanted("x", rtype).data)}
        if not any(isinstance(it, tuple) for it in expected):
            used = {algorithm for algorithm, _ in used}
        assert used == expected


@pytest.mark.parametrize(
    ("rtype", "rdata", "expected"),
    [
        (c.TYPE_MX, b"AB\1X\0", b"AB\1x\0"),
        (c.TYPE_MX, b"AB\1x\0", b"AB\1x\0"),
        (c.TYPE_CNAME, b"\1x\0", b"\1x\0"),
        (c.TYPE_NSEC, b"\1X\0", b"\1X\0"),
        (c.TYPE_A, b"ABCD", b"ABCD"),
    ],
)
def test_only_names_are_signed_in_lower_case(rtype, rdata, expected):
    data = signed_data(b"\1O\0", rtype, 60, [rdata])
    assert data.records.startswith(b"\1o\0")
    assert data.records.endswith(expected)


# -- the queue


def waiting(signer: Signer, *names: str, client: bytes = b"") -> Any:
    """Ask for signatures; the result is awaitable."""
    result = signer.sign([wanted(name) for name in names], NOW, client, counts())
    assert isinstance(result, Waiting)
    return asyncio.ensure_future(made_for(result))


async def made_for(query: Waiting) -> list[Signed]:
    done = asyncio.Event()
    query.when_done(done.set)
    await done.wait()
    return query.result()


def found(signer: Signer, name: str) -> bool:
    return isinstance(signer.sign([wanted(name)], NOW, b"other", counts()), list)


def test_a_flood_of_one_client_delays_its_own_queries():
    """Others are refused nothing, and wait for two portions; cached sets do not wait at all."""

    async def flood():
        signer = Signer([key(sign=lambda data: made.append(data) or b"")])
        signer.capacity = 10
        await waiting(signer, "hot")
        many = [waiting(signer, f"random {it}", client=b"flood") for it in range(750)]
        for it in range(750, MOST_WAITING):
            with pytest.raises(TooManyWaiting):
                waiting(signer, f"random {it}", client=b"flood")
        assert found(signer, "hot")
        at = len(made)
        await waiting(signer, "cold", client=b"other")
        (turn,) = (turn for turn, data in enumerate(made) if b"cold" in data)
        assert turn - at <= 2 * PORTION / SLOW
        await asyncio.gather(*many)
        assert len(signer) == 10
        assert found(signer, "hot")
        assert not signer._jobs

    made: list[bytes] = []
    asyncio.run(flood())


def test_a_refused_query_leaves_nothing_to_do():
    async def refuse():
        signer = Signer([key()])
        signer._queue.most = 1
        first = waiting(signer, "a", "b")
        jobs = dict(signer._jobs)
        assert len(jobs) == 2
        with pytest.raises(TooManyWaiting):
            waiting(signer, "a", "c", "d")
        assert signer._jobs == jobs
        assert len(await waiting(signer, "b", "a")) == 2
        assert len(await first) == 2

    asyncio.run(refuse())


class HeldKey:
    """A key whose signatures wait, and the threads that made them."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []
        self.has_begun, self.may_end = threading.Event(), threading.Event()

    def sign(self, _: bytes) -> bytes:
        self.threads.append(threading.current_thread())
        self.has_begun.set()
        self.may_end.wait(60)
        return b""


def test_one_thread_makes_all_portions():
    """Also those of queries that come meanwhile; it ends when none waits."""

    async def bursts():
        signer = Signer([key(sign=held.sign)])
        signer.capacity = 100
        for burst in range(2):
            first = [waiting(signer, f"{burst} {it}") for it in range(12)]
            await asyncio.to_thread(held.has_begun.wait, 60)
            late = [waiting(signer, f"{burst} late {it}") for it in range(6)]
            held.may_end.set()
            await asyncio.gather(*first, *late)
            (thread,) = set(held.threads)
            held.threads.clear()
            held.has_begun.clear()
            held.may_end.clear()
            await asyncio.to_thread(thread.join, 60)
            assert not thread.is_alive()
        assert not signer._jobs

    held = HeldKey()
    asyncio.run(bursts())


def test_the_thread_ends_with_the_event_loop():
    """Its results are ignored, and a later event loop has a new one."""

    async def interrupted():
        query = waiting(signer, *map(str, range(10)))
        await asyncio.to_thread(held.has_begun.wait, 60)
        signer.close()
        with pytest.raises(asyncio.CancelledError):
            await query
        held.may_end.set()
        await asyncio.to_thread(held.threads[0].join, 60)
        assert not held.threads[0].is_alive()
        assert not signer._jobs

    async def again():
        assert await waiting(signer, "0")

    held = HeldKey()
    signer = Signer([key(sign=held.sign)])
    signer.capacity = 100
    asyncio.run(interrupted())
    assert len(signer) == 0
    asyncio.run(again())
    assert len(set(held.threads)) == 2


def test_work_in_the_event_loop_is_bounded_in_each_turn():
    """A millisecond of signatures; the rest of the turn's waits for the thread."""

    async def turns():
        signer = Signer([key(cost=0.0003)])
        signer.capacity = 100
        for turn in range(3):
            results = [signer.sign([wanted(f"{turn} {it}")], NOW, b"", counts()) for it in range(5)]
            assert [isinstance(it, list) for it in results] == [True] * 3 + [False] * 2
            await asyncio.gather(*(made_for(it) for it in results if isinstance(it, Waiting)))

    asyncio.run(turns())
