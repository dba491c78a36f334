"""The cache in a chain: hits, misses, ageing, keys, prefetch; the clock is the test's."""

import asyncio
import datetime

import dnslib
import pytest
from pluggy import PluginManager

from corepy.dns import Reply, Request
from corepy.dns.message import query
from corepy.plugin import CorefileError, LifecycleContext, ProcessGroup, metrics
from corepy.testing import Recorder, controller_for, link, make_request
from corepy_cache import setup
from corepy_cache.budget import WAITING_SIZE, Budget
from corepy_cache.entry_table import EntryTable
from corepy_cache.handler import Cache
from corepy_cache.keys import key_of
from corepy_cache.metrics import ENTRIES

SOA = "example.org. {} IN SOA ns.example.org. admin.example.org. 1 7200 3600 1209600 {}"


def context(processes):
    """What the hooks of a server of so many processes are told."""
    process_group = ProcessGroup()
    process_group.size = processes

    async def reload(_):
        return False

    return LifecycleContext(
        PluginManager("corepy"), reload, lambda: None, process_group=process_group
    )


class Bench:
    """A cache above a chain that answers as `reply` says, at a time that the test sets."""

    def __init__(self, text="cache", zone="."):
        controller = controller_for(text, zone)
        setup(controller)
        self.now = 1000.0
        self.cache = Cache(controller.handlers[0].settings, Budget(64 << 20), lambda: self.now)
        self.reply = answer(60)
        self.below = Recorder(lambda request: self.reply(request))
        self.top = link([self.cache, self.below])

    @property
    def asked(self):
        return len(self.below.requests)

    @property
    def kept(self):
        store = self.cache.store
        return len(store.success), len(store.denial)

    async def reply_to(self, name="www.example.org", qtype="A", **question):
        request = make_request(name, qtype, **question)
        request.received = self.now
        return await self.top.serve_dns(request)

    def ask(self, *args, **question):
        """Ask, and let what goes on in the background come to its end."""

        async def run():
            reply = await self.reply_to(*args, **question)
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            if tasks:
                await asyncio.wait(tasks)
            return reply

        return asyncio.run(run())


def message(*records, rcode=0, authority=(), additional=(), aa=0, ad=0, tc=0, question=None):
    """Return a behaviour that answers with these records of a zone file."""

    def reply(request):
        record = dnslib.DNSRecord.parse(request.wire)
        packed = record.reply(ra=1, aa=aa)
        packed.header.rcode, packed.header.ad, packed.header.tc = rcode, ad, tc
        packed.ar = []
        if question:
            packed.questions = [dnslib.DNSQuestion(question, record.q.qtype)]
        for records_of, add in (
            (records, packed.add_answer),
            (authority, packed.add_auth),
            (additional, packed.add_ar),
        ):
            for line in records_of:
                add(*dnslib.RR.fromZone(line.format(name=request.name)))
        return Reply.from_wire(bytes(packed.pack()))

    return reply


def answer(ttl, address="192.0.2.1", **flags):
    return message(f"{{name}} {ttl} IN A {address}", **flags)


def nxdomain(ttl, minimum=3600):
    return message(rcode=3, authority=[SOA.format(ttl, minimum)])


def failure(reason):
    return lambda request: request.error(2, reason)


def ttls(reply):
    record = reply.record
    return [rr.ttl for rr in (*record.rr, *record.auth, *record.ar)]


def address(reply):
    return str(reply.record.rr[0].rdata)


def entries(kind, zones="example.org.,example.com."):
    """Return what the gauge shows of the caches for these zones."""
    server = make_request("example.org").context.server
    return {labels: child.value for labels, child in ENTRIES.children()}[server, kind, zones, ""]


def test_how_many_are_kept_is_shown_to_those_who_ask():
    bench = Bench("cache example.org example.com")
    for number in range(3):
        bench.ask(f"{number}.example.org")
    bench.reply = nxdomain(60)
    bench.ask("no.example.org")
    assert (entries("success"), entries("denial")) == (3, 1)
    bench.ask("2.example.com")
    assert (entries("success"), entries("denial")) == (3, 2)
    bench.cache.store.clear()
    assert (entries("success"), entries("denial")) == (0, 0)


def test_of_two_generations_the_newer_one_is_shown():
    old = Bench("cache example.org example.com")
    old.ask()
    new = Bench("cache example.org example.com")
    new.ask("1.example.org")
    new.ask("2.example.org")
    assert entries("success") == 2
    old.ask("3.example.org")
    assert entries("success") == 2
    old.cache.store.clear()
    assert entries("success") == 2


def test_entries_that_others_evict_are_not_shown():
    """One budget for all: a flood in one cache costs the entries of another."""
    budget = Budget(8 << 10)
    few, many = Bench("cache few.org"), Bench("cache many.org")
    for bench in (few, many):
        bench.cache.budget = bench.cache.store.budget = budget
        bench.cache.store.success = EntryTable(1024, budget)
    for number in range(4):
        few.ask(f"{number}.few.org")
    budget.request_limit("a flood", 1)
    assert entries("success", "few.org.") == 0


def test_a_second_query_is_a_hit():
    bench = Bench()
    first = bench.ask()
    bench.now += 10
    second = bench.ask()
    assert bench.asked == 1
    assert (ttls(first), ttls(second)) == ([60], [50])
    assert address(second) == "192.0.2.1"
    assert not first.aa
    assert second.aa
    assert second.record.header.ra == 1


def test_it_expires():
    bench = Bench()
    bench.ask()
    bench.now += 59.9
    assert ttls(bench.ask()) == [1]
    bench.now += 0.1
    assert ttls(bench.ask()) == [60]
    assert bench.asked == 2


def test_the_clock_of_a_late_query_does_not_raise_the_ttl():
    bench = Bench()
    bench.ask()
    bench.now -= 30
    assert ttls(bench.ask()) == [60]


def test_case_of_the_question_is_the_clients():
    bench = Bench()
    bench.ask("www.example.org")
    reply = bench.ask("WWW.eXample.ORG")
    assert bench.asked == 1
    assert str(reply.record.q.qname) == "WWW.eXample.ORG."


@pytest.mark.parametrize(
    ("text", "behaviour", "expected"),
    [
        ("cache", answer(7200), 3600),
        ("cache", answer(3), 5),
        ("cache 30", answer(60), 30),
        ("cache 3", answer(60), 3),
        ("cache {\nsuccess 1024 7200 0\n}", answer(86400), 7200),
        ("cache", answer(0xFFFFFFFF), 5),
        (
            "cache {\nsuccess 1024 60 0\n}",
            message("{name} 20 IN A 1.2.3.4", "{name} 9 IN A 1.2.3.5"),
            9,
        ),
        ("cache", message("{name} 60 IN A 1.2.3.4", additional=["x.org. 30 IN A 1.2.3.4"]), 30),
        ("cache", nxdomain(7200), 1800),
        ("cache", nxdomain(300, 60), 60),
        ("cache", nxdomain(60, 300), 60),
        ("cache", nxdomain(2, 300), 5),
        ("cache {\ndenial 1024 30 0\n}", nxdomain(2, 300), 2),
        ("cache", message(authority=[SOA.format(100, 40)]), 40),
        ("cache", message("{name} 90 IN CNAME x.org.", authority=[SOA.format(100, 40)]), 40),
        (
            "cache",
            message("{name} 20 IN CNAME x.org.", authority=[SOA.format(100, 40)], rcode=3),
            20,
        ),
        ("cache", message(authority=["example.org. 300 IN NS ns.example.org."]), 5),
        ("cache", message(), 5),
        ("cache", message(rcode=2, authority=[SOA.format(100, 40)]), 5),
        ("cache {\nservfail 20s\n}", message(rcode=2), 20),
        ("cache", message(rcode=4), 5),
    ],
)
def test_how_long_it_is_kept(text, behaviour, expected):
    bench = Bench(text)
    bench.reply = behaviour
    assert set(ttls(bench.ask())) <= {expected}
    bench.now += expected - 1
    assert set(ttls(bench.ask())) <= {1}
    assert bench.asked == 1
    bench.now += 1
    bench.ask()
    assert bench.asked == 2


ALIAS = "{name} 60 IN CNAME a.org."


@pytest.mark.parametrize(
    ("behaviour", "qtype"),
    [
        (answer(60, tc=1), "A"),
        (message(rcode=3), "A"),
        (message(rcode=5), "A"),
        (message(rcode=1), "A"),
        (answer(60, question="other.org."), "A"),
        (message(ALIAS), "A"),
        (message(ALIAS, "a.org. 60 IN CNAME b.org."), "A"),
        (message(ALIAS, "a.org. 60 IN AAAA ::1"), "A"),
        (message(ALIAS), "MX"),
        (message(ALIAS, "unrelated.org. 60 IN A 1.2.3.4"), "A"),
        (message(ALIAS, "{name} 60 IN CNAME b.org.", "a.org. 60 IN A 1.2.3.4"), "A"),
        (message(ALIAS, "a.org. 60 IN CNAME {name}", "{name} 60 IN A 1.2.3.4"), "A"),
        (message("{name} 60 IN A 1.2.3.4", rcode=3, authority=[SOA.format(60, 60)]), "A"),
        (lambda request: Reply(request.wire), "A"),
        (lambda request: Reply(b""), "A"),
        (
            lambda request: Reply(request.error(0).wire[:6] + b"\0\7" + request.error(0).wire[8:]),
            "A",
        ),
        (message("{name} 60 CH A 1.2.3.4"), "A"),
        (answer(60), "AXFR"),
        (lambda request: request.error(16), "A"),
        (lambda request: request.error(23), "A"),
    ],
)
def test_what_is_not_kept(behaviour, qtype):
    bench = Bench()
    bench.reply = behaviour
    bench.ask(qtype=qtype)
    assert bench.kept == (0, 0)


@pytest.mark.parametrize(
    ("behaviour", "qtype"),
    [
        (message(ALIAS, "a.org. 60 IN A 1.2.3.4"), "A"),
        (message("a.org. 60 IN A 1.2.3.4", ALIAS), "A"),
        (message(ALIAS, ALIAS, "a.org. 60 IN A 1.2.3.4"), "A"),
        (message(ALIAS, "a.org. 60 IN MX 10 m.org."), "MX"),
        (message(ALIAS), "CNAME"),
        (message(ALIAS), "ANY"),
        (message("{name} 60 IN TXT x", "{name} 60 IN TXT y"), "TXT"),
        (message(additional=["{name} 60 IN A 1.2.3.4"]), "A"),
    ],
)
def test_what_is_kept_as_success(behaviour, qtype):
    bench = Bench()
    bench.reply = behaviour
    first = bench.ask(qtype=qtype)
    assert bench.kept == (1, 0)
    second = bench.ask(qtype=qtype)
    assert second.wire[6:] == first.wire[6:]


@pytest.mark.parametrize("qtype", ["AXFR", "IXFR"])
def test_transfers_are_left_alone(qtype):
    bench = Bench()
    bench.reply = message("{name} 7200 IN A 1.2.3.4", "{name} 300 IN A 1.2.3.5")
    assert ttls(bench.ask(qtype=qtype)) == [7200, 300]


def test_without_a_least_ttl_zero_is_not_kept():
    bench = Bench("cache {\nsuccess 1024 60 0\ndenial 1024 60 0\nservfail 0\n}")
    for behaviour in (answer(0), nxdomain(0), message(rcode=2), failure("timeout")):
        bench.reply = behaviour
        bench.ask()
        assert bench.kept == (0, 0)


def test_disabled_zones():
    bench = Bench("cache {\ndisable success p.org\ndisable denial n.org\n}")
    for name in ("p.org", "x.p.org", "n.org"):
        bench.ask(name)
    assert bench.kept == (1, 0)
    bench.reply = nxdomain(60)
    for name in ("p.org", "x.n.org", "xn.org"):
        bench.ask(name)
    assert bench.kept == (1, 2)


def test_other_zones_pass_by():
    bench = Bench("cache example.org")
    bench.ask("other.org")
    assert bench.kept == (0, 0)
    bench.ask("www.example.org")
    assert bench.kept == (1, 0)


def test_other_opcodes_pass_by():
    bench = Bench()
    bench.ask()
    bench.ask(opcode=4)
    assert bench.asked == 2
    assert bench.kept == (1, 0)


@pytest.mark.parametrize(
    "other",
    [{"qtype": "AAAA"}, {"do": True}, {"cd": 1}, {"do": True, "cd": 1}, {"qtype": "MX", "cd": 1},
     {"rd": 0}],
)  # fmt: skip
def test_keys_differ(other):
    bench = Bench()
    bench.ask()
    bench.reply = answer(60, "192.0.2.99")
    bench.ask(**other)
    assert bench.asked == 2


@pytest.mark.parametrize("other", [{"aa": 1}, {"ad": 1}, {"edns": 512}, {"edns": 4096}])
def test_keys_are_the_same(other):
    bench = Bench()
    bench.ask()
    bench.ask(**other)
    assert bench.asked == 1


def test_names_of_equal_bytes_are_told_apart():
    names = [b"\1a\1b\0", b"\3a.b\0", b"\2ab\0", b"\1a\1b\1c\0", b"\3a\1b\0", b"\4\1a\1b\0", b"\0"]
    requests = [Request.from_wire(query(name, 1)) for name in names]
    assert len({key_of(request) for request in requests}) == len(names)


def test_ad_is_for_those_who_want_it():
    bench = Bench()
    bench.reply = answer(60, ad=1)
    assert not bench.ask().record.header.ad
    assert bench.below.requests[0].ad
    assert bench.ask(ad=1).record.header.ad
    assert not bench.ask().record.header.ad
    assert bench.asked == 1
    assert bench.ask(do=True).record.header.ad
    assert bench.ask(do=True).record.header.ad
    assert bench.asked == 2


def test_flags_are_the_clients():
    bench = Bench()
    bench.ask(cd=1, rd=0)
    header = bench.ask(cd=1, rd=0).record.header
    assert bench.asked == 1
    assert (header.cd, header.rd, header.qr, header.tc, header.opcode) == (1, 0, 1, 0, 0)


RRSIG = "{name} 60 IN RRSIG A 8 2 60 {until} {since} 12051 example.org. lAaEzB5teQLLKyDenatmyg=="


@pytest.mark.parametrize(("days", "kept"), [(-1, 0), (1, 1)])
def test_expired_signatures_are_not_kept(days, kept):
    bench = Bench()
    today = datetime.datetime.now(datetime.UTC)
    times = [today + datetime.timedelta(days=days), today - datetime.timedelta(days=9)]
    until, since = (f"{moment:%Y%m%d%H%M%S}" for moment in times)
    rrsig = RRSIG.replace("{until}", until).replace("{since}", since)
    bench.reply = message("{name} 60 IN A 1.2.3.4", rrsig)
    bench.ask(do=True)
    assert bench.kept == (kept, 0)


def test_keepttl():
    bench = Bench("cache {\nkeepttl\n}")
    bench.ask()
    bench.now += 30
    reply = bench.ask()
    assert ttls(reply) == [60]
    assert reply.deadline is None
    bench.now += 30
    bench.ask()
    assert bench.asked == 2


def test_what_the_packet_cache_may_repeat():
    bench = Bench()
    assert bench.ask().deadline is None
    bench.now += 10
    assert (bench.ask().deadline, bench.ask().since) == (1060, 1000)
    bench.now += 45
    assert bench.ask().deadline == 1060
    bench = Bench("cache {\nprefetch 2 1m 25%\n}")
    bench.ask()
    bench.now += 40
    assert bench.ask().deadline == 1045
    bench.now += 6
    assert bench.ask().deadline is None


def test_pass_by_and_stale_are_not_repeated():
    bench = Bench("cache example.org {\nserve_stale\n}")

    def careless(request):
        reply = answer(60)(request)
        reply.deadline = 9e9
        return reply

    bench.reply = careless
    assert bench.ask("other.org").deadline is None
    assert bench.ask().deadline is None
    bench.now += 100
    assert bench.ask().deadline is None


@pytest.mark.parametrize(("behaviour", "kind"), [(answer(80), "success"), (nxdomain(80), "denial")])
def test_repetitions_count(behaviour, kind):
    bench = Bench(f"cache {kind}.org {{\nprefetch 50\n}}")
    bench.reply = behaviour
    name = f"www.{kind}.org"
    bench.ask(name)
    bench.now += 20
    (hit_counter,) = bench.ask(name).hit_counters
    metrics = bench.cache.metrics("dns://:53")
    hit_counter.count_hits(49)
    assert metrics.requests.value == 51
    assert (metrics.success_hits.value, metrics.denial_hits.value) == (
        (50, 0) if kind == "success" else (0, 50)
    )
    bench.now += 53
    bench.ask(name)
    assert bench.asked == 2


@pytest.mark.parametrize(
    ("wildcard", "kept"),
    [
        ("*.example.org.", {"zone/wildcard": "*.example.org."}),
        (b"*.example.org.", {}),
        (7, {}),
        (None, {}),
    ],
    ids=["text", "bytes", "number", "none"],
)
def test_wildcard_metadata_is_kept_if_it_is_text(wildcard, kept):
    bench = Bench()

    def wild(request):
        request.metadata["zone/wildcard"] = wildcard
        return answer(60)(request)

    bench.reply = wild
    bench.ask()
    request = make_request("www.example.org")
    request.received = bench.now
    asyncio.run(bench.top.serve_dns(request))
    assert bench.asked == 1
    assert request.metadata == kept


def test_the_newest_truth_wins():
    bench = Bench("cache {\nsuccess 1024 3600 0\ndenial 1024 60 0\nprefetch 1 1m 90%\n}")
    bench.reply = answer(3600)
    bench.ask()
    bench.now += 1800
    bench.reply = nxdomain(10)
    bench.ask()  # prefetch finds that the name is gone
    assert bench.ask().rcode == 3
    bench.now += 11
    bench.reply = message(rcode=5)
    assert bench.ask().rcode == 5
    bench.reply = nxdomain(30)
    bench.ask()
    bench.now += 29
    bench.reply = answer(60)
    bench.ask()
    bench.now += 0.5
    assert address(bench.ask()) == "192.0.2.1"


PREFETCH = [
    ("80 1", [(0, 80, 1, True), (73, 7, 1, True), (80, 73, 2, False)]),
    ("5 1", [(0, 5, 1, True), (1, 4, 1, False), (4, 1, 1, True), (5, 4, 2, False)]),
    ("30 0", [(0, 30, 1, True), (15, 15, 1, False), (29, 1, 1, False), (30, 30, 2, True)]),
    ("80 3", [(0, 80, 1, True), (72, 8, 1, False), (73, 7, 1, False), (74, 6, 1, True)]),
    # A gap of a minute makes the count begin anew.
    ("300 3", [(0, 300, 1, True), (200, 100, 1, False), (271, 29, 1, False), (272, 28, 1, False)]),
]


@pytest.mark.parametrize("question", [{}, {"do": True}, {"cd": 1}])
@pytest.mark.parametrize(("case", "steps"), PREFETCH)
def test_prefetch(case, steps, question):
    ttl, amount = case.split()
    bench = Bench(f"cache {{\nprefetch {amount}\n}}")
    bench.reply = lambda request: answer(ttl, f"127.0.0.{bench.asked}")(request)
    for after, left, number, fetched in steps:
        bench.now = 1000.0 + after
        asked = bench.asked
        reply = bench.ask(**question)
        assert (ttls(reply)[0], address(reply)) == (left, f"127.0.0.{number}")
        assert bench.asked == asked + fetched


def test_prefetch_keeps_the_count_and_asks_for_ad():
    bench = Bench("cache {\nprefetch 1\n}")
    bench.ask()
    bench.now += 55
    bench.ask()
    assert bench.asked == 2
    assert bench.below.requests[1].ad
    (entry,) = bench.cache.store.success
    assert (entry.hits, entry.ttl, entry.task) == (1, 60, None)


@pytest.mark.parametrize("text", ["prefetch 1 1m 50%", "serve_stale"])
def test_a_hundred_hits_make_one_background_query(text):
    bench = Bench(f"cache {{\n{text}\n}}")
    bench.ask()
    bench.now += 100 if text == "serve_stale" else 40

    async def run():
        await asyncio.gather(*(bench.reply_to() for _ in range(100)))
        assert {entry.task is None for entry in bench.cache.store.success} == {True}

    asyncio.run(run())
    assert bench.asked == 2


def test_a_failed_prefetch_changes_nothing_and_waits():
    bench = Bench("cache {\nprefetch 1 1m 50%\n}")
    bench.reply = answer(600)
    bench.ask()
    bench.reply = failure("timeout")
    bench.now += 400
    assert [ttls(bench.ask()) for _ in range(3)] == [[200]] * 3
    assert bench.asked == 2
    for pause, asked in ((1, 3), (1, 3), (1, 4), (3, 4), (1, 5), (5, 6), (5, 7)):
        bench.now += pause
        bench.ask()
        assert bench.asked == asked
    assert bench.kept == (1, 0)


def test_an_exception_in_the_background_is_a_failure(caplog):
    bench = Bench("cache {\nprefetch 1 1m 50%\n}")
    bench.ask()
    bench.now += 40

    def broken(request):
        raise RuntimeError("broken below")

    bench.reply = broken
    assert ttls(bench.ask()) == [20]
    assert "broken below" in caplog.text
    bench.ask()
    assert bench.asked == 2


def test_an_exception_below_gives_the_room_back():
    bench = Bench()
    bench.reply = lambda request: 1 / 0
    with pytest.raises(ZeroDivisionError):
        bench.ask()
    assert (bench.cache.budget.waiting, bench.cache.budget.used) == (0, 0)


@pytest.mark.parametrize(
    "wire",
    [
        *(b"", b"abc", b"abcd", bytes(11), bytes(12), b"\xff" * 40),
        *(
            pytest.param(
                it, marks=pytest.mark.pure_form("a value of another type is refused at once")
            )
            for it in ("text", None, 5)
        ),
    ],
    ids=repr,
)
def test_nonsense_below_gives_the_room_back(wire):
    """The server answers SERVFAIL for it, whatever the cache makes of it; nothing is kept."""
    bench = Bench()
    bench.reply = lambda request: Reply(wire)
    assert bench.ask().wire == wire
    assert (bench.cache.budget.waiting, bench.cache.budget.used) == (0, 0)
    bench.reply = answer(60)
    assert ttls(bench.ask()) == [60]


def test_failures_by_timeout_are_kept_in_growing_steps():
    bench = Bench()
    bench.reply = failure("no upstream answered")
    for step in (1, 2, 4, 5, 5):
        asked = bench.asked
        assert bench.ask().error == "no upstream answered"
        bench.now += step - 0.5
        again = bench.ask(edns=1232)
        assert (again.rcode, again.error) == (2, None)
        assert again.options == b"\0\x0f\0\2\0\x0d"  # cached error
        assert bench.asked == asked + 1
        bench.now += 0.5
    bench.now += 61
    bench.ask()
    bench.now += 1
    bench.ask()
    assert bench.asked == 7


def test_the_steps_of_a_failure_begin_anew_with_an_answer():
    bench = Bench("cache {\nserve_stale 1h\n}")
    bench.ask()
    (entry,) = bench.cache.store.success
    bench.reply = failure("no reply")
    for failures in (1, 2):
        bench.now += 100
        bench.ask()
        assert (entry.failures, entry.retry_at - bench.now) == (failures, failures)
    bench.reply = answer(60)
    bench.now += 100
    bench.ask()
    (entry,) = bench.cache.store.success
    assert (entry.failures, entry.retry_at) == (0, 0)


def test_extended_errors_of_a_failure_are_kept():
    bench = Bench()
    bench.reply = lambda request: request.error(2, "x", ede=(22, "all down"))
    bench.ask()
    assert bench.ask().options == b"\0\x0f\0\x0a\0\x16all down\0\x0f\0\2\0\x0d"


def test_a_servfail_never_stands_before_an_answer():
    bench = Bench("cache {\nservfail 5m\n}")
    bench.reply = message(rcode=2)
    bench.ask()
    entry = next(iter(bench.cache.store.denial))
    bench.reply = answer(60)
    bench.cache.store.denial.remove(entry.key)
    bench.ask()
    bench.cache.store.denial.put(entry)
    assert bench.ask().rcode == 0
    bench.now += 60
    assert bench.ask().rcode == 2
    assert bench.asked == 2


def test_too_many_waiting_queries_fail(caplog):
    bench = Bench()
    bench.cache.budget._set(3 * 2 * WAITING_SIZE)
    bench.ask("hit.example.org")

    async def run():
        gate = asyncio.Event()

        class Slow(Recorder):
            async def serve_dns(self, request):
                await gate.wait()
                return answer(60)(request)

        bench.cache.next = Slow()
        waiting = [asyncio.create_task(bench.reply_to(f"n{i}.org")) for i in range(5)]
        await asyncio.sleep(0)
        hit = await bench.reply_to("hit.example.org")
        gate.set()
        return hit, [(await task).rcode for task in waiting]

    hit, rcodes = asyncio.run(run())
    assert hit.rcode == 0
    assert rcodes == [0, 0, 0, 2, 2]
    assert caplog.text.count("such as one of 127.0.0.1, get SERVFAIL") == 1
    assert bench.cache.metrics("dns://:53").rejects.value >= 2


def test_metrics():
    bench = Bench("cache example.net example.com")
    names = ["a.example.net", "a.example.net", "b.example.net", "b.example.net", "c.example.net"]
    for name in names:
        bench.reply = nxdomain(60) if name[0] == "b" else answer(60)
        bench.ask(name)
    bench.reply = answer(60, question="wrong.org")
    bench.ask("d.example.net")

    def value(name, *kind):
        labels = ("dns://:53", *kind, "example.net.,example.com.", "")
        (metric,) = (each for each in metrics.registered() if each.name == f"coredns_cache_{name}")
        return dict(metric.children())[labels].value

    assert value("requests_total") == 6
    assert value("hits_total", "success") == 1
    assert value("hits_total", "denial") == 1
    assert value("misses_total") == 4
    assert value("entries", "success") == 2
    assert value("entries", "denial") == 1
    assert value("drops_total") == 1
    assert value("evictions_total", "success") == 0


def test_evictions_are_counted():
    bench = Bench("cache evict.org {\nsuccess 1024\n}")
    for number in range(1100):
        bench.ask(f"n{number}.evict.org")
    assert bench.kept == (1024, 0)
    assert bench.cache.metrics("dns://:53").success_evictions.value == 76


def test_what_is_asked_for_survives_a_flood():
    bench = Bench("cache {\nsuccess 1024\n}")
    popular = [f"p{number}.org" for number in range(5)]
    for number in range(2200):
        bench.ask(f"n{number}.org")
        bench.ask(popular[number % 5])
    assert bench.asked == 2200 + 5


def test_a_request_that_knows_no_time_is_of_now():
    bench = Bench()
    bench.ask()
    bench.now += 100
    request = make_request("www.example.org")
    assert request.received == 0
    assert ttls(asyncio.run(bench.top.serve_dns(request))) == [60]
    assert bench.asked == 2


def test_hooks_give_everything_back():
    bench = Bench("cache {\nmemory 2MiB\nserve_stale\n}")
    bench.cache.before_listen(context(processes=1))
    assert bench.cache.budget.limit == 2 << 20
    bench.ask()

    async def run():
        bench.now += 100
        gate = asyncio.Event()

        class Stuck(Recorder):
            async def serve_dns(self, request):
                await gate.wait()

        bench.cache.next = Stuck()
        await bench.reply_to()
        await asyncio.sleep(0)
        await bench.cache.shutdown(None)  # type: ignore[arg-type]  # not looked at
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())
    assert bench.kept == (0, 0)
    assert (bench.cache.budget.used, bench.cache.budget.limit) == (0, 64 << 20)


@pytest.mark.parametrize(
    ("text", "limit"), [("cache", 16 << 20), ("cache {\nmemory 2MiB\n}", 1 << 19)]
)
def test_the_processes_of_a_server_share_the_memory(text, limit):
    cache = Bench(text).cache
    cache.before_listen(context(processes=4))
    assert cache.budget.limit == limit


def test_setup_is_once_per_block():
    with pytest.raises(CorefileError, match="once"):
        setup(controller_for("cache\ncache"))
