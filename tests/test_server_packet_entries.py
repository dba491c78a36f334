"""The packet cache entry by entry: what it keeps, for how long, in how much memory, and its hits."""

from types import SimpleNamespace
from typing import Any

import pytest

from corepy.dns import ANONYMOUS, Identity, Request, finish
from corepy.dns.constants import TYPE_A
from corepy.dns.records import rr
from corepy.server.listen import packet_cache
from corepy.server.listen.packet_cache import MemoryPool, PacketCache, why_not
from corepy.testing import query

NOW = 1000.0
BOOKKEEPING = 640  # bytes of an entry besides its reply and key
RECORD: Any = SimpleNamespace()  # of a signature
GRAIN = 64  # memory for replies is divided into multiples of it


class Timers(list[tuple[float, object]]):
    """An event loop that only notes its timers."""

    def call_later(self, seconds, call):
        self.append((seconds, call))


@pytest.fixture
def timers(monkeypatch):
    timers = Timers()
    monkeypatch.setattr(packet_cache, "get_running_loop", lambda: timers)
    return timers


@pytest.fixture
def packets(timers):
    return PacketCache(MemoryPool(1 << 20))


class Counts(list[int]):
    """A hit counter; raises the first `failures` times."""

    def __init__(self, failures=0):
        super().__init__()
        self.failures = failures

    def count_hits(self, times):
        self.append(times)
        if len(self) <= self.failures:
            raise ValueError("a counter is broken")


class Listens(Counts):
    """A hit counter that is also shown each hit."""

    def __init__(self, failures=0):
        super().__init__(failures)
        self.seen = []

    def on_hit(self, ident, client, received):
        self.seen.append((ident, client, received))
        if len(self.seen) <= self.failures:
            raise SystemExit(3)


def asked(name="a.test.", **flags):
    request = Request.from_wire(query(name, id=1, **flags))
    request.received = NOW
    return request


def answered(request, ttl=60, *, deadline=NOW + 60, since=NOW, counters=()):
    reply = request.reply(answer=[rr(request.name_wire, TYPE_A, ttl, bytes(4))])
    reply.deadline, reply.since, reply.hit_counters = deadline, since, counters
    return reply


def keep(packets, request, **reply):
    """Let a reply be kept; return its key."""
    made = answered(request, **reply)
    packets.admit(request, made, finish(request, made))
    return request.wire[2:]


# -- what is kept


def with_identity(identity):
    request = asked()
    request.identity = identity
    return request


def with_option():
    return asked(edns=1232).derive(options=b"\0\x0a\0\x08abcdefgh")


@pytest.mark.parametrize(
    ("request_", "changes", "size", "reason"),
    [
        (asked(), {}, 100, None),
        (asked(), {}, 1232, None),
        (asked(), {}, 1233, "the reply is larger than 1232 bytes"),
        (asked(), {"deadline": None}, 100, "no plugin has set its deadline"),
        (asked(), {"deadline": NOW}, 100, "the deadline of this reply has passed"),
        (asked(), {"deadline": NOW + 0.001}, 100, None),
        (asked(), {"deadline": 1e12 - 1}, 100, None),
        (asked(), {"deadline": 1e12}, 100, "a time of this reply is out of range"),
        (asked(), {"since": 1e12 - 1}, 100, None),
        (asked(), {"since": 1e12}, 100, "a time of this reply is out of range"),
        (asked(), {"since": 1 - 1e12}, 100, None),
        (asked(), {"since": -1e12}, 100, "a time of this reply is out of range"),
        (asked(opcode=4), {}, 100, "the opcode of the query is not QUERY"),
        (asked(opcode=1), {}, 100, "the opcode of the query is not QUERY"),
        (asked(edns=1232), {}, 100, None),
        (with_option(), {}, 100, "the query has EDNS options"),
        (with_identity(ANONYMOUS), {}, 100, None),
        (with_identity(Identity()), {}, 100, None),  # of a connection over TLS, for example
        (with_identity(Identity(tsig=RECORD)), {}, 100, "the query is signed"),
        (asked("A.test."), {}, 100, "the name contains capital letters"),
    ],
)
def test_what_is_kept(packets, request_, changes, size, reason):
    request_.received = NOW
    reply, sent = answered(request_, **changes), bytes(size)
    packets.admit(request_, reply, sent)
    assert why_not(request_, reply, sent) == reason
    assert list(packets.entries) == ([request_.wire[2:]] if reason is None else [])


def test_a_reply_of_other_bytes_takes_the_place_of_the_one_before(packets):
    request = asked()
    key = keep(packets, request, ttl=60)
    used = packets._memory_pool.used
    keep(packets, request, ttl=50)
    assert packets._memory_pool.used == used
    assert packets.entries[key].body[-10:-6] == bytes((0, 0, 0, 50))


# -- memory


@pytest.mark.parametrize(
    ("allowed", "limit"),
    [
        (None, 64 << 20),
        (1 << 40, 64 << 20),
        (512 << 20, 64 << 20),
        (511 << 20, 511 << 17),
        (100 << 20, 100 << 17),
    ],
)
def test_the_limit_is_an_eighth_of_the_memory_of_the_cgroup(monkeypatch, allowed, limit):
    monkeypatch.setattr(packet_cache, "cgroup_limit", lambda: allowed)
    pool = MemoryPool()
    assert (pool.limit, pool.used) == (limit, 0)
    pool.divide(4)
    assert pool.limit == limit // 4
    pool.divide(2)
    assert pool.limit == limit // 2


def test_memory_is_taken_up_to_the_limit():
    key, size = bytes(30), 2 * GRAIN
    exact = BOOKKEEPING + len(key) + size
    assert MemoryPool(exact - 1).take(key, size) is None
    pool = MemoryPool(exact)
    for _ in range(2):
        chunk = pool.take(key, size)
        assert chunk is not None
        assert (chunk.size, pool.used) == (size, exact)
        assert pool.take(b"", 0) is None
        pool.give_back(key, chunk)
        assert pool.used == 0
    assert pool.take(key, size - GRAIN + 1).size == size
    assert pool.used == exact  # that of the whole chunk


def test_an_entry_takes_the_memory_of_its_reply_without_the_id(packets):
    pool, request = packets._memory_pool, asked()
    for size in (2 + GRAIN, 3 + GRAIN):
        packets.admit(request, answered(request), bytes(size))
        taken = GRAIN if size == 2 + GRAIN else 2 * GRAIN
        assert pool.used == BOOKKEEPING + len(request.wire) - 2 + taken
    packets.clear()
    assert (pool.used, packets.entries) == (0, {})


def test_without_memory_the_oldest_entry_is_removed_for_the_next_attempt(timers):
    request, other = asked(), asked("b.test.")
    size = BOOKKEEPING + len(request.wire) - 2 + GRAIN
    packets = PacketCache(MemoryPool(size))
    key = keep(packets, request)
    keep(packets, other)
    assert (packets.entries, packets._memory_pool.used) == ({}, 0)
    assert keep(packets, other) != key
    assert list(packets.entries) == [other.wire[2:]]
    none = PacketCache(MemoryPool(size - GRAIN))
    keep(none, request)
    assert (none.entries, none._memory_pool.used) == ({}, 0)


# -- ageing


@pytest.mark.parametrize("is_batch", [False, True])
def test_the_ttl_and_the_time_of_its_next_change(packets, is_batch):
    """The reply was 2.5 seconds old when it was sent with a TTL of 40."""
    request = asked()
    key = keep(packets, request, ttl=40, since=NOW - 2.5, deadline=NOW + 3.75)
    entry, body = packets.entries[key], packets.entries[key].body
    for now, lowered, due in [
        (NOW, 0, NOW + 0.5),
        (NOW + 0.25, 0, NOW + 0.5),
        (NOW + 0.5, 1, NOW + 1.5),
        (NOW + 1, 1, NOW + 1.5),
        (NOW + 1.5, 2, NOW + 2.5),
        (NOW + 3.5, 4, NOW + 3.75),  # the deadline
        (NOW + 3.74, 4, NOW + 3.75),
    ]:
        if is_batch:
            assert packets.are_usable([entry], [key], now)
        else:
            assert packets.find(key, now) is entry
        assert (entry.body, entry.due) == (body[:-7] + bytes((40 - lowered,)) + body[-6:], due)
    if is_batch:
        assert not packets.are_usable([entry], [key], NOW + 3.75)
    else:
        assert packets.find(key, NOW + 3.75) is None
    assert (packets.entries, packets._memory_pool.used) == ({}, 0)


def test_entries_that_can_answer_a_batch(packets):
    keys = [keep(packets, asked(f"n{number}.test.")) for number in range(3)]
    entries = [packets.entries[key] for key in keys]
    assert packets.are_usable(entries, keys, NOW + 59)
    assert not packets.are_usable([*entries, None], [*keys, b""], NOW + 59)
    entries[1].deadline = entries[1].due = NOW + 1
    assert not packets.are_usable(entries, keys, NOW + 59)
    assert list(packets.entries) == [keys[0], keys[2]]
    assert packets.find(b"", NOW) is None


def test_a_view_counts_no_hit(packets):
    request = asked()
    key = keep(packets, request)
    packets.find(key, NOW)
    packets.find(key, NOW)
    assert packets.view(b"??" + key, NOW + 20) == (2, 40.0)
    assert packets.view(request.wire, NOW + 20.5) == (2, 39.5)
    assert packets.view(asked("b.test.").wire, NOW) is None


# -- hits


def test_hits_are_reported_within_a_second_once(packets, timers):
    first, second = Counts(), Counts()
    keys = [
        keep(packets, asked("a.test."), counters=(first,)),
        keep(packets, asked("b.test."), counters=(first, second)),
    ]
    for key in keys:
        assert packets.find(key, NOW).hits == 1
        assert packets.find(key, NOW + 0.5).hits == 2
    assert (timers, first, second) == ([(1.0, packets.credit)], [], [])
    packets.credit()
    assert (first, second) == ([2, 2], [2])
    packets.credit()
    assert (first, second) == ([2, 2], [2])
    packets.find(keys[1], NOW + 1)
    assert (timers, second) == ([(1.0, packets.credit)] * 3, [2])
    packets.clear()
    assert (first, second) == ([2, 2, 1], [2, 1])


def test_hits_of_an_entry_that_is_not_due_yet_are_reported_in_the_next_second(packets, timers):
    counter = Counts()
    key = keep(packets, asked(), counters=(counter,))
    packets.find(key, NOW)
    packets.credit()
    packets.find(key, NOW + 0.99)
    assert (timers, counter) == ([(1.0, packets.credit)] * 2, [1])
    packets.report_hits()
    assert counter == [1, 1]
    packets.find(key, NOW + 0.995)
    packets.credit()
    assert (len(timers), counter) == (2, [1, 1, 1])
    packets.credit()
    assert counter == [1, 1, 1]


def test_a_hit_counter_that_fails_harms_no_other(packets, caplog):
    broken, good = Counts(failures=1), Counts()
    key = keep(packets, asked(), counters=(broken, good))
    packets.find(key, NOW)
    packets.clear()
    assert (broken, good) == ([1], [1])
    assert "a hit counter failed" in caplog.text
    assert "ValueError: a counter is broken" in caplog.text


def test_a_hit_listener_that_fails_is_not_shown_later_hits(packets, caplog):
    broken, good, counter = Listens(failures=1), Listens(), Counts()
    key = keep(packets, asked(), counters=(broken, counter, good))
    entry = packets.find(key, NOW)
    assert entry.hit_listeners == (broken, good)
    entry.show(b"\0\1", "one", NOW)
    entry.show(b"\0\2", "two", NOW + 1)
    assert broken.seen == [(b"\0\1", "one", NOW)]
    assert good.seen == [(b"\0\1", "one", NOW), (b"\0\2", "two", NOW + 1)]
    assert caplog.text.count("a hit listener failed") == 1
    packets.clear()
    assert (broken, counter, good) == ([1], [1], [1])
