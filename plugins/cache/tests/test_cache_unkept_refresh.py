"""A positive or negative answer ends the entry that it outdates, whether or not it may be kept.

RFC 8767 section 4. The table is crossed with every way in which a kept entry is fetched anew.
"""

import asyncio

import dnslib
import pytest

from corepy.dns import Reply
from corepy.testing import Recorder, controller_for, link, make_request
from corepy_cache import setup
from corepy_cache.budget import Budget
from corepy_cache.handler import Cache
from corepy_cache.keys import key_of

NAME = "www.example.org"
A = f"{NAME}. {{}} IN A 192.0.2.{{}}"
SOA = "example.org. 40 IN SOA ns.example.org. admin.example.org. 1 7200 3600 1209600 {}"
ALIAS = f"{NAME}. 40 IN CNAME elsewhere.example.org."
RRSIG = f"{NAME}. 40 IN RRSIG A 8 3 40 20200101000000 20190101000000 1 example.org. AAAA"


def reply_of(*records, rcode=0, authority=(), tc=0):
    """Return the behaviour of an upstream that sends these records."""

    def behave(request):
        record = dnslib.DNSRecord.parse(request.wire).reply(ra=1, aa=0)
        record.header.rcode, record.header.tc, record.ar = rcode, tc, []
        for line in records:
            record.add_answer(*dnslib.RR.fromZone(line))
        for line in authority:
            record.add_auth(*dnslib.RR.fromZone(line))
        return Reply.from_wire(bytes(record.pack()))

    return behave


POSITIVE, NEGATIVE, FAILURE = "positive", "negative", "failure"

# What the upstream sends, the options under which that is not kept, and what it is.
UNKEPT = {
    "NXDOMAIN without SOA": (reply_of(rcode=3), "", NEGATIVE),
    "NXDOMAIN, denials disabled": (
        reply_of(rcode=3, authority=[SOA.format(40)]), "disable denial", NEGATIVE,
    ),
    "NXDOMAIN, denials of its zone disabled": (
        reply_of(rcode=3, authority=[SOA.format(40)]), "disable denial example.org", NEGATIVE,
    ),
    "NODATA, denials disabled": (
        reply_of(authority=[SOA.format(40)]), "disable denial", NEGATIVE,
    ),
    "NXDOMAIN for 0 seconds": (
        reply_of(rcode=3, authority=[SOA.format(0)]), "denial 1024 60 0", NEGATIVE,
    ),
    "A for 0 seconds": (reply_of(A.format(0, 2)), "success 1024 60 0", POSITIVE),
    "A, truncated": (reply_of(A.format(40, 2), tc=1), "", POSITIVE),
    "NXDOMAIN, truncated": (reply_of(rcode=3, tc=1), "", NEGATIVE),
    "an alias whose target is left out": (reply_of(ALIAS), "", NEGATIVE),
    "NXDOMAIN that holds an answer": (reply_of(A.format(40, 2), rcode=3), "", NEGATIVE),
    "empty, truncated": (reply_of(tc=1), "", FAILURE),
    "SERVFAIL": (reply_of(rcode=2), "", FAILURE),
    "REFUSED": (reply_of(rcode=5), "", FAILURE),
    "SERVFAIL that holds an answer": (reply_of(A.format(40, 2), rcode=2), "", FAILURE),
}  # fmt: skip

# How the entry comes to be fetched anew, the age in seconds, and the entry's state if it stays.
REFRESHES = {
    "immediate": ("serve_stale 1h immediate 30s", 100),
    "verify": ("serve_stale 1h verify 0 30s", 100),
    "verify out of time": ("serve_stale 1h verify 10ms 30s", 100),
    "prefetch": ("prefetch 1 1m 50%", 40),
    "prefetch and stale": ("prefetch 1 1m 50%\nserve_stale 1h", 40),
}


class Bench:
    """A cache whose upstream and clock are the test's."""

    def __init__(self, options):
        controller = controller_for(f"cache {{\n{options}\n}}")
        setup(controller)
        self.now = 1000.0
        self.cache = Cache(controller.handlers[0].settings, Budget(64 << 20), lambda: self.now)
        self.upstream = reply_of(A.format(60, 1))
        self.gate = asyncio.Event()
        self.gate.set()
        bench = self

        class Below(Recorder):
            async def serve_dns(self, request):
                self.requests.append(request)
                await bench.gate.wait()
                return bench.upstream(request)

        self.below = Below()
        self.top = link([self.cache, self.below])

    async def ask(self, **question):
        request = make_request(NAME, **question)
        request.received = self.now
        return await self.top.serve_dns(request)

    async def settle(self):
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        if tasks:
            await asyncio.wait(tasks)

    def kept(self, **question):
        """Return the addresses kept for the question, None if nothing usable is."""
        request = make_request(NAME, **question)
        entry = self.cache.store.peek(key_of(request), self.now)
        if entry is None:
            return None
        return [str(rr.rdata) for rr in entry.reply(request, 1).record.rr]


@pytest.mark.parametrize("policy", ["", "serve_stale_policy prefer_positive"])
@pytest.mark.parametrize("refresh", REFRESHES)
@pytest.mark.parametrize("case", UNKEPT)
def test_an_answer_ends_what_it_outdates(case, refresh, policy):
    behave, options, sort = UNKEPT[case]
    mode, age = REFRESHES[refresh]
    if policy and "serve_stale" not in mode:
        policy = ""

    async def run():
        bench = Bench(f"{mode}\n{options}\n{policy}")
        await bench.ask()
        assert bench.kept() == ["192.0.2.1"]
        bench.now += age
        bench.upstream = behave
        if "out of time" in refresh:
            bench.gate.clear()
        await bench.ask()
        bench.gate.set()
        await bench.settle()
        assert len(bench.below.requests) == 2
        return bench.kept()

    stays = sort == FAILURE or (sort == NEGATIVE and bool(policy))
    assert asyncio.run(run()) == (["192.0.2.1"] if stays else None)


@pytest.mark.parametrize("mode", ["immediate", "verify 0"])
def test_the_second_query_gets_the_new_state(mode):
    """What the issue saw: the old address for the whole hour."""

    async def run():
        bench = Bench(f"serve_stale 1h {mode}")
        await bench.ask()
        bench.now += 100
        bench.upstream = reply_of(rcode=3)
        await bench.ask()
        await bench.settle()
        return (await bench.ask()).rcode

    assert asyncio.run(run()) == 3


@pytest.mark.parametrize(
    ("upstream", "options"),
    [
        (reply_of(A.format(60, 2)), "disable success"),
        (reply_of(A.format(0, 2)), "success 1024 60 0"),
        (reply_of(rcode=3), ""),
    ],
    ids=["A, disabled", "A for 0 seconds", "NXDOMAIN without SOA"],
)
@pytest.mark.parametrize("policy", ["", "serve_stale_policy prefer_positive"])
@pytest.mark.parametrize("mode", ["immediate", "verify 0"])
def test_a_stale_denial_ends_as_well(mode, policy, upstream, options):
    async def run():
        bench = Bench(f"serve_stale 1h {mode}\n{options}\n{policy}")
        bench.upstream = reply_of(rcode=3, authority=[SOA.format(40)])
        await bench.ask()
        bench.now += 100
        assert bench.kept() == []
        bench.upstream = upstream
        await bench.ask()
        await bench.settle()
        return bench.kept()

    assert asyncio.run(run()) is None


def test_signatures_that_have_expired_end_what_is_kept_with_do():
    async def run():
        bench = Bench("serve_stale 1h")
        await bench.ask(do=True)
        bench.now += 100
        bench.upstream = reply_of(A.format(40, 2), RRSIG)
        await bench.ask(do=True)
        await bench.settle()
        return bench.kept(do=True)

    assert asyncio.run(run()) is None


def test_the_memory_of_what_ended_is_given_back():
    async def run():
        bench = Bench("serve_stale 1h")
        await bench.ask()
        used = bench.cache.budget.used
        bench.now += 100
        bench.upstream = reply_of(rcode=3)
        await bench.ask()
        await bench.settle()
        return used, bench.cache.budget.used

    used, left = asyncio.run(run())
    assert used > 0
    assert left == 0
