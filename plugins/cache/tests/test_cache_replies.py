"""Whole replies: each byte that a client gets from a miss, a hit, a stale entry and a refresh."""

import asyncio
from struct import pack
from typing import Any

import pytest

from corepy.dns import Reply
from corepy.plugin import metrics
from corepy.testing import Recorder, controller_for, link, make_request
from corepy_cache import refresh, setup
from corepy_cache.budget import WAITING_SIZE, Budget, process_budget
from corepy_cache.handler import Cache

QR, AA, TC, RD, RA, AD, CD = 0x8000, 0x400, 0x200, 0x100, 0x80, 0x20, 0x10
SERVFAIL, NXDOMAIN = 2, 3
A = b"\xc0\x0c\0\1\0\1%b\0\4\xc0\0\2%c"
SOA = b"\xc0\x10\0\6\0\1%b\0\x16\0\0" + pack("!5I", 1, 7200, 3600, 1209600, 40)


def seconds(ttl):
    return pack("!I", ttl)


def message(request, flags, records=b"", answers=0, authority=0):
    """Return the reply to `request` with these flags and records, written by hand."""
    counts = pack("!4H", 1, answers, authority, 0)
    return pack("!HH", 0, flags) + counts + request.question + records


class Bench:
    """A cache whose clock is the test's, above a chain that gives the replies of the test."""

    def __init__(self, options="", budget=None):
        controller = controller_for(f"cache {{\n{options}\n}}")
        setup(controller)
        self.now = 1000.0
        self.cache = Cache(
            controller.handlers[0].settings, budget or Budget(64 << 20), lambda: self.now
        )
        self.gate = asyncio.Event()
        self.gate.set()
        self.reply = lambda request: None
        bench = self

        class Below(Recorder):
            async def serve_dns(self, request):
                self.requests.append(request)
                await bench.gate.wait()
                return bench.reply(request)

        self.below = Below()
        self.top = link([self.cache, self.below])

    def says(self, flags, records=b"", answers=0, authority=0, error=None):
        """Let the chain below answer with this message, or `error`."""

        def reply(request):
            if error is not None:
                raise error
            return Reply.from_wire(message(request, flags, records, answers, authority))

        self.reply = reply

    async def ask(self, name="www.example.org", **question):
        """Return the request and the whole reply, with ID 0 as `finish` has not set it."""
        request = make_request(name, **question)
        request.received = self.now
        reply = await self.top.serve_dns(request)
        return request, b"\0\0" + reply.wire[2:]

    async def settle(self):
        """Let everything in the background end."""
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        if tasks:
            await asyncio.wait(tasks)


CLIENTS = {
    "plain": {},
    "AD": {"ad": 1},
    "EDNS": {"edns": 1232},
    "DO": {"do": True},
    "DO and AD": {"do": True, "ad": 1},
    "CD": {"cd": 1},
    "CD and DO": {"cd": 1, "do": True},
    "no RD": {"rd": 0},
    "no RD, AD": {"rd": 0, "ad": 1},
}


def wants_ad(question):
    return bool(question.get("ad") or question.get("do"))


def expected_flags(question):
    """Return RD and CD as this client sent them."""
    return (RD if question.get("rd", 1) else 0) | (CD if question.get("cd") else 0)


@pytest.mark.parametrize("validated", [False, True], ids=["not validated", "validated"])
@pytest.mark.parametrize("question", CLIENTS.values(), ids=CLIENTS)
def test_ad_says_what_upstream_found_to_those_who_want_to_know(question, validated):
    """RFC 6840 section 5.8, for a miss, and two hits at different ages."""

    async def run():
        bench = Bench()
        said = QR | RA | expected_flags(question) | (AD if validated else 0)
        bench.says(said, A % (seconds(60), 1), answers=1)
        got = [await bench.ask(**question)]
        for _ in range(2):
            bench.now += 7
            got.append(await bench.ask(**question))
        assert len(bench.below.requests) == 1
        return got

    flags = QR | RA | expected_flags(question)
    flags |= AD if validated and wants_ad(question) else 0
    (asked, miss), *hits = asyncio.run(run())
    assert miss == message(asked, flags, A % (seconds(60), 1), 1)
    for (asked, hit), left in zip(hits, (53, 46), strict=True):
        assert hit == message(asked, flags | AA, A % (seconds(left), 1), 1)


@pytest.mark.parametrize("validated", [False, True], ids=["not validated", "validated"])
@pytest.mark.parametrize("question", CLIENTS.values(), ids=CLIENTS)
def test_ad_of_what_is_served_stale(question, validated):
    async def run():
        bench = Bench("serve_stale 1h immediate 30s")
        said = QR | RA | expected_flags(question) | (AD if validated else 0)
        bench.says(said, A % (seconds(60), 1), answers=1)
        await bench.ask(**question)
        bench.says(QR | RA | expected_flags(question) | SERVFAIL)
        bench.now += 100
        got = await bench.ask(**question)
        await bench.settle()
        return got

    asked, stale = asyncio.run(run())
    flags = QR | AA | RA | expected_flags(question)
    flags |= AD if validated and wants_ad(question) else 0
    assert stale == message(asked, flags, A % (seconds(30), 1), 1)


NEWS = {
    "an address": ("", 0, A % (seconds(60), 2), 1, 0, True),
    "an address that is not kept": ("success 1024 60 0", 0, A % (seconds(0), 2), 1, 0, False),
    "a denial": ("", NXDOMAIN, SOA % seconds(40), 0, 1, True),
    "a denial that is not kept": ("disable denial", NXDOMAIN, SOA % seconds(40), 0, 1, False),
}


@pytest.mark.parametrize("validated", [False, True], ids=["not validated", "validated"])
@pytest.mark.parametrize("do", [False, True])
@pytest.mark.parametrize("case", NEWS)
def test_those_who_wait_for_the_same_news_get_their_own_ad(case, do, validated):
    """One attempt, four clients: with and without AD, two with letters of their own."""
    options, rcode, records, answers, authority, kept = NEWS[case]
    names = ("www.example.org", "WWW.eXample.ORG")
    questions = [{"name": name, "do": do, "ad": ad} for name in names for ad in (0, 1)]

    async def run():
        bench = Bench(f"serve_stale 1h verify 0 30s\n{options}")
        bench.says(QR | RD | RA, A % (seconds(60), 1), answers=1)
        await bench.ask(do=do)
        bench.now += 100
        bench.says(QR | RD | RA | rcode | (AD if validated else 0), records, answers, authority)
        bench.gate.clear()
        waiting = [asyncio.create_task(bench.ask(**question)) for question in questions]
        await asyncio.sleep(0)
        bench.gate.set()
        got = [await task for task in waiting]
        assert len(bench.below.requests) == 2
        return got

    for question, (asked, reply) in zip(questions, asyncio.run(run()), strict=True):
        flags = QR | RD | RA | rcode | (AA if kept else 0)
        flags |= AD if validated and wants_ad(question) else 0
        assert reply == message(asked, flags, records, answers, authority)


ENDS: dict[str, dict[str, Any]] = {
    "an answer": {"flags": QR | RD | RA, "records": A % (seconds(60), 2), "answers": 1},
    "SERVFAIL": {"flags": QR | RD | RA | SERVFAIL},
    "an exception": {"flags": 0, "error": RuntimeError("a mistake below")},
    "cancellation": {"flags": 0, "error": asyncio.CancelledError()},
}
WAYS = {
    "prefetch": ("prefetch 1 1m 50%", 40),
    "stale": ("serve_stale 1h immediate", 100),
    "verified": ("serve_stale 1h verify", 100),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("end", ENDS)
def test_a_refresh_that_has_ended_leaves_its_place(end, way, monkeypatch):
    """With room for two at a time, all of ten names are fetched anew."""
    monkeypatch.setattr(refresh, "MOST", 2)
    options, age = WAYS[way]
    names = [f"{number}.example.org" for number in range(10)]

    async def run():
        bench = Bench(options)
        bench.says(QR | RD | RA, A % (seconds(60), 1), answers=1)
        for name in names:
            await bench.ask(name)
        bench.now += age
        bench.says(**ENDS[end])
        for name in names:
            await bench.ask(name)
            await bench.settle()
        return [request.name for request in bench.below.requests[len(names) :]]

    assert asyncio.run(run()) == [f"{name}." for name in names]


def gauge(name):
    """Return what a scrape shows of one of the cache's gauges, by labels."""
    (metric,) = (each for each in metrics.registered() if each.name == f"coredns_cache_{name}")
    return {labels: child.value for labels, child in metric.children()}


def test_the_gauge_shows_memory_as_it_is_now():
    """While queries wait, when a reply is kept, and after a purge, not only when others come."""

    async def run():
        bench = Bench(budget=process_budget())
        bench.says(QR | RD | RA, A % (seconds(60), 1), answers=1)
        before = gauge("memory_bytes")[()]
        bench.gate.clear()
        waiting = [asyncio.create_task(bench.ask(f"{number}.example.org")) for number in range(3)]
        await asyncio.sleep(0)
        assert gauge("memory_bytes")[()] == before + 3 * WAITING_SIZE
        bench.gate.set()
        await asyncio.gather(*waiting)
        kept = sum(entry.size for entry in bench.cache.store.success)
        assert gauge("memory_bytes")[()] == before + kept
        assert gauge("entries")["dns://:53", "success", ".", ""] == 3
        assert await bench.cache.command("cache/purge", {"name": "1.example.org"}) == 1
        assert gauge("memory_bytes")[()] == before + kept * 2 // 3
        assert gauge("entries")["dns://:53", "success", ".", ""] == 2
        bench.cache.store.clear()
        return before, gauge("memory_bytes")[()]

    before, after = asyncio.run(run())
    assert after == before
