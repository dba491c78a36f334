"""The cache's numbers, exactly: limits, the memory that is counted, hits, and fields of an entry."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from corepy.dns import Reply
from corepy.plugin import CommandError, CorefileError
from corepy.testing import controller_for, make_request
from corepy_cache import budget as budget_module
from corepy_cache import cli, setup
from corepy_cache import purge as purge_module
from corepy_cache import refresh as refresh_module
from corepy_cache.answering import is_answer
from corepy_cache.budget import Budget, default_limit, process_budget
from corepy_cache.cache_store import CacheStore, back_off, clear_ad, restore
from corepy_cache.changes import RecentChanges
from corepy_cache.classify import _end_of_chain, _plain_ttl
from corepy_cache.entry import CacheEntry
from corepy_cache.entry_table import EntryTable
from corepy_cache.handler import Cache
from corepy_cache.keys import Networks, Subnet, key_of, name_of, subnet_key_of
from corepy_cache.metrics import MEMORY, MEMORY_LIMIT, CacheMetrics
from corepy_cache.purge import purge, purge_predicate
from corepy_cache.refresh import Refresher
from corepy_cache.settings import Bounds, Prefetch, Settings, Stale

UNUSED: Any = None
WAITING = 4096  # bytes of a waiting query
CLIENT, OTHER = ("192.0.2.1", 1), ("192.0.2.2", 1)


def asked(name="www.example.org.", peer=CLIENT, received=1000.0, **question):
    request = make_request(name, peer=peer, **question)
    request.received = received
    return request


def reply_to(request, rcode=0, flags=b"\x81\x80", ttl=60):
    """A reply with one record, or an error with nothing."""
    counts = b"\0\1\0\0\0\0\0\0" if rcode else b"\0\1\0\1\0\0\0\0"
    record = b"\xc0\x0c\0\1\0\1" + ttl.to_bytes(4, "big") + b"\0\4\xc0\0\2\1"
    head = request.wire[:2] + flags[:1] + bytes([flags[1] | rcode]) + counts
    return Reply.from_wire(head + request.question + (b"" if rcode else record))


def entry_for(name="www.example.org.", rcode=0, ttl=60, stored=1000.0, **question):
    request = asked(name, **question)
    reply = reply_to(request, rcode, ttl=ttl)
    return CacheEntry(key_of(request), request, reply.wire, reply.ttl_offsets, ttl, stored)


# -- memory


def test_the_memory_of_waiting_queries_and_entries():
    budget = Budget(1 << 20)
    request = asked()
    assert budget.begin_wait(request)
    assert budget.begin_wait(request)  # two caches in one chain
    assert (budget.used, budget.waiting) == (2 * WAITING, 1)
    budget.end_wait(request, answered=True)
    budget.end_wait(request, answered=True)
    assert (budget.used, budget.waiting) == (0, 0)
    entry = entry_for()
    size = 330 + len(entry.key) + 16
    assert entry.size == size
    entry.options = bytes(7)
    entry.last_good = entry_for()
    assert entry.size == 2 * size + 7
    table = EntryTable(10, budget)
    table.put(entry)
    assert (table.bytes, budget.used) == (2 * size + 7, 2 * size + 7)
    table.clear()
    assert (table.bytes, budget.used, len(table._queue), len(table)) == (0, 0, 0, 0)


@pytest.mark.pure_form("reads the slots of a class")
def test_a_fresh_entry():
    fields = {name: getattr(entry_for(), name) for name in CacheEntry.__slots__}
    for name in ("key", "head", "tail"):
        assert type(fields.pop(name)) is bytes
    assert fields == {
        "answers": False,
        "authentic": False,
        "denial": False,
        "failures": 0,
        "hits": 0,
        "last_good": None,
        "last_hit": 0.0,
        "offsets": (6,),
        "options": b"",
        "retry_at": 0.0,
        "shown": 60,
        "stored": 1000.0,
        "task": None,
        "ttl": 60,
        "used": False,
        "wildcard": "",
    }


def test_the_queue_of_a_table_keeps_few_keys_that_were_removed():
    table = EntryTable(1000, Budget(1 << 20))
    for number in range(1, 66):
        table.put(entry_for(f"n{number}."))
        table.remove(entry_for(f"n{number}.").key)
        assert len(table._queue) == number % 65
    table.put(entry_for("kept."))
    for number in range(1, 67):
        table.put(entry_for(f"n{number}."))
        table.remove(entry_for(f"n{number}.").key)
        assert len(table._queue) == (1 if number == 66 else number + 1)


def test_evictions_are_counted():
    table = EntryTable(2, Budget(1 << 20))
    entries = [entry_for(f"n{number}.") for number in range(4)]
    for entry in entries:
        table.put(entry)
    assert (list(table), table.evicted) == (entries[2:], 2)
    entries[2].used = True
    assert table.evict()
    assert (list(table), table.evicted, entries[2].used) == (entries[2:3], 3, False)
    assert table.evict()
    assert not table.evict()
    assert (table.evicted, table.bytes) == (4, 0)


# -- the number of waiting queries


def paced():
    """A budget with room for 1000 waiting queries, 500 of which may begin at once."""
    budget = Budget(2000 * WAITING)
    assert (budget.most_waiting, budget._ceiling, budget._plenty) == (1000, 500, 375)
    assert not budget.is_ceiling_raised
    return budget


@pytest.mark.parametrize(
    ("most", "base"), [(100, 100), (256, 256), (257, 256), (512, 256), (514, 257), (9000, 4000)]
)
def test_how_many_queries_may_always_wait(most, base):
    budget = Budget(2 * most * WAITING)
    assert (budget.most_waiting, budget._base_ceiling, budget._ceiling) == (most, base, base)


@pytest.mark.parametrize(
    ("elapsed", "before", "after"),
    [
        (0.0, 700, 700),
        (0.0009, 700, 700),
        (0.001, 700, 701),
        (0.0101, 700, 710),
        (0.0161, 700, 716),
        (10.0, 700, 716),
        (10.5, 700, 516),  # forgotten
        (5.0, 995, 1000),
        (5.0, 1000, 1000),
    ],
)
def test_how_the_ceiling_rises(elapsed, before, after):
    budget = paced()
    budget._set_ceiling(before)
    budget._raised = 0.5
    budget._rise(0.5 + elapsed)
    assert budget._ceiling == after
    assert budget.is_ceiling_raised
    assert budget._raised == (0.5 if after == before else 0.5 + elapsed)


def test_after_a_pause_the_ceiling_is_not_below_what_waits():
    budget = paced()
    budget._requests = dict.fromkeys(range(600))
    budget._set_ceiling(700)
    budget._rise(budget._raised + 11)
    assert budget._ceiling == 616


def test_queries_of_each_client_are_counted_when_places_become_scarce():
    budget = paced()
    budget._raised = 1000.0  # it does not rise again at this time
    requests = [asked() for _ in range(376)]
    for request in requests[:375]:
        assert budget.begin_wait(request)
    assert (budget._shares, budget._plenty) == (None, 375)
    assert not budget.begin_wait(requests[375])  # it would hold more than three quarters
    other = asked(peer=OTHER)
    assert budget.begin_wait(other)
    assert budget._shares is not None
    assert (budget._shares.held, budget._plenty) == ({b"\xc0\0\2\1": 375, b"\xc0\0\2\2": 1}, 0)
    for request in requests[:250]:
        budget.end_wait(request, answered=True)
    # 126 are left, of which a quarter of the ceiling would be 125.
    assert (budget.waiting, budget._shares.held[b"\xc0\0\2\1"]) == (126, 125)
    budget.end_wait(other, answered=True)
    budget.end_wait(requests[250], answered=True)
    assert budget._shares is not None
    budget.end_wait(requests[251], answered=True)
    assert (budget.waiting, budget._shares, budget._plenty) == (123, None, 375)


def test_two_caches_in_one_chain_take_one_place():
    budget = Budget(200 * WAITING)
    requests = [asked(peer=None) for _ in range(100)]
    assert all(map(budget.begin_wait, requests))
    assert not budget.begin_wait(asked(peer=None))
    assert budget.begin_wait(requests[0])
    assert (budget.waiting, budget.used) == (100, 101 * WAITING)


def test_a_smaller_limit_makes_room():
    budget = Budget(1 << 20)
    table = EntryTable(1000, budget)
    for number in range(100):
        table.put(entry_for(f"n{number}."))
    size = table.bytes // 100
    budget.request_limit("owner", 50 * size + 1)
    assert (budget.limit, MEMORY_LIMIT.value) == (50 * size + 1, 50 * size + 1)
    assert 48 <= len(table) <= 50
    budget.withdraw_request("owner")
    assert budget.limit == 1 << 20
    budget.divide(1)
    assert budget.limit == 1 << 20
    budget.divide(1 << 6)
    assert budget.limit == 1 << 14
    assert budget.used <= 1 << 14
    budget.request_limit("owner", 1 << 10)
    assert budget.limit == 1 << 4


def test_the_budget_of_the_process(monkeypatch):
    monkeypatch.setattr(budget_module, "_process", None)
    MEMORY.value = 7
    budget_module._show_used()
    assert MEMORY.value == 7
    budget = process_budget()
    assert process_budget() is budget
    budget.used = 12
    budget_module._show_used()
    assert MEMORY.value == 12


@pytest.mark.parametrize(
    ("total", "resident", "limit", "expected"),
    [
        ("MemTotal: 99999999999 kB\n", "", None, 1 << 30),
        ("MemFree: 1 kB\nMemTotal: 8192 kB\n", "", None, 4 << 20),
        ("MemTotal: 40960 kB\n", "", None, 10 << 20),
        ("nonsense\n", "", None, 4 << 20),
        ("", "1 2 3", 1 << 30, ((1 << 30) - 2 * 4096) // 2),
        ("", "1", 1 << 30, 1 << 29),
        ("", "", 1 << 30, 1 << 29),
        ("", "1 2", 1 << 20, 4 << 20),
    ],
)
def test_the_default_limit(tmp_path, monkeypatch, total, resident, limit, expected):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text(total)
    (tmp_path / "proc/self/statm").write_text(resident)
    monkeypatch.setattr(budget_module, "cgroup_limit", lambda root: limit)
    monkeypatch.setattr(budget_module, "sysconf", {"SC_PAGE_SIZE": 4096}.get)
    assert default_limit(tmp_path) == expected
    if not total:
        assert budget_module._memory_total(tmp_path) == 0
    if not resident:
        assert budget_module._resident(tmp_path) == 0


# -- changes


def test_how_long_changes_are_remembered():
    changes = RecentChanges()
    for now, kept in [(0.0, [0.0]), (29.9, [0.0, 29.9]), (30.0, [29.9, 30.0])]:
        changes.add(now, lambda _: True)
        assert [it.at for it in changes.recent] == kept
    assert changes.outdate(asked(received=30.0))
    assert not changes.outdate(asked(received=60.0))
    assert len(changes.recent) == 2
    assert not changes.outdate(asked(received=60.1))
    assert changes.recent == []


# -- lookups


class Bench:
    def __init__(self, text="cache"):
        controller = controller_for(text)
        setup(controller)
        (configured,) = controller.handlers
        assert isinstance(configured, Cache)
        self.now = 1000.0
        self.store = CacheStore(configured.settings, Budget(64 << 20), lambda: self.now)
        self.metrics = CacheMetrics("dns://:53", "counts.", text)
        self.before = self._values()

    def _values(self):
        return [
            metric.value
            for metric in (
                self.metrics.success_hits,
                self.metrics.denial_hits,
                self.metrics.misses,
                self.metrics.drops,
                self.metrics.success_evictions,
                self.metrics.denial_evictions,
            )
        ]

    def counted(self):
        """What was counted since the last call: hits, hits of denials, misses, drops, evictions."""
        values = self._values()
        before, self.before = self.before, values
        return [int(new - old) for new, old in zip(values, before, strict=True)]

    def put(self, entry, *, denial=False, answers=True):
        entry.denial, entry.answers = denial, answers
        (self.store.denial if denial else self.store.success).put(entry)
        return entry

    def find(self, now):
        return self.store.find(key_of(asked()), now, self.metrics)


def test_each_lookup_is_counted_once():
    bench = Bench()
    assert bench.find(1000.0) is None
    assert bench.counted() == [0, 0, 1, 0, 0, 0]
    good = bench.put(entry_for())
    assert bench.find(1059.9) is good
    assert bench.counted() == [1, 0, 0, 0, 0, 0]
    assert bench.find(1060.0) is None
    assert bench.counted() == [0, 0, 1, 0, 0, 0]
    denial = bench.put(entry_for(rcode=3), denial=True)
    assert bench.find(1059.9) is denial
    assert bench.counted() == [0, 1, 0, 0, 0, 0]
    assert bench.find(1060.0) is None
    assert bench.counted() == [0, 0, 1, 0, 0, 0]


def test_a_failure_is_neither_served_stale_nor_before_an_answer():
    bench = Bench("cache {\nserve_stale 1h\n}")
    failure = bench.put(entry_for(rcode=2, ttl=5), denial=True)
    assert bench.find(1004.9) is failure
    assert bench.find(1005.0) is None
    good = bench.put(entry_for())
    assert bench.find(1001.0) is good
    assert bench.find(1060.0 + 3599.9) is good
    assert bench.find(1060.0 + 3600.0) is None
    assert bench.counted() == [2, 1, 2, 0, 0, 0]


@pytest.mark.parametrize("policy", ["prefer_positive", ""])
def test_a_stale_answer_before_a_denial(policy):
    bench = Bench(f"cache {{\nserve_stale 1h\n{policy and 'serve_stale_policy ' + policy}\n}}")
    assert bench.store._prefers_positive is bool(policy)
    good = bench.put(entry_for())
    denial = bench.put(entry_for(rcode=3, ttl=7200), denial=True)
    expected = good if policy else denial
    for now in (1030.0, 1060.0, 1060.0 + 3599.9):
        assert bench.find(now) is expected
    assert good.used is bool(policy)
    assert bench.counted() == ([3, 0, 0, 0, 0, 0] if policy else [0, 3, 0, 0, 0, 0])
    assert bench.find(1060.0 + 3600.0) is denial
    assert bench.counted() == [0, 1, 0, 0, 0, 0]
    empty = bench.put(entry_for(ttl=9000), answers=False)
    empty.last_good = good
    assert bench.find(1060.0) is (good if policy else denial)


def test_without_serve_stale_no_answer_is_preferred():
    assert not Bench("cache {\nserve_stale 0s\n}").store._prefers_positive
    assert not Bench("cache").store._prefers_positive


@pytest.mark.pure_form("a value of another type is refused at once")
def test_a_message_that_is_no_reply_to_the_query_is_dropped():
    bench = Bench()
    reply = reply_to(asked("other.example.org."))
    assert bench.store.keep(b"key", asked(), reply, bench.metrics) == (None, None)
    assert bench.counted() == [0, 0, 0, 1, 0, 0]
    series = asked().error(0)
    series.series = object()
    assert bench.store.keep(b"key", asked(), series, bench.metrics) == (None, None)
    dropped = asked().drop()
    assert bench.store.keep(b"key", asked(), dropped, bench.metrics) == (None, None)
    assert bench.counted() == [0] * 6
    assert not bench.store.success
    assert not bench.store.denial


@pytest.mark.parametrize("kind", ["success", "denial"])
def test_evictions_are_counted_by_kind(kind):
    bench = Bench(f"cache {{\n{kind} 1024\n}}")
    table = getattr(bench.store, kind)
    table.capacity = 2
    for number in range(5):
        request = asked(f"n{number}.")
        reply = reply_to(request) if kind == "success" else request.error(2)
        _, entry = bench.store.keep(key_of(request), request, reply, bench.metrics)
        assert entry is not None
    assert len(table) == 2
    assert bench.counted() == [0, 0, 0, 0, *([3, 0] if kind == "success" else [0, 3])]
    assert table.evicted == 0


def test_how_long_failures_in_a_row_are_kept():
    assert [back_off(number) for number in (1, 2, 3, 4, 9, 10, 11)] == [1, 2, 4, 5, 5, 5, 5]


def test_ad_is_cleared_alone():
    for bits in range(256):
        reply = Reply(b"\0\0\x81" + bytes([bits]) + bytes(range(30)))
        clear_ad(reply)
        assert reply.wire == b"\0\0\x81" + bytes([bits & 0xDF]) + bytes(range(30))


@pytest.mark.parametrize("wire", [b"", b"\0\0\x81", b"\0\0\x81\xff"])
def test_ad_of_a_short_message(wire):
    reply = Reply(wire)
    clear_ad(reply)
    assert reply.wire == (wire if len(wire) < 4 else wire[:3] + b"\xdf")


def test_what_was_kept_beside_the_message_is_restored():
    request, reply, entry = asked(), asked().error(0), entry_for()
    entry.options = b"\0\x03\0\1x"
    restore(request, reply, entry)
    assert (reply.options, request.metadata) == (b"\0\x03\0\1x", {})
    entry.wildcard = "*.example.org."
    restore(request, reply, entry)
    assert request.metadata == {"zone/wildcard": "*.example.org."}


# -- refreshing


def test_a_thousand_attempts_may_be_in_progress():
    assert refresh_module.MOST == 1000


@pytest.mark.parametrize(
    ("text", "error", "failures", "seconds"),
    [
        ("", None, 0, 0),
        ("", "no upstream answers", 1, 1),
        ("servfail 0", "no upstream answers", 0, 0),
        ("serve_stale 1h verify\nservfail 0", None, 0, 0),
    ],
)
def test_when_the_next_attempt_may_begin(text, error, failures, seconds):
    bench = Bench(f"cache {{\n{text}\n}}")
    refresher, entry = Refresher(bench.store, UNUSED), entry_for()
    entry.retry_at = 7.0
    refresher._wait(entry, error)
    assert entry.failures == failures
    assert entry.retry_at == (1000.0 + seconds if seconds else 7.0)
    bench.store.settings.stale.recheck = 4.0
    entry.failures = 0
    for expected in (4.0, 4.0, 4.0, 5.0, 5.0):
        refresher._wait(entry, error)
        is_longer = error is not None and bench.store.settings.servfail
        assert entry.retry_at == 1000.0 + (expected if is_longer else 4.0)


def test_a_reply_for_those_who_wait_for_the_same_one():
    bench = Bench()
    refresher, entry = Refresher(bench.store, UNUSED), entry_for()
    reply = reply_to(asked(), flags=b"\x81\xa0")
    reply.answered_by, reply.options = "forward", b"\0\x03\0\1x"
    for question, low in (({}, 0x80), ({"ad": 1}, 0xA0), ({"do": True}, 0xA0)):
        request = asked("WWW.example.ORG.", **question)
        made = refresher._present(request, entry, reply)
        expected = reply.wire[:3] + bytes([low]) + reply.wire[4:12] + request.question
        assert made.wire == expected + reply.wire[len(expected) :]
        assert (made.answered_by, made.options) == ("forward", b"\0\x03\0\1x")
    for ttl, is_kept in ((1, True), (0, False)):
        bench.put(entry_for(ttl=ttl))
        made = refresher._present(asked(), entry, reply)
        assert made.answered_by == "forward"
        assert (made.wire[2:4] == b"\x85\x80") is is_kept  # AA is that of an entry


# -- the command


class Ticks:
    """Counts how often other queries may run."""

    def __init__(self):
        self.count = 0

    async def sleep(self, seconds):
        assert seconds == 0
        self.count += 1


@pytest.mark.parametrize(("entries", "ticks"), [(0, 0), (1, 1), (1000, 1), (1001, 2)])
def test_purging_pauses_after_a_thousand_entries(monkeypatch, entries, ticks):
    table = EntryTable(5000, Budget(64 << 20))
    for number in range(entries):
        table.put(entry_for(f"n{number}."))
    clock = Ticks()
    monkeypatch.setattr(purge_module, "asyncio", clock)
    removed = asyncio.run(purge((table, EntryTable(1, Budget(1 << 20))), lambda _: True))
    assert (removed, clock.count, len(table)) == (entries, ticks, 0)


@pytest.mark.parametrize(
    "argument", [None, [], {}, {"name": 1}, {"other": "a."}, {"name": "a.", "zone": "a."}]
)
def test_arguments_of_purge_that_are_refused(argument):
    with pytest.raises(CommandError) as caught:
        purge_predicate(argument)
    assert str(caught.value) == 'purge takes {"name": NAME} or {"zone": ZONE}'


@pytest.mark.parametrize(
    ("counts", "line"),
    [([0], "0 entries purged\n"), ([1], "1 entry purged\n"), ([1, 2], "3 entries purged\n")],
)
@pytest.mark.parametrize("words", [["WWW.example.org"], ["-zone", "WWW.example.org"]])
def test_the_command(monkeypatch, capsys, counts, line, words):
    asked_for = []

    def ask_all(command, argument):
        asked_for.append((command, argument))
        return [("socket", [{"value": count}]) for count in counts]

    monkeypatch.setattr(cli, "ask_all", ask_all)
    assert cli.main(["purge", *words]) == 0
    kind = "zone" if len(words) == 2 else "name"
    assert asked_for == [("cache/purge", {kind: "WWW.example.org."})]
    assert capsys.readouterr() == (line, "")


def test_the_command_without_a_server(monkeypatch, capsys):
    monkeypatch.setattr(cli, "ask_all", lambda *_: [])
    assert cli.main(["purge", "a."]) == 1
    assert capsys.readouterr() == (
        "",
        "corepy cache: no server with a cache runs here, or this user may not use its control"
        " socket\n",
    )
    assert cli.main(["purge", "a..b"]) == 1
    for words in ([], ["a.", "-zone", "a."]):
        with pytest.raises(SystemExit, match="2"):
            cli.main(["purge", *words])


# -- what counts as an answer of an upstream, and replies of the usual kind


def changed(**values):
    """Make a reply with these values when the test runs."""

    def make():
        reply = asked().error(0)
        for name, value in values.items():
            setattr(reply, name, value)
        return reply

    return make


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (None, False),
        ("text", False),
        (asked().error(0), True),
        (asked().error(2), True),
        (asked().error(5), False),
        (asked().error(2, "no upstream answers"), False),
        (asked().drop(), False),
        (changed(is_momentary=True), False),
        pytest.param(
            changed(wire=None),
            False,
            marks=pytest.mark.pure_form("a value of another type is refused at once"),
        ),
        (changed(wire=b"\0\0\x81"), False),
        (changed(wire=b"\0\0\x81\x80"), True),
        (changed(wire=b"\0\0\x81\x05"), False),
        (changed(wire=b"\0\0\x81\x95"), False),
        (changed(wire=b"\0\0\x81\x10"), True),
    ],
)
def test_whether_an_upstream_has_answered(reply, expected):
    assert is_answer(reply() if callable(reply) else reply) is expected


def plain(*records, counts=b"\0\0\0\0"):
    """The TTL of a reply with these records, as (type, class, TTL, length of data)."""
    request = asked()
    wire = b"\0\0\x81\x80\0\1" + len(records).to_bytes(2, "big") + counts + request.question
    for rtype, rclass, ttl, size in records:
        head = b"\xc0\x0c" + rtype.to_bytes(2, "big") + rclass.to_bytes(2, "big")
        wire += head + ttl.to_bytes(4, "big") + size.to_bytes(2, "big") + bytes(size)
    return _plain_ttl(wire, request), wire, request


@pytest.mark.parametrize(
    ("records", "ttl"),
    [
        ([], None),
        ([(1, 1, 60, 4)], 60),
        ([(1, 1, 60, 4), (1, 1, 30, 4), (1, 1, 90, 4)], 30),
        ([(1, 1, 60, 0)], 60),  # it ends with the message
        ([(1, 1, 60, 0)] * 258, 60),
        ([(1, 1, 60, 0)] * 257 + [(1, 1, 7, 0)], 7),
        ([(2, 1, 60, 4)], None),
        ([(1, 3, 60, 4)], None),
        ([(1, 1, 60, 4), (5, 1, 60, 4)], None),
        ([(1, 1, 0x7FFFFFFF, 4)], 0x7FFFFFFF),
        ([(1, 1, 0x80000000, 4)], 0),
        ([(1, 1, 0, 4)], 0),
    ],
)
def test_the_ttl_of_a_reply_with_the_records_asked_for(records, ttl):
    found, wire, request = plain(*records)
    assert found == ttl
    if records:
        assert _plain_ttl(wire[:-1], request) == (ttl if records[-1][3] else None)


@pytest.mark.parametrize("counts", [b"\0\1\0\0", b"\1\0\0\0", b"\0\0\0\1", b"\0\0\1\0"])
def test_a_reply_with_other_sections_is_looked_at_in_full(counts):
    assert plain((1, 1, 60, 4), counts=counts)[0] is None


def test_a_reply_with_another_owner_is_looked_at_in_full():
    _, wire, request = plain((1, 1, 60, 4))
    place = request.question_end
    for changed_byte in (place, place + 1):
        other = bytearray(wire)
        other[changed_byte] ^= 1
        assert _plain_ttl(bytes(other), request) is None


def test_the_end_of_a_chain_of_aliases():
    aliases = {b"a": b"b", b"b": b"c", b"c": b"d"}
    assert [_end_of_chain(it, aliases) for it in (b"a", b"c", b"d", b"x")] == [
        b"d", b"d", b"d", b"x"
    ]  # fmt: skip
    assert _end_of_chain(b"a", {b"a": b"b", b"b": b"a"}) is None
    assert _end_of_chain(b"a", {b"a": b"a"}) is None


# -- commands to a server


@pytest.mark.parametrize(
    ("entries", "removed", "line"),
    [
        (0, 0, None),
        (1, 1, "purged 1 entry of zone example.org."),
        (3, 3, "purged 3 entries of zone example.org."),
    ],
)
def test_a_purge_clears_the_packet_caches_as_well(caplog, entries, removed, line):
    controller = controller_for("cache")
    setup(controller)
    (configured,) = controller.handlers
    cache = Cache(configured.settings, Budget(1 << 20), lambda: 1000.0)
    calls = []

    async def discard():
        calls.append("discarded")

    context: Any = SimpleNamespace(forget=lambda: calls.append("forgot"), discard_snapshots=discard)
    cache.serving(context)
    for number in range(entries):
        cache.store.success.put(entry_for(f"n{number}.example.org."))
    cache.store.denial.put(entry_for("example.com."))
    assert asyncio.run(cache.command("other", None)) is None
    assert calls == []
    with caplog.at_level("INFO"):
        found = asyncio.run(cache.command("cache/purge", {"zone": "example.org."}))
    assert (found, calls, len(cache.store.denial)) == (removed, ["forgot", "discarded"], 1)
    assert caplog.messages == ([] if line is None else [line])


def test_a_query_at_the_start_of_the_clock_is_reported_as_well(caplog):
    controller = controller_for("cache")
    setup(controller)
    (configured,) = controller.handlers
    cache = Cache(configured.settings, Budget(1 << 20), lambda: 0.0)
    metrics = cache.metrics("dns://:53")
    before = metrics.rejects.value
    reply = cache._answers.overloaded(asked(received=0.0), metrics)
    assert (reply.rcode, reply.is_momentary, metrics.rejects.value) == (2, True, before + 1)
    (line,) = caplog.messages
    assert line == (
        "too many queries wait for an upstream (0, within 1048576 bytes of memory), or too many of"
        " one client: further queries, such as one of 192.0.2.1, get SERVFAIL"
    )


# -- the directive


def configured(text):
    controller = controller_for(text)
    setup(controller)
    (cache,) = controller.handlers
    assert isinstance(cache, Cache)
    return cache.settings, [it.message for it in controller.warnings]


def test_the_defaults():
    settings, warnings = configured("cache")
    assert settings == Settings(
        zones=["."],
        success=Bounds(3600, 5, 9984, ()),
        denial=Bounds(1800, 5, 9984, ()),
        prefetch=Prefetch(0, 60.0, 10),
        stale=Stale(0, False, 0.0, 0, 0.0, False),
        servfail=5,
        keep_ttl=False,
        memory=0,
    )
    assert (settings, warnings) == (Settings(), [])
    assert configured("cache {\nserve_stale\n}")[0].stale == Stale(3600, False, 0.0, 0, 0.0, False)


@pytest.mark.parametrize(
    ("text", "bounds"),
    [
        ("1023", Bounds(3600, 5, 1024)),
        ("1025 1", Bounds(1, 5, 1025)),
        ("1024 2147483647 2147483647", Bounds(2147483647, 2147483647, 1024)),
        ("1024 2147483648 2147483648", Bounds(2147483647, 2147483647, 1024)),
    ],
)
def test_bounds_at_their_edges(text, bounds):
    assert configured(f"cache {{\nsuccess {text}\n}}")[0].success == bounds
    if " " in text:
        assert configured(f"cache {text.split()[1]}")[0].denial.max_ttl == bounds.max_ttl


@pytest.mark.parametrize(
    ("text", "prefetch"),
    [
        ("0", Prefetch(0, 60.0, 10)),
        ("3 2m", Prefetch(3, 120.0, 10)),
        ("3 2m 10%", Prefetch(3, 120.0, 10)),
        ("3 2m 90%", Prefetch(3, 120.0, 90)),
    ],
)
def test_prefetch(text, prefetch):
    assert configured(f"cache {{\nprefetch {text}\n}}")[0].prefetch == prefetch


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("30s", "'30s' is taken as a zone, not as a TTL"),
        ("{\nsuccess 1023\n}", "a cache holds at least 1024 entries"),
        ("{\ndenial 1024 60 5 more\n}", "everything after MINTTL is ignored"),
    ],
)
def test_what_is_warned_about(text, message):
    assert configured(f"cache {text}")[1] == [message]


@pytest.mark.parametrize(
    ("text", "message", "token"),
    [
        ("0", "cache TTL can not be zero or negative: 0", "0"),
        ("{\nsuccess 1024 0\n}", "cache TTL can not be zero or negative: 0", "0"),
        ("{\nsuccess 1024 7 -1\n}", "cache min TTL can not be negative: -1", "-1"),
        ("{\nprefetch -1\n}", "prefetch amount should be positive: -1", "-1"),
        ("{\nprefetch 1 1m 10\n}", "percentage should end in %", "10"),
        ("{\nprefetch 1 1m 9%\n}", "percentage should fall in range [10, 90]: 9", "9%"),
        ("{\nprefetch 1 1m 91%\n}", "percentage should fall in range [10, 90]: 91", "91%"),
        (
            "{\nserve_stale 1m immediate 0 0 x\n}",
            "too many arguments for serve_stale immediate",
            "x",
        ),
        (
            "{\nserve_stale 1m other\n}",
            "invalid value for serve_stale refresh mode: other",
            "other",
        ),
        ("{\nservfail -1s\n}", "invalid negative TTL for servfail", "-1s"),
        ("{\nservfail 5m1s\n}", "SERVFAIL may be cached for at most 5 minutes", "5m1s"),
        ("{\ndisable all a.\n}", 'cache type for disable must be "success" or "denial"', "all"),
        ("{\nmemory 1048575\n}", "memory must be at least 1MiB", "1048575"),
        ("{\nmemory lots\n}", "not a size: 'lots'", "lots"),
        (
            "{\nserve_stale_policy prefer_positive\n}",
            "serve_stale_policy requires serve_stale",
            "serve_stale_policy",
        ),
    ],
)
def test_what_is_refused_and_where(text, message, token):
    with pytest.raises(CorefileError) as caught:
        configured(f"cache {text}")
    (found,) = caught.value.diagnostics
    assert (found.message, found.token.text) == (message, token)


# -- keys of subnets


def test_the_keys_of_a_subnet_and_its_networks():
    networks = Networks()
    subnet = Subnet(1, 24, b"\xc0\0\2")
    own, everybody = b"\x81\x18\xc0\0\2", b"\0"
    assert list(networks.keys(subnet)) == [own, everybody]
    assert networks.key(subnet, -1) == own
    assert networks.key(subnet, 25) == own
    assert networks.key(subnet, 0) == everybody
    assert list(networks.keys(subnet)) == [own, everybody]
    assert networks.key(subnet, 24) == b"\1\x18\xc0\0\2"
    assert networks.key(subnet, 12) == b"\1\x0c\xc0\0"
    assert networks.key(subnet, 1) == b"\1\1\x80"
    assert list(networks.keys(subnet)) == [
        own, b"\1\x18\xc0\0\2", b"\1\x0c\xc0\0", b"\1\1\x80", everybody
    ]  # fmt: skip
    assert list(networks.keys(Subnet(1, 23, b"\xc0\0\2"))) == [
        b"\x81\x17\xc0\0\2", b"\1\x0c\xc0\0", b"\1\1\x80", everybody
    ]  # fmt: skip
    six = Subnet(2, 13, b"\x20\x08")
    assert list(networks.keys(six)) == [b"\x82\x0d\x20\x08", everybody]
    assert networks.key(six, 13) == b"\2\x0d\x20\x08"
    without = Subnet(1, 0, b"")
    assert networks.key(without, 0) == b"\xff"
    assert next(networks.keys(without)) == b"\xff"


@pytest.mark.parametrize(
    ("flags", "do", "suffix"),
    [(0x0100, False, 0), (0x0000, False, 2), (0x0110, False, 1), (0x0100, True, 4), (0, True, 6)],
)
def test_the_flags_in_a_key(flags, do, suffix):
    request = asked(rd=flags >> 8, cd=flags >> 4 & 1, do=do)
    name = b"\3www\7example\3org\0"
    key = name + b"\0\1\0\1"
    assert key_of(request) == key + bytes([suffix] if suffix else b"")
    assert subnet_key_of(request, b"\xff") == key + bytes([suffix]) + b"\xff"
    assert name_of(key_of(request)) == name
    assert name_of(b"\0\0\1\0\1") == b"\0"
