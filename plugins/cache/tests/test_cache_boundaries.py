"""Values at which the cache decides otherwise, and what a hit counts."""

import asyncio
import gc
import warnings

import dnslib
import pytest

from corepy.dns import Reply
from corepy.plugin import FastHandler
from corepy.server.build import builder
from corepy.testing import Recorder, controller_for, link, make_request
from corepy_cache import setup
from corepy_cache.budget import WAITING_SIZE, Budget
from corepy_cache.cache_store import EntryHitCounter
from corepy_cache.handler import Cache
from corepy_cache.keys import key_of
from corepy_cache.settings import Bounds, Prefetch, parse_size


class Bench:
    """A cache above a chain that answers as `reply` says, at a time that the test sets."""

    def __init__(self, text="cache"):
        controller = controller_for(text)
        setup(controller)
        (configured,) = controller.handlers
        assert isinstance(configured, Cache)
        self.now = 1000.0
        self.reply = answer(60)
        self.cache = Cache(configured.settings, Budget(64 << 20), lambda: self.now)
        self.below = Recorder(lambda request: self.reply(request))
        link([self.cache, self.below])

    @property
    def asked(self):
        return len(self.below.requests)

    def ask(self):
        request = make_request("www.example.org")
        request.received = self.now
        return asyncio.run(self.cache.serve_dns(request))


def packed(rcode, line):
    """Return a behaviour that answers with this record, in the authority section of an error."""

    def reply(request):
        record = dnslib.DNSRecord.parse(request.wire).reply(ra=1, aa=0)
        record.header.rcode = rcode
        (record.add_auth if rcode else record.add_answer)(*dnslib.RR.fromZone(line))
        return Reply.from_wire(bytes(record.pack()))

    return reply


def answer(ttl, address="192.0.2.1"):
    return packed(0, f"www.example.org. {ttl} IN A {address}")


def nxdomain(ttl):
    return packed(3, f"example.org. {ttl} IN SOA ns.example.org. admin.example.org. 1 1 1 1 3600")


def failure(reason):
    return lambda request: request.error(2, reason)


def ttls(reply):
    return [rr.ttl for rr in reply.record.rr]


def address(reply):
    return str(reply.record.rr[0].rdata)


@pytest.mark.parametrize("ttl", [1, 2, 5])
def test_news_of_any_ttl_are_answered_from_their_entry(ttl):
    """AA is set, as in all replies of the cache; the upstream's had none."""
    bench = Bench("cache {\nsuccess 2000 3600 1\nserve_stale 1h verify\n}")
    bench.ask()
    bench.now += 100
    bench.reply = answer(ttl, "192.0.2.2")
    reply = bench.ask()
    assert (address(reply), ttls(reply)) == ("192.0.2.2", [ttl])
    assert reply.wire[2] & 4
    bench.now += ttl - 0.001
    assert ttls(bench.ask()) == [1]
    assert bench.asked == 2


@pytest.mark.parametrize(
    ("ttl", "percentage", "threshold"), [(100, 10, 10), (101, 10, 11), (9, 10, 1), (60, 90, 54)]
)
def test_when_prefetch_begins(ttl, percentage, threshold):
    assert Prefetch(1, 60.0, percentage).threshold(ttl) == threshold


@pytest.mark.parametrize(
    ("ttl", "kept"), [(0, 5), (4, 5), (5, 5), (6, 6), (3599, 3599), (3600, 3600), (3601, 3600)]
)
def test_bounds_of_a_ttl(ttl, kept):
    assert Bounds(3600).clamp(ttl) == kept


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("65536", 65536),
        ("5B", 5),
        ("1k", 1000),
        ("2KB", 2000),
        ("1KiB", 1024),
        ("3MiB", 3 << 20),
        ("3mb", 3_000_000),
        ("1Gi", 1 << 30),
        ("1G", 10**9),
        ("5iB", None),
        ("5i", None),
        ("", None),
        ("K", None),
        ("-1", None),
        ("1T", None),
        ("1.5M", None),
        ("9" * 19, None),
    ],
)
def test_sizes_of_memory(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(("age", "is_stale"), [(60, True), (60 + 3599, True), (60 + 3600, False)])
@pytest.mark.parametrize("kind", [answer, nxdomain])
def test_how_long_a_stale_reply_is_served(kind, age, is_stale):
    bench = Bench("cache {\nserve_stale 1h\n}")
    bench.reply = kind(60)
    bench.ask()
    bench.reply = failure("no upstream answers")
    bench.now += age
    assert (bench.ask().rcode != 2) is is_stale


@pytest.mark.parametrize(
    ("pause", "seconds"), [(0.5, 1), (59.0, 2), (60.0, 2), (60.5, 1), (1000.0, 1)]
)
def test_failures_in_a_row(pause, seconds):
    """The second in a row within a minute is cached for two seconds."""
    bench = Bench("cache {\nservfail 5m\n}")
    bench.reply = failure("no upstream answers")
    bench.ask()
    bench.now += pause
    bench.ask()
    store = bench.cache.store
    entry = store.denial.get(key_of(make_request("www.example.org")))
    assert entry.ttl == seconds
    assert bench.asked == (1 if pause < 1 else 2)


@pytest.mark.parametrize(
    "options", ["", "serve_stale 1s\nserve_stale_policy prefer_positive"], ids=["", "positive"]
)
def test_looking_for_an_entry_leaves_it_as_it_is(options):
    bench = Bench(f"cache {{\n{options}\n}}")
    bench.ask()
    store = bench.cache.store
    key = key_of(make_request("www.example.org"))
    entry = store.success.get(key)
    for used in (False, True):
        entry.used = used
        assert store.peek(key, bench.now) is entry
        assert entry.used is used
    assert store.peek(key, bench.now + 59.9) is entry
    assert store.peek(key, bench.now + 61) is None


@pytest.mark.parametrize(("kind", "counter"), [(answer, "success"), (nxdomain, "denial")])
@pytest.mark.parametrize(("option", "hits"), [("", 0), ("prefetch 2", 7)])
def test_hits_of_the_packet_cache_count_as_those_of_this_one(kind, counter, option, hits):
    bench = Bench(f"cache {{\n{option}\n}}")
    bench.reply = kind(60)
    bench.ask()
    store, metrics = bench.cache.store, bench.cache.metrics("dns://:53")
    table = store.success if counter == "success" else store.denial
    (entry,) = table
    entry.used = False
    before = [each.value for each in (metrics.requests, metrics.success_hits, metrics.denial_hits)]
    EntryHitCounter(store, entry, metrics).count_hits(7)
    after = [each.value for each in (metrics.requests, metrics.success_hits, metrics.denial_hits)]
    added = [new - old for new, old in zip(after, before, strict=True)]
    assert added == ([7, 7, 0] if counter == "success" else [7, 0, 7])
    assert entry.used
    assert (entry.hits, entry.last_hit) == ((hits, bench.now) if hits else (0, 0.0))


def test_a_query_above_the_limit_is_refused_for_the_moment_only(caplog):
    """A plugin above may not cache it, and the log has one line in ten seconds."""
    bench = Bench()
    bench.cache.budget._set(2 * WAITING_SIZE)
    holder = make_request("held.example.org", peer=("192.0.2.1", 1))
    holder.received = bench.now
    assert bench.cache.budget.begin_wait(holder)
    rejects = bench.cache.metrics("dns://:53").rejects
    before = rejects.value
    for after, lines in ((0.0, 1), (9.999, 1), (10.0, 2), (10.001, 2)):
        request = make_request("www.example.org")
        request.received = bench.now + after
        reply = bench.cache.begin_dns(request)
        assert reply.rcode == 2
        assert reply.is_momentary
        assert b"too many queries wait" in reply.options
        assert len(caplog.records) == lines
    assert rejects.value == before + 4
    assert bench.asked == 0
    bench.cache.budget.end_wait(holder, answered=True)


class Late(FastHandler):
    """Returns a coroutine of its own, which the guard has to wrap."""

    name = "late"

    def begin_dns(self, request):
        return self.pass_on(request, self.next.begin_dns(request))

    async def pass_on(self, request, answer):
        return answer if type(answer) is Reply else await answer


def test_a_query_refused_before_its_chain_begins_leaves_no_coroutine():
    """The guards below hold coroutines that have not begun either."""
    bench = Bench()
    bench.cache.budget._set(2 * WAITING_SIZE)
    builder.link([bench.cache, Late(), Late(), bench.below])

    async def run():
        request, holder = make_request("www.example.org"), make_request("held.example.org")
        chain = bench.cache.begin_dns(request)
        assert bench.cache.budget.begin_wait(holder)
        reply = await chain
        bench.cache.budget.end_wait(holder, answered=True)
        return reply

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        reply = asyncio.run(run())
        gc.collect()
    assert reply.is_momentary
    assert [str(warning.message) for warning in caught] == []
    assert bench.cache.budget.used == 0
