"""Entries as bytes: everything returns but time, and nothing malformed is stored."""

import random
from struct import unpack_from
from typing import Any

import dnslib
import pytest

from corepy.dns.edns import OPTION_SUBNET, Edns, option
from corepy.dns.message import Request, query
from corepy.dns.names import from_text
from corepy.dns.survey import survey
from corepy.testing import Recorder, controller_for, link, make_request
from corepy_cache.budget import Budget
from corepy_cache.dump import dump, load
from corepy_cache.handler import Cache
from corepy_cache.keys import name_of
from corepy_cache.settings import Parser, Settings

SOA = "example.org. 600 IN SOA ns.example.org. admin.example.org. 1 7200 3600 1209600 600"
STALE = "{\nserve_stale\n}"
HEADER = 9
POSITIVE = "{\nserve_stale\nserve_stale_policy prefer_positive\n}"


class Bench:
    """A cache at the time `now`, above an upstream that answers from records."""

    def __init__(self, options="", now=1000.0):
        controller = controller_for(f"cache {options}")
        settings = Settings()
        for _ in controller.single():
            Parser(controller, settings).directive()
        self.now = now
        self.cache = Cache(settings, Budget(1 << 24), lambda: self.now)
        self.store = self.cache.store
        self.upstream = Recorder(self.answer)
        self.top = link([self.cache, self.upstream])

    def answer(self, request):
        if request.name.startswith("nx."):
            return request.reply(3, authority=dnslib.RR.fromZone(SOA))
        if request.name.startswith("fail."):
            return request.error(2)
        reply = request.reply(answer=dnslib.RR.fromZone(f"{request.name} 300 A 192.0.2.1"))
        if request.name.startswith("subnet."):
            reply.options = option(OPTION_SUBNET, bytes((0, 1, 24, 24, 192, 0, 2)))
        return reply

    def ask(self, name, **question):
        return self.put(make_request(name, **question))

    def put(self, request):
        """Return the reply to a query, which arrives now."""
        request.received = self.now
        request.context = make_request("x.").context
        request.client = ("127.0.0.1", 1)
        try:
            self.top.serve_dns(request).send(None)
        except StopIteration as end:
            return end.value
        raise AssertionError("the chain waits")

    def entries(self):
        return [*self.store.success, *self.store.denial]

    def dumped(self, most=1 << 20):
        return b"".join(dump(self.store, most))

    def load(self, state, elapsed=0.0):
        loading = load(self.store, memoryview(state), elapsed)
        while True:
            try:
                next(loading)
            except StopIteration as end:
                return end.value


def facts(entry):
    """Return all that an entry consists of, except times and numbers of hits."""
    names = ("key", "head", "offsets", "ttl", "denial", "answers", "authentic", "options", "used")
    tail = bytearray(entry.tail)
    for at in entry.offsets:
        tail[at : at + 4] = b"\0\0\0\0"
    good = [] if entry.last_good is None else facts(entry.last_good)
    return [*(getattr(entry, name) for name in names), entry.wildcard, bytes(tail), good]


def with_subnet(prefix, *address):
    data = bytes((0, 1, prefix, 0, *address))
    edns = Edns(options=option(OPTION_SUBNET, data))
    return Request.from_wire(query(from_text("subnet.example.org."), 1, edns=edns))


QUESTIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("www.example.org.", {}),
    ("nx.example.org.", {}),
    ("do.example.org.", {"edns": 1232, "do": True}),
    ("cd.example.org.", {"flags": 0x0110}),
    ("norecursion.example.org.", {"flags": 0}),
)


def full():
    """Return a bench with an entry of each kind, and a failure."""
    bench = Bench(STALE)
    for name, question in QUESTIONS:
        bench.ask(name, **question)
    bench.ask("fail.example.org.")
    bench.put(with_subnet(24, 192, 0, 2))
    www = next(iter(bench.store.success))
    www.wildcard = "*.example.org."
    www.authentic = www.used = True
    return bench


def test_all_entries_but_failures_return():
    bench, other = full(), Bench(STALE, now=77.0)
    before = sorted(facts(it) for it in bench.entries() if it.rcode != 2)
    assert other.load(bench.dumped()) == len(before) == len(bench.entries()) - 1 == 6
    assert sorted(map(facts, other.entries())) == before
    assert {it.stored for it in other.entries()} == {77.0}
    assert other.cache.budget.used == sum(it.size for it in other.entries())


@pytest.mark.parametrize(("name", "question"), QUESTIONS)
def test_replies_are_as_before(name, question):
    bench, other = full(), Bench(now=77.0)
    bench.now += 100.0
    bench.ask("www.example.org.")  # lowers the TTL in the stored message
    other.load(bench.dumped(), 20.0)
    other.now += 30.0
    bench.now += 50.0
    asked = make_request(name, **question).wire
    ours, theirs = (it.put(Request.from_wire(asked)).wire for it in (bench, other))
    assert ours == theirs
    assert (150 if name != "nx.example.org." else 450).to_bytes(4) in ours
    assert other.upstream.requests == []


def test_networks_of_subnets_return():
    bench, other = full(), Bench()
    other.load(bench.dumped())
    reply = other.put(with_subnet(32, 192, 0, 2, 7))
    assert reply.options == option(OPTION_SUBNET, bytes((0, 1, 32, 24, 192, 0, 2, 7)))
    assert other.upstream.requests == []


@pytest.mark.parametrize(
    ("age", "elapsed", "options", "left"),
    [
        (0.0, 0.0, "", 300),
        (10.2, 0.0, "", 289),
        (0.0, 10.2, "", 290),
        (299.5, 0.0, "", None),
        (0.0, 300.0, "", None),
        (0.0, 1e9, "", None),
        (0.0, 310.0, "{\nserve_stale 1m\n}", -10),
        (0.0, 310.0, "{\nserve_stale 5s\n}", None),
        (10.0, 0.0, "60", 50),
        (70.0, 0.0, "60", None),
        (0.0, 0.0, "{\ndisable success org\n}", None),
        (0.0, 0.0, "{\ndisable success com\n}", 300),
    ],
)
def test_no_entry_lives_longer_than_its_ttl(age, elapsed, options, left):
    bench, other = Bench(STALE), Bench(options, now=5.0)
    bench.ask("www.example.org.")
    bench.now += age
    other.load(bench.dumped(), elapsed)
    other.now += 0.7
    assert [it.left(other.now) for it in other.entries()] == ([] if left is None else [left])


def test_an_answer_that_prefer_positive_has_kept():
    bench, good, other = (Bench(POSITIVE) for _ in range(3))
    for each in (bench, good):
        each.ask("www.example.org.")
    bench.ask("other.example.org.")
    empty, _ = bench.store.success
    (empty.last_good,) = good.store.success
    empty.answers = False
    other.load(bench.dumped())
    assert [facts(it) for it in other.store.success] == [facts(it) for it in bench.store.success]


def test_the_limit_keeps_the_newest_in_their_order():
    bench, other = Bench(), Bench()
    for number in range(500):
        bench.ask(f"n{number}.example.org.")
    size = len(bench.dumped()) // 2
    state = bench.dumped(size)
    assert size * 0.9 < len(state) <= size + 1
    count = other.load(state)
    assert list(other.store.success.entries) == list(bench.store.success.entries)[-count:]
    assert bench.dumped(0) == b"-\0\0\0\5\0\0\0\5"


@pytest.mark.parametrize(
    ("before", "after", "left"),
    [
        ("success 2000 3600 400", "success 2000 3600 400", 3),
        ("success 2000 3600 400", "success 2000 3600 500", 3),
        ("success 2000 3600 400", "success 2000 3600 399", 1),
        ("success 2000 3600 400", "denial 2000 3600 399", 1),
        ("denial 2000 3600 900", "", 2),
        ("success 2000 3600 200", "", 3),
    ],
    ids=["equal", "higher", "lower", "default", "denial", "not-extended"],
)
def test_a_lower_minimum_ends_the_entries_that_the_earlier_one_may_have_extended(
    before, after, left
):
    """Positive replies have a TTL of 300 here, the denial has 600."""
    bench, other = Bench(f"{{\n{before}\n}}"), Bench(f"{{\n{after}\n}}")
    for name in ("www.example.org.", "ftp.example.org.", "nx.example.org."):
        bench.ask(name)
    assert other.load(bench.dumped()) == left


def test_the_minimum_of_a_cache_that_shares_the_entries_counts():
    bench, following, other = Bench("{\nsuccess 2000 3600 400\n}"), Bench(), Bench()
    bench.ask("www.example.org.")
    following.store.share(bench.store)
    assert other.load(following.dumped()) == 0
    leaving = bench.store.leave()
    leaving.send(None)  # it has begun to remove the entries
    assert following.store.contents.min_ttls == (400, 5)
    assert list(leaving.__await__()) == []  # nothing is left to remove
    assert following.store.contents.min_ttls == (5, 5)


def test_an_answer_behind_an_entry_may_have_been_extended():
    bench, good, other = (Bench(POSITIVE) for _ in range(3))
    bench.ask("www.example.org.")
    good.ask("www.example.org.")
    (entry,), (entry.last_good,) = bench.store.success, good.store.success
    entry.answers, entry.last_good.ttl = False, 6
    bench.cache.settings.success.min_ttl = 7
    assert other.load(bench.dumped()) == 0


OF_OTHER_TYPE = pytest.mark.pure_form("a value of another type is refused at once")


@pytest.mark.parametrize(
    "wildcard",
    [
        pytest.param(b"*.example.org.", marks=OF_OTHER_TYPE, id="bytes"),
        pytest.param(7, marks=OF_OTHER_TYPE, id="int"),
        pytest.param(None, marks=OF_OTHER_TYPE, id="none"),
        pytest.param("\ud800", id="surrogate"),
        pytest.param("*" * 70_000, id="long"),
    ],
)
def test_metadata_that_is_no_name_costs_one_entry(wildcard):
    """Any plugin may set it; the entry stays in this process."""
    bench, other = Bench(), Bench()
    bench.ask("www.example.org.")
    bench.ask("ftp.example.org.")
    _, ftp = bench.store.success
    ftp.wildcard = wildcard
    assert other.load(bench.dumped()) == 1


def test_a_smaller_cache_keeps_the_newest():
    bench, other = Bench("{\nsuccess 3000\n}"), Bench("{\nsuccess 1024\n}")
    for number in range(1200):
        bench.ask(f"n{number}.example.org.")
    other.load(bench.dumped())
    assert list(other.store.success.entries) == list(bench.store.success.entries)[-1024:]


def test_a_state_takes_a_fifth_more_than_its_messages_at_most():
    bench = Bench()
    for number in range(300):
        bench.ask(f"n{number}.svc.example.org.")
    assert len(bench.dumped()) < 1.2 * sum(
        12 + len(it.key) + len(it.tail) for it in bench.entries()
    )


def test_that_look_ups_were_used_returns():
    bench, other = Bench(), Bench()
    bench.store.contents.uses_lookups = True
    other.load(bench.dumped())
    assert other.cache.depends_on_lookups


@pytest.mark.parametrize("seed", range(40))
def test_a_damaged_state_stores_nothing_malformed(seed):
    """Damage is found, or the replies of all entries are well-formed."""
    chance = random.Random(seed)
    state = bytearray(full().dumped())
    for _ in range(chance.choice((1, 1, 2, 20))):
        state[chance.randrange(1, len(state))] = chance.randrange(256)
    if chance.random() < 0.3:
        del state[chance.randrange(len(state)) :]
    other = Bench(STALE)
    try:
        other.load(bytes(state))
    except ValueError:
        assert other.entries() == []
    for entry in other.entries():
        name = name_of(entry.key)
        qtype, qclass = unpack_from("!HH", entry.key, len(name))
        reply = entry.reply(Request.from_wire(query(name, qtype, qclass)), 5)
        assert survey(reply.wire)[1:] == (0, len(reply.wire))
        assert 0 < entry.ttl < 1 << 31


@pytest.mark.parametrize(
    ("at", "value", "problem"),
    [
        (0, b"\xff", "cut off"),
        (2, b"\xff", "cut off"),
        (5, b"\0\0\0\0", "a TTL out of range"),
        (5, b"\x80\0\0\0", "a TTL out of range"),
        (13, b"\x05", "other flags"),
        (13, b"\x87", "other flags"),
        (14, b"\x82", "other flags"),
        (14, b"\xc0", "other flags"),
        (16, b"\2", "malformed"),
        (20, b"\1", "malformed"),
        (21, b"\5", "malformed"),
        (22, b"W", "capital letters"),
        (21, b"\x40", "malformed"),
        (4, b"\x08", "cut off"),
        (-1, b"", "cut off"),
    ],
)
def test_a_record_with_one_mistake(at, value, problem):
    bench, other = Bench(), Bench()
    bench.ask("www.example.org.")
    state = bench.dumped()
    at = at % len(state) if at < 0 else at + HEADER
    with pytest.raises(ValueError, match=problem):
        other.load(state[:at] + value + state[at + max(1, len(value)) :])
    assert other.entries() == []


@pytest.mark.parametrize("data", [b"\0\x08\0\3\0\1\0", b"\0\x0f\0\2\0\3"], ids=["short", "code"])
def test_options_that_no_entry_has(data):
    """They would make each reply from the entry fail."""
    bench, other = Bench(), Bench()
    bench.put(with_subnet(24, 192, 0, 2))
    (entry,) = bench.entries()
    entry.options = data
    with pytest.raises(ValueError, match="other options"):
        other.load(bench.dumped())


@pytest.mark.pure_form("replaces a method of an object")
def test_a_large_state_is_read_as_far_as_it_fits(monkeypatch):
    """The rest is validated and dropped, for each kind of entry."""
    bench, other = Bench("{\ndenial 2000\n}"), Bench("{\nsuccess 1024\ndenial 1024\n}")
    for number in range(1100):
        bench.ask(f"n{number}.example.org.")
        bench.ask(f"nx.n{number}.example.org.")
    kept = []
    monkeypatch.setattr(other.store, "restore", lambda entry: kept.append(entry) or True)
    assert other.load(bench.dumped()) == 2048
    newest = [
        key
        for table in (bench.store.denial, bench.store.success)
        for key in [*table.entries][-1024:]
    ]
    assert [entry.key for entry in kept] == newest


class LargeReplies(Bench):
    """An upstream whose replies have 26 kB."""

    def answer(self, request):
        record = dnslib.RR(request.name, dnslib.QTYPE.TXT, ttl=300, rdata=dnslib.TXT(b"t" * 250))
        return request.reply(answer=[record] * 100)


def test_large_messages_are_read_in_small_slices():
    bench, other = LargeReplies(), Bench()
    for number in range(9):
        bench.ask(f"n{number}.example.org.", qtype="TXT")
    slices = list(load(other.store, memoryview(bench.dumped()), 0.0))
    assert len(other.entries()) == 9
    assert len(slices) == 3 + 1  # the last one stores the entries


def test_an_answer_of_another_entry():
    bench, other = Bench(), Bench()
    bench.ask("www.example.org.")
    bench.ask("ftp.example.org.")
    state = bytearray(bench.dumped())
    state[HEADER + 4] |= 16
    with pytest.raises(ValueError, match="without the one"):
        other.load(bytes(state))
