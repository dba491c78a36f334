"""The table of outcomes: what a client gets, with which TTL, and what is kept then.

For each `serve_stale` mode: (none, fresh, stale) x what the upstream says now. The README prints
the same table in words. Cells are (answer, TTL, kept): the answer is "old" (192.0.2.1), "new"
(192.0.2.2) or the rcode; kept is the rcode and freshness of what a look-up would find.
"""

import asyncio
from collections.abc import Mapping

import dnslib
import pytest

from corepy.dns import Reply
from corepy.plugin import PREFERS_FRESH
from corepy.testing import Recorder, controller_for, link, make_request
from corepy_cache import refresh, setup
from corepy_cache.budget import Budget
from corepy_cache.handler import Cache

SOA = "example.org. 40 IN SOA ns.example.org. admin.example.org. 1 7200 3600 1209600 40"
ALIAS = "www.example.org. 40 IN CNAME gone.example.org."
A = "www.example.org. {} IN A 192.0.2.{}"
OTHER = "other.org. 50 IN A 192.0.2.2"


def packed(request, records=(), authority=(), rcode=0, tc=0, question=None):
    record = dnslib.DNSRecord.parse(request.wire)
    reply = record.reply(ra=1, aa=0)
    reply.header.rcode, reply.header.tc, reply.ar = rcode, tc, []
    if question:
        reply.questions = [dnslib.DNSQuestion(question)]
    for line in records:
        reply.add_answer(*dnslib.RR.fromZone(line))
    for line in authority:
        reply.add_auth(*dnslib.RR.fromZone(line))
    return Reply.from_wire(bytes(reply.pack()))


UPSTREAM = {
    "NOERROR": lambda request: packed(request, [A.format(50, 2)]),
    "NODATA": lambda request: packed(request, [], [SOA]),
    "NXDOMAIN": lambda request: packed(request, [], [SOA], 3),
    "NXDOMAIN with CNAME": lambda request: packed(request, [ALIAS], [SOA], 3),
    "SERVFAIL": lambda request: packed(request, [], [], 2),
    "REFUSED": lambda request: packed(request, [], [], 5),
    "timeout": lambda request: request.error(2, "no upstream answered"),
    "truncated": lambda request: packed(request, [A.format(50, 2)], tc=1),
    "mismatched": lambda request: packed(request, [OTHER], question="other.org."),
}

KEY = b"\3www\7example\3org\0\0\1\0\1"
NOTHING = "nothing"
MISS = {
    "NOERROR": ("new", 50, "0 fresh"),
    "NODATA": ("0", 40, "0 fresh"),
    "NXDOMAIN": ("3", 40, "3 fresh"),
    "NXDOMAIN with CNAME": ("3", 40, "3 fresh"),
    "SERVFAIL": ("2", None, "2 fresh"),
    "REFUSED": ("5", None, NOTHING),
    "timeout": ("2", None, "2 fresh"),
    "truncated": ("new", 50, NOTHING),
    "mismatched": ("new", 50, NOTHING),
}
HIT = dict.fromkeys(UPSTREAM, ("old", 35, "0 fresh"))
IMMEDIATE = {
    "NOERROR": ("old", 30, "0 fresh"),
    "NODATA": ("old", 30, "0 fresh"),
    "NXDOMAIN": ("old", 30, "3 fresh"),
    "NXDOMAIN with CNAME": ("old", 30, "3 fresh"),
    "truncated": ("old", 30, NOTHING),
    **dict.fromkeys(("SERVFAIL", "REFUSED", "timeout", "mismatched"), ("old", 30, "0 stale")),
}
VERIFY = {
    **IMMEDIATE,
    "NOERROR": ("new", 50, "0 fresh"),
    "NODATA": ("0", 40, "0 fresh"),
    "NXDOMAIN": ("3", 40, "3 fresh"),
    "NXDOMAIN with CNAME": ("3", 40, "3 fresh"),
    "truncated": ("new", 50, NOTHING),
}
PREFER_IMMEDIATE = {
    **dict.fromkeys(UPSTREAM, ("old", 30, "0 stale")),
    "NOERROR": ("old", 30, "0 fresh"),
    "truncated": ("old", 30, NOTHING),
}
PREFER_VERIFY = {
    **dict.fromkeys(UPSTREAM, ("old", 30, "0 stale")),
    "NOERROR": ("new", 50, "0 fresh"),
    "truncated": ("new", 50, NOTHING),
}

MODES: dict[str, tuple[str, Mapping[str, tuple[str, int | None, str]]]] = {
    "off": ("", MISS),
    "immediate": ("serve_stale 1h immediate 30s", IMMEDIATE),
    "verify": ("serve_stale 1h verify 0 30s", VERIFY),
    "verify in time": ("serve_stale 1h verify 5s 30s", VERIFY),
    "immediate, prefer_positive": (
        "serve_stale 1h immediate 30s\nserve_stale_policy prefer_positive", PREFER_IMMEDIATE,
    ),
    "verify, prefer_positive": (
        "serve_stale 1h verify 0 30s\nserve_stale_policy prefer_positive", PREFER_VERIFY,
    ),
}  # fmt: skip
CELLS = [
    (mode, state, upstream, expected)
    for mode, (_, stale) in MODES.items()
    for state, table in (("none", MISS), ("fresh", HIT), ("stale", stale))
    for upstream, expected in table.items()
]


class Bench:
    def __init__(self, option):
        controller = controller_for(f"cache {{\n{option}\n}}")
        setup(controller)
        self.now = 1000.0
        self.cache = Cache(controller.handlers[0].settings, Budget(64 << 20), lambda: self.now)
        self.gate = asyncio.Event()
        self.gate.set()
        self.upstream = lambda request: packed(request, [A.format(60, 1)])
        bench = self

        class Below(Recorder):
            async def serve_dns(self, request):
                self.requests.append(request)
                await bench.gate.wait()
                return bench.upstream(request)

        self.below = Below()
        self.top = link([self.cache, self.below])

    async def ask(self, name="www.example.org", **question):
        request = make_request(name, **question)
        request.received = self.now
        return await self.top.serve_dns(request)

    async def settle(self):
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        if tasks:
            await asyncio.wait(tasks)

    def kept(self):
        metrics = self.cache.metrics("dns://:53")
        entry = self.cache.store.find(KEY, self.now, metrics)
        if entry is None:
            return NOTHING
        return f"{entry.rcode} {'fresh' if entry.left(self.now) > 0 else 'stale'}"


def seen(reply):
    records = reply.record.rr + reply.record.auth
    ttls = {rr.ttl for rr in records}
    assert len(ttls) < 2
    (ttl,) = ttls or {None}
    addresses = [str(rr.rdata) for rr in reply.record.rr if rr.rtype == 1]
    names = {"192.0.2.1": "old", "192.0.2.2": "new"}
    return names[addresses[0]] if addresses else str(reply.rcode), ttl


@pytest.mark.parametrize(("mode", "state", "upstream", "expected"), CELLS)
def test_outcome(mode, state, upstream, expected):
    async def run():
        bench = Bench(MODES[mode][0])
        if state != "none":
            await bench.ask()
        bench.now += 25 if state == "fresh" else 100
        bench.upstream = UPSTREAM[upstream]
        asked = len(bench.below.requests)
        reply = await bench.ask(edns=1232)
        await bench.settle()
        assert len(bench.below.requests) - asked == (state != "fresh")
        stale = state == "stale" and seen(reply)[0] == "old"
        assert (reply.options == b"\0\x0f\0\2\0\3") is stale
        return (*seen(reply), bench.kept())

    assert asyncio.run(run()) == expected


@pytest.mark.parametrize(
    ("policy", "table"),
    [("", IMMEDIATE), ("\nserve_stale_policy prefer_positive", PREFER_IMMEDIATE)],
)
@pytest.mark.parametrize("upstream", UPSTREAM)
def test_verify_out_of_time(upstream, policy, table):
    """The stale entry is served, and what comes later is kept as in immediate mode."""

    async def run():
        bench = Bench(f"serve_stale 1h verify 10ms 30s{policy}")
        await bench.ask()
        bench.now += 100
        bench.upstream = UPSTREAM[upstream]
        bench.gate.clear()
        reply = await bench.ask()
        bench.gate.set()
        await bench.settle()
        return (*seen(reply), bench.kept())

    assert asyncio.run(run()) == table[upstream]


@pytest.mark.parametrize(("upstream", "expected"), VERIFY.items())
def test_a_query_that_prefers_a_fresh_reply_waits_for_it(upstream, expected):
    async def run():
        bench = Bench("serve_stale 1h immediate 30s")
        await bench.ask()
        bench.now += 100
        bench.upstream = UPSTREAM[upstream]
        request = make_request("www.example.org")
        request.received = bench.now
        request.metadata[PREFERS_FRESH] = True
        return (*seen(await bench.top.serve_dns(request)), bench.kept())

    assert asyncio.run(run()) == expected


DENIALS = {"NODATA": (0, 3), "NXDOMAIN": (3, 19), "NXDOMAIN with CNAME": (3, 19)}


@pytest.mark.parametrize("mode", ["immediate", "verify 0"])
@pytest.mark.parametrize("policy", ["", "\nserve_stale_policy prefer_positive"])
@pytest.mark.parametrize("kind", DENIALS)
@pytest.mark.parametrize("upstream", UPSTREAM)
def test_stale_denial(mode, policy, kind, upstream):
    """A stale denial is served, an NXDOMAIN under its own extended error, and replaced like an
    answer; prefer_positive protects positive entries only.
    """
    rcode, code = DENIALS[kind]
    stale_options = bytes((0, 15, 0, 2, 0, code))

    async def run():
        bench = Bench(f"serve_stale 1h {mode} 25s{policy}")
        bench.upstream = UPSTREAM[kind]
        await bench.ask()
        bench.now += 100
        bench.upstream = UPSTREAM[upstream]
        reply = await bench.ask()
        await bench.settle()
        if reply.options == stale_options:
            assert (reply.rcode, seen(reply)[1]) == (rcode, 25)
            return "stale", bench.kept()
        return seen(reply)[0], bench.kept()

    answer, _, kept = VERIFY[upstream]
    kept = f"{rcode} stale" if kept == "0 stale" else kept
    if mode == "immediate" or answer == "old":
        answer = "stale"
    assert asyncio.run(run()) == (answer, kept)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("failure", ["SERVFAIL", "timeout"])
@pytest.mark.parametrize("upstream", UPSTREAM)
def test_a_failure_is_never_served_stale(mode, failure, upstream):
    """RFC 8767 is about data: after its few seconds a failure is as good as nothing."""

    async def run():
        bench = Bench(MODES[mode][0])
        bench.upstream = UPSTREAM[failure]
        await bench.ask()
        bench.now += 100
        bench.upstream = UPSTREAM[upstream]
        return (*seen(await bench.ask()), bench.kept())

    assert asyncio.run(run()) == MISS[upstream]


def test_too_old_is_not_served():
    async def run():
        bench = Bench("serve_stale 1h")
        await bench.ask()
        bench.upstream = UPSTREAM["REFUSED"]
        bench.now = 1000 + 60 + 3599
        first = await bench.ask()
        bench.now += 1
        return seen(first), seen(await bench.ask())

    assert asyncio.run(run()) == (("old", 0), ("5", None))


def test_stale_ttl_wins_over_keepttl():
    async def run():
        bench = Bench("serve_stale 1h immediate 17s\nkeepttl")
        await bench.ask()
        bench.now += 100
        return seen(await bench.ask())

    assert asyncio.run(run()) == ("old", 17)


@pytest.mark.parametrize("mode", ["immediate", "verify 0", "verify 1s"])
@pytest.mark.parametrize("upstream", ["SERVFAIL", "mismatched", "REFUSED"])
def test_failure_recheck(mode, upstream):
    async def run():
        bench = Bench(f"serve_stale 1h {mode} 30s 30s")
        await bench.ask()
        bench.now += 100
        bench.upstream = UPSTREAM[upstream]
        asked = []
        for pause in (0, 0, 29, 1, 1):
            bench.now += pause
            assert seen(await bench.ask()) == ("old", 30)
            await bench.settle()
            asked.append(len(bench.below.requests) - 1)
        return asked

    assert asyncio.run(run()) == [1, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("upstream", "asked"), [("SERVFAIL", [1, 2, 3, 4]), ("timeout", [1, 1, 2, 2])]
)
def test_without_recheck_only_silence_makes_it_wait(upstream, asked):
    async def run():
        bench = Bench("serve_stale 1h verify 0 30s")
        await bench.ask()
        bench.now += 100
        bench.upstream = UPSTREAM[upstream]
        counts = []
        for _ in range(4):
            assert seen(await bench.ask()) == ("old", 30)
            counts.append(len(bench.below.requests) - 1)
            bench.now += 0.6
        return counts

    assert asyncio.run(run()) == asked


@pytest.mark.parametrize(("recheck", "answers"), [("", {"new"}), ("30s", {"new", "old"})])
def test_verifying_clients_share_one_attempt(recheck, answers):
    async def run():
        bench = Bench(f"serve_stale 1h verify 0 30s {recheck}")
        await bench.ask()
        bench.now += 100
        bench.upstream = UPSTREAM["NOERROR"]
        bench.gate.clear()
        waiting = [asyncio.create_task(bench.ask(ad=i % 2)) for i in range(20)]
        await asyncio.sleep(0)
        bench.gate.set()
        replies = [await task for task in waiting]
        assert len(bench.below.requests) == 2
        return {seen(reply)[0] for reply in replies}

    assert asyncio.run(run()) == answers


@pytest.mark.parametrize("text", ["", "serve_stale 1h verify", "serve_stale 1h"])
def test_a_dropped_query_is_not_kept(text):
    async def run():
        bench = Bench(text)
        bench.upstream = lambda request: request.drop()
        for _ in range(2):
            reply = await bench.ask()
            assert (reply.is_dropped, reply.deadline, bench.kept()) == (True, None, NOTHING)
        assert bench.cache.budget.waiting == 0
        bench.upstream = UPSTREAM["NOERROR"]
        assert seen(await bench.ask()) == ("new", 50)
        return len(bench.below.requests)

    assert asyncio.run(run()) == 3


def test_clients_that_wait_for_a_dropped_query_get_the_stale_answer():
    """A query that is dropped below is a failure to refresh (RFC 8767 section 4)."""

    async def run():
        bench = Bench("serve_stale 1h verify 0 30s")
        await bench.ask()
        bench.now += 100
        bench.upstream = lambda request: request.drop()
        bench.gate.clear()
        waiting = [asyncio.create_task(bench.ask(ad=i % 2)) for i in range(20)]
        await asyncio.sleep(0)
        bench.gate.set()
        replies = [await task for task in waiting]
        assert len(bench.below.requests) == 2
        assert not any(reply.is_dropped for reply in replies)
        return {seen(reply) for reply in replies}

    assert asyncio.run(run()) == {("old", 30)}


def test_news_that_are_not_kept_reach_every_client_in_its_own_words():
    async def run():
        bench = Bench("serve_stale 1h verify\ndisable denial")
        await bench.ask()
        bench.now += 100
        bench.upstream = UPSTREAM["NXDOMAIN"]
        names = ("www.example.org", "WWW.example.ORG")
        replies = await asyncio.gather(*(bench.ask(name) for name in names))
        return [(reply.rcode, str(reply.record.q.qname)) for reply in replies]

    assert asyncio.run(run()) == [(3, "www.example.org."), (3, "WWW.example.ORG.")]


def test_prefer_positive_keeps_the_last_good_answer():
    """An empty NOERROR, a referral and the like do not destroy it; a good one replaces it."""

    async def run():
        bench = Bench("serve_stale 1h immediate 30s\nserve_stale_policy prefer_positive")
        await bench.ask()
        for step, records in enumerate(([], ["other.org. 60 IN A 192.0.2.9"], [])):
            bench.now += 100
            bench.upstream = lambda request, records=records: packed(request, records)
            assert seen(await bench.ask()) == ("old", 30), step
            await bench.settle()
            assert seen(await bench.ask()) == ("old", 30), step
            await bench.settle()
        bench.upstream = UPSTREAM["NOERROR"]
        bench.now += 10
        await bench.ask()
        await bench.settle()
        return seen(await bench.ask()), len(bench.cache.store.success)

    assert asyncio.run(run()) == (("new", 50), 1)


@pytest.mark.parametrize("mode", ["immediate", "verify 0"])
def test_the_number_of_attempts_is_bounded(mode, monkeypatch):
    async def run():
        bench = Bench(f"serve_stale 1h {mode} 30s")
        await bench.ask()
        await bench.ask(do=True)
        bench.now += 100
        monkeypatch.setattr(refresh, "MOST", 1)
        bench.gate.clear()
        first = asyncio.create_task(bench.ask())
        for _ in range(50):
            await asyncio.sleep(0)
        second = await bench.ask(do=True)
        bench.gate.set()
        await first
        await bench.settle()
        return seen(second), len(bench.below.requests)

    assert asyncio.run(run()) == (("old", 30), 3)


def test_clients_that_wait_for_one_failure_count_once():
    """RFC 9520 section 3.2 lets the time grow with each resolution, not with each client."""

    async def run():
        bench = Bench("")
        bench.upstream = UPSTREAM["timeout"]
        held = []
        for _ in range(3):
            bench.gate.clear()
            waiting = [asyncio.create_task(bench.ask()) for _ in range(5)]
            await asyncio.sleep(0)
            bench.gate.set()
            await asyncio.gather(*waiting)
            held.append(bench.cache.store.denial.get(KEY).ttl)
            bench.now += 10
        return held

    assert asyncio.run(run()) == [1, 2, 4]


def test_who_verifies_learns_what_was_found_out_on_the_way():
    async def run():
        bench = Bench("serve_stale 1h verify")
        await bench.ask()
        bench.now += 100

        def tell(request):
            request.metadata["forward/upstream"] = "192.0.2.53:53"
            return UPSTREAM["NOERROR"](request)

        bench.upstream = tell
        request = make_request("www.example.org")
        request.received = bench.now
        await bench.top.serve_dns(request)
        return request.metadata

    assert asyncio.run(run()) == {"forward/upstream": "192.0.2.53:53"}
