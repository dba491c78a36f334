"""The handler by itself: what it takes for a loop, what it lets through, what it says."""

import asyncio
import time

import pytest

from corepy.dns import Request
from corepy.dns.edns import parse_options
from corepy.plugin import CorefileError
from corepy.testing import Recorder, make_request, run_chain, set_up
from corepy_loop.loop import OPTION_VISITED, SUSPECT_FOR, Loop
from corepy_loop.probe import MOST_NAMES, Probes
from corepy_loop.waiting import SLOW

SERVFAIL = 2


async def turns():
    """Let the event loop do what is to be done."""
    for _ in range(50):
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("text", "zone", "expected"),
    [
        ("loop", ".", "."),
        ("loop", "example.org", "example.org."),
        ("loop", "example.org:1053 example.net", "example.org."),
    ],
)
def test_accepted(text, zone, expected):
    (handler,) = set_up(text, zone).handlers
    assert handler._zone == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("loop argument", "argument"),
        ("loop\nloop", "only be used once"),
    ],
)
def test_refused(text, message):
    with pytest.raises(CorefileError, match=message):
        set_up(text)


def test_probes_cannot_be_guessed():
    probes = Probes("example.org.")
    drawn = [probes.new_probe("dns://:53") for _ in range(MOST_NAMES)]
    assert len({it.name for it in drawn}) == MOST_NAMES
    for it in drawn:
        first, second, rest = it.name.split(".", 2)
        assert rest == "example.org."
        assert it.type == "HINFO"
        assert int(first) < 1 << 64 > int(second)
    # 128 random bits: the chance that all have fewer than 100 is nil.
    assert any(int(it.name.split(".")[0]).bit_length() > 50 for it in drawn)
    assert all(it in probes for it in drawn)
    assert make_request(drawn[0].name, "A") not in probes
    assert make_request("1.2.example.org", "HINFO") not in probes
    probes.new_probe("dns://:53")
    assert drawn[0] not in probes
    assert drawn[1] in probes


def test_the_longest_zone():
    fits, too_long = ("a" * 62 + ".") * 3 + "a" * 22 + ".", ("a" * 62 + ".") * 4
    assert Probes(fits).new_probe("").name.endswith("." + fits)
    assert Probes(too_long).new_probe("").name.count(".") == 2


def test_a_name_in_capitals_is_the_same_probe():
    probes = Probes("example.org.")
    name = probes.new_probe("").name
    assert make_request(name.upper(), "HINFO") in probes


def failing(request):
    return request.error(SERVFAIL, "no upstream answered")


def refused_above(request):
    return request.error(SERVFAIL)


@pytest.mark.parametrize("query", [{}, {"edns": 1232}, {"do": True}])
def test_nothing_is_marked_while_all_is_well(query):
    handler, below = Loop("."), Recorder()
    request = make_request("example.org", **query)
    for _ in range(2):
        assert run_chain(request, handler, below).rcode == 0
    assert all(it is request for it in below.requests)


def test_an_upstreams_servfail_is_no_sign():
    handler, below = Loop("."), Recorder(refused_above)
    request = make_request("example.org")
    request.received = time.monotonic()
    for _ in range(2):
        assert run_chain(request, handler, below).rcode == SERVFAIL
    assert below.requests == [request, request]


def test_a_late_servfail_is_one():
    handler, below = Loop("."), Recorder(refused_above)
    request = make_request("example.org")
    request.received = time.monotonic() - SLOW
    for _ in range(2):
        assert run_chain(request, handler, below).rcode == SERVFAIL
    assert [it.edns is None for it in below.requests if it.type == "A"] == [True, False]


@pytest.mark.parametrize("query", [{}, {"edns": 1400}, {"do": True}])
def test_what_comes_after_a_failure_is_marked(query):
    handler, below = Loop("."), Recorder(failing)
    run_chain(make_request("example.org"), handler, below)
    below.requests.clear()
    request = make_request("eXample.net", **query)
    run_chain(request, handler, below)
    marked = next(it for it in below.requests if it.type == "A")
    ((code, data),) = parse_options(marked.edns.options)
    assert (code, len(data)) == (OPTION_VISITED, 8)
    assert (marked.qname, marked.do) == (request.qname, request.do)
    assert marked.client == request.client
    reply = run_chain(Request.from_wire(marked.wire), handler, below)
    assert reply.rcode == SERVFAIL
    assert reply.error is None
    assert b"forwarding loop" in reply.options


def test_the_mark_is_one_handlers_own():
    """A block may forward to another block of the same process, and that one to the world."""
    first, second, below = Loop("."), Loop("."), Recorder(failing)
    run_chain(make_request("example.org"), first, second, below)
    below.requests.clear()
    assert run_chain(make_request("example.net"), first, second, below).error
    (twice,) = [it for it in below.requests if it.type == "A"]
    codes = [code for code, _ in parse_options(twice.edns.options)]
    assert codes == [OPTION_VISITED, OPTION_VISITED]


def test_marking_ends():
    handler, below = Loop("."), Recorder(failing)
    run_chain(make_request("example.org"), handler, below)
    later = make_request("example.org")
    later.received = time.monotonic() + SUSPECT_FOR + 1
    run_chain(later, handler, below)
    assert later in below.requests


def test_failures_are_probed_now_and_then():
    handler, below = Loop("."), Recorder(failing)
    handler.next = below

    async def run():
        for _ in range(5):
            await handler.serve_dns(make_request("example.org"))
            await turns()

    asyncio.run(run())
    assert [it.type for it in below.requests].count("HINFO") == 1


def test_a_probe_that_raises_is_logged(caplog):
    def broken(request):
        if request.type == "HINFO":
            raise ValueError("no good")
        return failing(request)

    handler, below = Loop("."), Recorder(broken)
    handler.next = below

    async def run():
        await handler.serve_dns(make_request("example.org"))
        await turns()

    asyncio.run(run())
    assert "the probe failed: ValueError: no good" in caplog.text


class Below(Recorder):
    """Holds queries until it is told to let them go, or lets them come back to `top`."""

    def __init__(self):
        super().__init__()
        self.gate = asyncio.Event()
        self.top = None

    async def serve_dns(self, request):
        self.requests.append(request)
        if self.top is not None and (request.type == "HINFO" or request.edns):
            return await self.top.serve_dns(request)
        await self.gate.wait()
        return request.reply()


def started(below, loops=False):
    handler = Loop(".")
    handler.next = below
    if loops:
        below.top = handler
    return handler


async def ask(handler, name, waited=0.0):
    request = make_request(name)
    request.received = time.monotonic() - waited
    return await handler.serve_dns(request)


def test_a_query_that_waits_in_a_loop_is_answered_before_it_fails():
    below = Below()
    handler = started(below, loops=True)

    async def run():
        try:
            async with asyncio.timeout(20):
                replies = await asyncio.gather(*(ask(handler, f"{it}.example") for it in "abc"))
            return replies, asyncio.current_task().cancelling()
        finally:
            handler.shutdown()

    replies, cancelling = asyncio.run(run())
    assert [it.rcode for it in replies] == [SERVFAIL] * 3
    assert all(b"forwarding loop" in it.options for it in replies)
    assert cancelling == 0
    assert [it.type for it in below.requests] == ["A"] * 3 + ["HINFO"] + ["A"] * 3


def test_a_slow_upstream_that_answers_others_is_not_probed():
    below = Below()
    handler = started(below)

    async def run():
        waiting = asyncio.create_task(ask(handler, "slow.example", waited=SLOW))
        await asyncio.sleep(0)
        for _ in range(3):
            handler._waiting._check()
            handler._waiting.is_stalled = False  # as after an answer
        below.gate.set()
        reply = await waiting
        handler.shutdown()
        return reply

    assert asyncio.run(run()).rcode == 0
    assert [it.type for it in below.requests] == ["A"]


def test_an_upstream_that_is_silent_is_probed_once_and_nothing_is_marked():
    below = Below()
    handler = started(below)

    async def run():
        waiting = asyncio.create_task(ask(handler, "slow.example", waited=SLOW))
        await asyncio.sleep(0)
        for _ in range(4):
            handler._waiting._check()
            await asyncio.sleep(0)
        below.gate.set()
        reply = await waiting
        handler.shutdown()
        return reply

    assert asyncio.run(run()).rcode == 0
    assert [it.type for it in below.requests] == ["A", "HINFO"]
    assert below.requests[0].edns is None


def test_a_cancelled_query_stays_cancelled():
    """A client that leaves at the very moment of a recall: the cancellation is not ours to keep."""
    below = Below()
    handler = started(below)

    async def run():
        waiting = asyncio.create_task(ask(handler, "a.example"))
        await asyncio.sleep(0)
        waiting.cancel()
        handler._waiting.recall()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        handler.shutdown()

    asyncio.run(run())
    assert len(below.requests) == 1


def test_an_answer_that_comes_with_the_recall_is_kept():
    class Deaf(Below):
        async def serve_dns(self, request):
            try:
                return await super().serve_dns(request)
            except asyncio.CancelledError:
                return request.reply()

    below = Deaf()
    handler = started(below)

    async def run():
        waiting = asyncio.create_task(ask(handler, "a.example"))
        await asyncio.sleep(0)
        handler._waiting.recall()
        reply = await waiting
        handler.shutdown()
        return reply, waiting.cancelling()

    reply, cancelling = asyncio.run(run())
    assert (reply.rcode, cancelling, len(below.requests)) == (0, 0, 1)
