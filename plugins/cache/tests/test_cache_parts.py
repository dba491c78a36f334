"""The parts by themselves: store, entry, classification, budget."""

import gc
import os
import tracemalloc

import dnslib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.dns import Reply, Request
from corepy.dns.message import query
from corepy.dns.response import Kind
from corepy.dns.wire import FormError
from corepy.plugin.memory_limit import cgroup_limit
from corepy_cache import entry as entry_module
from corepy_cache.budget import SMALLEST, WAITING_SIZE, Budget, default_limit
from corepy_cache.cache_store import back_off
from corepy_cache.classify import classify, matches
from corepy_cache.entry import CacheEntry
from corepy_cache.entry_table import EntryTable


def question(number=0, **options):
    name = b"\x08n%07d\7example\3org\0" % number
    return Request.from_wire(query(name, 1, **options))


def make(number=0, ttl=60, records=1, stored=0.0):
    request = question(number)
    record = dnslib.DNSRecord.parse(request.wire).reply(ra=1)
    for last in range(records):
        record.add_answer(dnslib.RR(record.q.qname, 1, 1, ttl, dnslib.A(f"192.0.2.{last}")))
    reply = Reply.from_wire(bytes(record.pack()))
    key = request.name_wire + b"\0\1\0\1"
    return CacheEntry(key, request, reply.wire, reply.ttl_offsets, ttl, stored)


def test_store_replaces_in_place():
    budget = Budget(1 << 20)
    table = EntryTable(10, budget)
    table.put(make(1))
    newer = make(1, records=5)
    table.put(newer)
    assert table.evicted == 0
    assert list(table) == [newer]
    assert table.bytes == budget.used == newer.size
    assert table.remove(newer.key)
    assert not table.remove(newer.key)
    assert (len(table), table.bytes, budget.used) == (0, 0, 0)


def test_store_keeps_what_is_asked_for():
    table = EntryTable(100, Budget(1 << 20))
    popular = [make(number) for number in range(20)]
    for entry in popular:
        table.put(entry)
    for number in range(1000, 2000):
        for entry in popular:
            entry.used = True
        table.put(make(number))
    assert len(table) == 100
    assert all(table.get(entry.key) is entry for entry in popular)
    assert table.evicted == 920


def test_store_evicts_even_when_all_are_used():
    table = EntryTable(5, Budget(1 << 20))
    for number in range(50):
        for entry in table:
            entry.used = True
        table.put(make(number))
    assert len(table) == 5


@given(st.lists(st.tuples(st.sampled_from("pru"), st.integers(0, 30)), max_size=300))
@settings(deadline=None, max_examples=60)
def test_store_agrees_with_itself(steps):
    budget = Budget(12 * make().size)
    table = EntryTable(16, budget)
    for action, number in steps:
        entry = make(number)
        if action == "p":
            table.put(entry)
            assert table.get(entry.key) is entry
        elif action == "r":
            table.remove(entry.key)
        elif (known := table.get(entry.key)) is not None:
            known.used = True
        assert len(table) <= 12
        assert table.bytes == budget.used == sum(each.size for each in table)
        assert set(table.entries) <= set(table._queue)
        assert len(table._queue) <= 2 * len(table) + 65


def test_removing_and_adding_does_not_grow_the_queue():
    table = EntryTable(10, Budget(1 << 20))
    for _ in range(1000):
        table.put(make(1))
        table.remove(make(1).key)
    assert len(table._queue) < 100


def test_size_is_true():
    """What the budget counts is what entries take, or a little more."""
    count = 4000
    make(0)
    gc.collect()
    tracemalloc.start()
    try:
        budget = Budget(1 << 30)
        table = EntryTable(count, budget)
        before = tracemalloc.get_traced_memory()[0]
        for number in range(count):
            # As on the way: the key is cut from the query, the tail from the reply.
            table.put(make(number, ttl=300, stored=1000.0 + number))
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 0.8 * budget.used < taken < 1.05 * budget.used, (taken / count, budget.used / count)


@given(
    ttl=st.integers(1, 0x7FFFFFFF),
    records=st.integers(1, 4),
    stored=st.floats(0, 1e6),
    waits=st.lists(st.floats(0, 1e5), min_size=1, max_size=8),
    upper=st.booleans(),
)
@settings(deadline=None, max_examples=100)
def test_ageing(ttl, records, stored, waits, upper):
    """Every TTL is what is left, never more than before nor than there was; nothing else changes."""
    entry = make(7, ttl, records, stored)
    name = b"\x08N0000007\7EXAMPLE\3ORG\0" if upper else b"\x08n0000007\7example\3org\0"
    request = Request.from_wire(query(name, 1, ident=77))
    now, last = stored, ttl
    for wait in waits:
        now += wait
        left = entry.left(now)
        assert left <= last
        assert abs(left - (stored + ttl - now)) <= 1
        if left <= 0:
            break
        last = left
        record = entry.reply(request, left).record
        assert [rr.ttl for rr in record.rr] == [left] * records
        assert [str(rr.rdata) for rr in record.rr] == [f"192.0.2.{n}" for n in range(records)]
        assert entry.reply(request, left).wire[12:38] == request.question


@given(st.binary(max_size=80), st.integers(0, 0xFFFF), st.booleans())
@settings(deadline=None, max_examples=300)
def test_judging_hostile_bytes(junk, count, do):
    request = question()
    counts = b"\0\1" + count.to_bytes(2, "big") + b"\0\0\0\0"
    reply = Reply(b"\0\0\x81\x80" + counts + request.question + junk)
    assert matches(reply, request)
    try:
        classification = classify(reply, request, 1.8e9 if do else None)
    except FormError:
        return
    assert classification.ttl >= 0


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_matching_hostile_bytes(junk):
    assert not matches(Reply(junk), question())


@settings(deadline=None)
@given(
    flip=st.integers(12 * 8, 42 * 8 - 1),
)
def test_a_reply_to_another_question_never_matches(flip):
    """Any bit of name, type and class counts, but for the case of letters."""
    request = question()
    wire = bytearray(request.error(0).wire)
    at, bit = divmod(flip, 8)
    if at >= len(wire):
        return
    wire[at] ^= 1 << bit
    same = bytes(wire[12:-4]).lower() == request.name_wire and wire[-4:] == request.wire[-4:]
    assert matches(Reply(bytes(wire)), request) is same


@pytest.mark.parametrize(("flags", "replaces_entry"), [(0x81, True), (0x85, True), (0xA9, False)])
def test_a_reply_of_another_opcode_settles_nothing(flags, replaces_entry):
    """0xA9: UPDATE. What was kept before stays."""
    request = question()
    wire = bytes((0, 0, flags, 0x80, 0, 1, 0, 0, 0, 0, 0, 0)) + request.question
    assert classify(Reply(wire), request, None).replaces_entry is replaces_entry


@pytest.mark.parametrize("do", [False, True])
@pytest.mark.parametrize("ttls", [(60,), (60, 60), (30, 60)])
def test_the_usual_reply_is_worth_the_same_on_the_short_way(do, ttls):
    """Without DO it takes the short way; only there it is known whether all TTLs are equal."""
    request = question()
    record = dnslib.DNSRecord.parse(request.wire).reply(ra=1)
    for last, ttl in enumerate(ttls):
        record.add_answer(dnslib.RR(record.q.qname, 1, 1, ttl, dnslib.A(f"192.0.2.{last}")))
    classification = classify(Reply.from_wire(bytes(record.pack())), request, 1.8e9 if do else None)
    assert (classification.kind, classification.ttl) == (Kind.NO_ERROR, min(ttls))
    assert (classification.answers, classification.keep, classification.replaces_entry) == (
        True,
        True,
        True,
    )
    assert (classification.failure, classification.denial) == (False, False)
    assert not classification.uniform or (not do and len({*ttls}) == 1)


@pytest.mark.parametrize(("links", "answers"), [(0, True), (1, True), (64, True), (65, False)])
@pytest.mark.parametrize("has_loop", [False, True])
def test_as_many_aliases_as_resolvers_follow(links, answers, has_loop):
    request = question()
    record = dnslib.DNSRecord.parse(request.wire).reply(ra=1)
    owner = record.q.qname
    for number in range(links):
        target = dnslib.DNSLabel(f"alias{number}.example.org")
        record.add_answer(dnslib.RR(owner, 5, 1, 60, dnslib.CNAME(target)))
        owner = target
    if has_loop:
        record.add_answer(dnslib.RR(owner, 5, 1, 60, dnslib.CNAME(record.q.qname)))
    record.add_answer(dnslib.RR(owner, 1, 1, 60, dnslib.A("192.0.2.1")))
    classification = classify(Reply.from_wire(bytes(record.pack())), request, None)
    assert classification.answers is (answers and not has_loop)
    assert classification.keep is classification.answers


@pytest.mark.parametrize(("gap", "hits"), [(0, 2), (10, 2), (10.5, 1), (100, 1)])
def test_hits_add_up_unless_there_was_a_gap(gap, hits):
    """As in CoreDNS's freq.go: the gap has to be longer than the time that is given."""
    entry = make()
    entry.count(1, 1000.0, 10.0)
    entry.count(1, 1000.0 + gap, 10.0)
    assert entry.hits == hits


def test_headers_that_replies_share_are_not_kept_without_end():
    entry_module._heads.clear()
    entry_module._shared.clear()
    request = question()
    record = dnslib.DNSRecord.parse(request.wire).reply(ra=1)
    record.add_answer(dnslib.RR(record.q.qname, 1, 1, 60, dnslib.A("192.0.2.1")))
    reply = Reply.from_wire(bytes(record.pack()))
    for number in range(3000):
        # Arbitrary counts, which an upstream may send.
        wire = reply.wire[:8] + number.to_bytes(4, "big") + reply.wire[12:]
        entry = CacheEntry(b"", request, wire, reply.ttl_offsets, 60, 0.0)
        assert entry.head[4:] == wire[4:12]
    assert len(entry_module._heads) == len(entry_module._shared) == 1024


def test_a_budget_is_used_to_its_end():
    budget = Budget(5 * make().size)
    table = EntryTable(100, budget)
    for number in range(5):
        table.put(make(number))
    assert (len(table), budget.used) == (5, budget.limit)
    table.put(make(5))
    assert (len(table), budget.used) == (5, budget.limit)


def test_back_off():
    assert [back_off(n) for n in (1, 2, 3, 4, 100, 10**6)] == [1, 2, 4, 5, 5, 5]


def test_budget_bounds_entries_and_waiting_together():
    budget = Budget(100 * WAITING_SIZE)
    small, large = EntryTable(10000, budget), EntryTable(10000, budget)
    for number in range(100):
        small.put(make(number))
    for number in range(5000):
        large.put(make(number))
    assert budget.used <= budget.limit
    assert len(small) == 100
    room = begin(budget, 0.0, 100)
    assert room == 50
    assert budget.used <= budget.limit
    assert len(large) > 0
    end(budget, room, answered=True)
    assert budget.waiting == 0
    assert budget.used == small.bytes + large.bytes


def paced():
    """A budget with room for 1000 waiting queries, 500 of which may begin at once and have."""
    budget = Budget(2000 * WAITING_SIZE)
    assert begin(budget, 0.0, 600) == 500
    return budget


def begin(budget, now, wishes):
    """Let so many of the server's own queries wait; return how many may."""
    requests = [question() for _ in range(wishes)]
    for request in requests:
        request.received = now
    return sum(map(budget.begin_wait, requests))


def end(budget, count, *, answered):
    for request in list(budget._requests)[:count]:
        budget.end_wait(request, answered=answered)


def test_the_number_of_waiting_queries_rises_slowly():
    budget = paced()
    now = 0.0
    for _ in range(10):
        now += 0.0101
        assert begin(budget, now, 100) == 10
    assert begin(budget, now + 5, 100) == 16  # what was not wished for is not made up for
    for _ in range(1000):
        now += 0.01
        begin(budget, now, 100)
    assert budget.waiting == budget.most_waiting == 1000


def test_an_answered_query_leaves_its_place_to_the_next():
    budget = paced()
    assert begin(budget, 0.0101, 100) == 10
    end(budget, 200, answered=True)
    assert begin(budget, 0.0102, 300) == 200


def test_an_unanswered_query_takes_its_place_along():
    budget = paced()
    for step in range(1, 21):
        begin(budget, step * 0.0101, 100)
    assert budget.waiting == 700
    end(budget, 700, answered=False)
    assert begin(budget, 0.2021, 1000) == 500


def test_after_a_pause_the_number_is_what_waits():
    budget = paced()
    for step in range(1, 21):
        begin(budget, step * 0.0101, 100)
    end(budget, 50, answered=True)
    assert begin(budget, 20.0, 1000) == 66
    assert budget.waiting == 716


def test_few_queries_are_not_paced():
    budget = Budget(512 * WAITING_SIZE)
    assert begin(budget, 0.0, 1000) == 256


def test_the_lowest_wish_counts():
    budget = Budget(64 << 20)
    budget.request_limit("a", 32 << 20)
    budget.request_limit("b", 16 << 20)
    assert budget.limit == 16 << 20
    budget.withdraw_request("b")
    assert budget.limit == 32 << 20
    budget.withdraw_request("a")
    budget.withdraw_request("a")
    assert budget.limit == 64 << 20


def test_a_store_that_is_gone_counts_no_more():
    budget = Budget(1 << 20)
    table = EntryTable(10, budget)
    table.put(make())
    table.clear()
    del table
    gc.collect()
    assert budget.used == 0
    assert len(budget.tables) == 0


V2 = "0::/kubepods/pod1/c1\n"
V1 = "7:cpu,memory:/docker/abc\n0::/\n"


@pytest.mark.parametrize(
    ("cgroup", "files", "limit"),
    [
        (V2, {}, None),
        (V2, {"memory.max": "max"}, None),
        (V2, {"memory.max": "67108864\n"}, 64 << 20),
        (V2, {"kubepods/pod1/memory.max": "1000000", "kubepods/memory.max": "max"}, 1000000),
        (V2, {"kubepods/pod1/c1/memory.max": "5", "kubepods/pod1/memory.max": "4"}, 4),
        (V1, {"memory/memory.limit_in_bytes": "9223372036854771712"}, None),
        (V1, {"memory/docker/abc/memory.limit_in_bytes": "52428800"}, 50 << 20),
        ("", {"memory.max": "5"}, None),
    ],
)
def test_cgroup_limit(tmp_path, cgroup, files, limit):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(cgroup)
    for name, text in files.items():
        file = tmp_path / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert cgroup_limit(tmp_path) == limit


def test_default_limit(tmp_path):
    assert default_limit(tmp_path) == SMALLEST
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal:  1000000 kB\nMemFree: 5 kB\n")
    assert default_limit(tmp_path) == 256_000_000
    (tmp_path / "proc/self/statm").write_text(
        f"50000 {(24 << 20) // os.sysconf('SC_PAGE_SIZE')} 0 0 0 0 0\n"
    )
    (tmp_path / "proc/self/cgroup").write_text("0::/\n")
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/memory.max").write_text(str(64 << 20))
    assert default_limit(tmp_path) == 20 << 20
    assert default_limit() >= SMALLEST
