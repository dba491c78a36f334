"""One client that waits for most replies leaves room for those of the others."""

import asyncio

import dnslib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.dns import Reply, Request
from corepy.dns.edns import OPTION_EDE, option, parse_options
from corepy.net.connection_limit import Shares, client_of
from corepy.plugin import Pending, Wakeups
from corepy.testing import Recorder, controller_for, link, make_request
from corepy_cache import refresh, setup
from corepy_cache.budget import WAITING_SIZE, Budget
from corepy_cache.handler import Cache

GREEDY, OTHER = ("192.0.2.1", 1053), ("192.0.2.2", 1053)
ROOM = 40


class Below(Recorder):
    """Answers when it is told to, as a coroutine or as a `Pending`."""

    def __init__(self, *, pends):
        super().__init__()
        self.gate = asyncio.Event()
        self.answer = answer
        self.pends = pends
        self.waiting = []

    def begin_dns(self, request):
        if not self.pends:
            return super().begin_dns(request)
        wakeups = Wakeups(asyncio.get_running_loop())
        pending = Pending(wakeups, lambda _: self.answer(request))
        self.waiting.append(pending)
        return pending

    async def serve_dns(self, request):
        await self.gate.wait()
        return self.answer(request)

    def go_on(self):
        self.gate.set()
        for pending in self.waiting:
            pending.wake()


def answer(request):
    reply = dnslib.DNSRecord.parse(request.wire).reply(ra=1)
    reply.ar = []
    reply.add_answer(*dnslib.RR.fromZone(f"{request.name} 60 A 192.0.2.9"))
    return Reply.from_wire(bytes(reply.pack()))


class Bench:
    def __init__(self, text="cache", *, pends=False):
        controller = controller_for(text)
        setup(controller)
        self.now = 1000.0
        budget = Budget(64 << 20)
        budget._set(2 * ROOM * WAITING_SIZE)
        self.cache = Cache(controller.handlers[0].settings, budget, lambda: self.now)
        self.below = Below(pends=pends)
        self.top = link([self.cache, self.below])

    def ask(self, name, peer):
        request = make_request(name, edns=1232, peer=peer)
        request.received = self.now

        async def wait():
            return await self.top.serve_dns(request)

        return asyncio.create_task(wait())


async def turns(count=5):
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize("pends", [False, True])
def test_others_are_served_while_one_waits_for_all_it_can(pends):
    async def run():
        bench = Bench(pends=pends)
        greedy = [bench.ask(f"{n}.example.org", GREEDY) for n in range(10 * ROOM)]
        await turns()
        others = [bench.ask(f"{n}.example.net", OTHER) for n in range(5)]
        await turns()
        assert bench.cache.budget.waiting <= ROOM
        bench.below.go_on()
        replies = [await task for task in greedy]
        assert [(await task).rcode for task in others] == [0] * 5
        assert bench.cache.budget.waiting == 0
        assert bench.cache.budget._shares is None
        return replies

    replies = asyncio.run(run())
    failed = [reply for reply in replies if reply.rcode]
    assert len(replies) - len(failed) == ROOM * 3 // 4
    assert {reply.rcode for reply in failed} == {2}
    for reply in failed:
        ((code, text),) = parse_options(reply.options)
        assert code == OPTION_EDE
        assert text == b"\0\0too many queries wait for an upstream"


def test_two_that_want_all_leave_room_for_a_third():
    async def run():
        bench = Bench()
        for n in range(10 * ROOM):
            bench.ask(f"{n}.example.org", GREEDY)
            bench.ask(f"{n}.example.com", ("192.0.2.3", 1053))
        await turns()
        others = [bench.ask(f"{n}.example.net", OTHER) for n in range(4)]
        await turns()
        bench.below.go_on()
        return [(await task).rcode for task in others]

    assert asyncio.run(run()) == [0] * 4


def test_one_network_is_one_client():
    """IPv6: who has a /64 has 2^64 addresses."""

    async def run():
        bench = Bench()
        greedy = [
            bench.ask(f"{n}.example.org", (f"2001:db8::{n:x}", 1053)) for n in range(10 * ROOM)
        ]
        await turns()
        other = bench.ask("www.example.net", ("2001:db8:0:1::1", 1053))
        await turns()
        bench.below.go_on()
        assert (await other).rcode == 0
        replies = [await task for task in greedy]
        return sum(reply.rcode == 0 for reply in replies)

    assert asyncio.run(run()) == ROOM * 3 // 4


def test_what_fails_for_want_of_room_is_kept_for_nobody():
    """Neither our own failure nor one from below (forward's max_concurrent)."""

    async def run():
        bench = Bench()
        for n in range(10 * ROOM):
            bench.ask(f"{n}.example.org", GREEDY)
        failed = await bench.ask("www.example.net", GREEDY)
        bench.below.go_on()
        await turns()
        later = await bench.ask("www.example.net", OTHER)

        def too_many(request):
            reply = request.error(2, "too many")
            reply.is_momentary = True
            return reply

        bench.below.answer = too_many
        below = await bench.ask("www.example.com", GREEDY)
        bench.below.answer = answer
        return (
            failed.rcode,
            later.rcode,
            below.rcode,
            (await bench.ask("www.example.com", OTHER)).rcode,
        )

    assert asyncio.run(run()) == (2, 0, 2, 0)


def test_a_cache_above_one_that_has_no_room_keeps_nothing_of_that():
    async def run():
        bench = Bench()
        above = Cache(bench.cache.settings, Budget(64 << 20), lambda: bench.now)
        bench.top = link([above, bench.cache, bench.below])
        for n in range(10 * ROOM):
            bench.ask(f"{n}.example.org", GREEDY)
        failed = await bench.ask("www.example.net", GREEDY)
        bench.below.go_on()
        await turns()
        return failed.rcode, failed.is_momentary, (await bench.ask("www.example.net", OTHER)).rcode

    assert asyncio.run(run()) == (2, True, 0)


def test_a_momentary_failure_does_not_end_what_is_stale():
    async def run():
        bench = Bench("cache {\nserve_stale 1h\n}")
        bench.below.go_on()
        await bench.ask("www.example.org", OTHER)
        bench.now += 100

        def too_many(request):
            reply = request.error(2)
            reply.is_momentary = True
            return reply

        bench.below.answer = too_many
        await bench.ask("www.example.org", OTHER)
        await turns()
        return (await bench.ask("www.example.org", OTHER)).rcode

    assert asyncio.run(run()) == 0


def test_a_client_cannot_have_all_the_refreshes(monkeypatch):
    monkeypatch.setattr(refresh, "MOST", 8)

    async def run():
        bench = Bench("cache {\nserve_stale 1h\n}")
        bench.below.gate.set()
        names = [f"{n}.example.org" for n in range(20)]
        for name in (*names, "www.example.net"):
            await bench.ask(name, OTHER)
        bench.now += 100
        bench.below.gate.clear()
        for name in names:
            await bench.ask(name, GREEDY)
        entry = bench.cache.store.success.get(b"\3www\7example\3net\0\0\1\0\1")
        await bench.ask("www.example.net", OTHER)
        begun = entry.task is not None
        held = sum(bench.cache.refresher._shares.held.values())
        bench.below.go_on()
        await turns(20)
        return begun, held, bench.cache.refresher._shares.held

    assert asyncio.run(run()) == (True, 7, {})


def test_an_entry_whose_attempt_was_cancelled_before_it_began_is_refreshed_again():
    """A reload cancels the attempt, and the next generation goes on with the entry."""

    async def run():
        bench = Bench("cache {\nserve_stale 1h\n}")
        bench.below.gate.set()
        await bench.ask("www.example.org", OTHER)
        bench.now += 100
        (entry,) = bench.cache.store.success
        request = make_request("www.example.org", edns=1232, peer=OTHER)
        request.received = bench.now
        await bench.top.serve_dns(request)  # with the stale entry, at once
        cancelled = entry.task
        await bench.cache.refresher.stop()
        assert cancelled.cancelled()
        await bench.ask("www.example.org", OTHER)
        await turns()
        return entry not in bench.cache.store.success

    assert asyncio.run(run())


class Breaks(Recorder):
    """Fails in the way that is asked for."""

    def __init__(self, way):
        super().__init__()
        self.way = way

    def begin_dns(self, request):
        if self.way == "raises at once":
            raise RuntimeError("a plugin's mistake")
        if self.way == "pends and raises":
            pending = Pending(Wakeups(asyncio.get_running_loop()), self.fail)
            pending.wake()
            return pending
        if self.way == "pends and returns nonsense":
            pending = Pending(Wakeups(asyncio.get_running_loop()), self.nonsense)
            pending.wake()
            return pending
        return super().begin_dns(request)

    def nonsense(self, _):
        return "nonsense"

    def fail(self, _):
        raise RuntimeError("a plugin's mistake")

    async def serve_dns(self, request):
        if self.way == "raises later":
            await asyncio.sleep(0)
            raise RuntimeError("a plugin's mistake")
        if self.way == "returns nonsense":
            return
        await asyncio.Event().wait()


@pytest.mark.parametrize(
    "way",
    [
        "raises at once",
        "raises later",
        "pends and raises",
        "pends and returns nonsense",
        "returns nonsense",
        "is cancelled",
    ],
)
def test_no_mistake_below_costs_a_place_for_good(way):
    async def run():
        bench = Bench()
        bench.top = link([bench.cache, Breaks(way)])
        tasks = [bench.ask(f"{n}.example.org", GREEDY) for n in range(5)]
        await turns(10)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        budget = bench.cache.budget
        return budget.waiting, budget.used - bench.cache.store.denial.bytes

    assert asyncio.run(run()) == (0, 0)


@given(
    st.lists(st.tuples(st.sampled_from("wwwl"), st.integers(0, 4), st.integers(1, 30)), max_size=60)
)
@settings(deadline=None, max_examples=100)
def test_shares_are_the_same_as_if_they_were_always_counted(steps):
    """Counting begins when places are scarce and ends when they are not; nobody can tell."""
    budget, model = Budget(2 * ROOM * WAITING_SIZE), Shares()
    waiting: list[Request] = []
    for action, number, times in steps:
        for _ in range(times):
            if action == "w":
                request = make_request("www.example.org", peer=(f"192.0.2.{number}", 1053))
                if number == 0:
                    request.client = None  # the server's own
                may = model.take(client_of(request.client), ROOM - len(waiting))
                assert budget.begin_wait(request) is may
                if may:
                    waiting.append(request)
            elif waiting:
                request = waiting.pop(number % len(waiting))
                model.give_back(client_of(request.client))
                budget.end_wait(request, answered=True)
            assert budget.waiting == len(waiting)
            assert budget.used == len(waiting) * WAITING_SIZE
    for request in waiting:
        budget.end_wait(request, answered=False)
    assert (budget.waiting, budget.used, budget._shares) == (0, 0, None)


def test_one_query_below_two_caches_counts_once_as_its_clients():
    budget = Budget(2 * ROOM * WAITING_SIZE)
    first = make_request("www.example.org", peer=GREEDY)
    assert budget.begin_wait(first)
    others = [make_request("www.example.org", peer=GREEDY) for _ in range(ROOM * 3 // 4 - 1)]
    assert all(map(budget.begin_wait, others))
    assert budget.begin_wait(first)
    assert not budget.begin_wait(make_request("www.example.org", peer=GREEDY))
    for request in (first, first, *others):
        budget.end_wait(request, answered=True)
    assert (budget.waiting, budget.used, budget._shares) == (0, 0, None)


def test_a_place_is_given_back_to_the_client_that_took_it():
    """A handler below a cache may set the client, such as that behind a proxy."""
    budget = Budget(2 * ROOM * WAITING_SIZE)
    waiting = [make_request("www.example.org", peer=GREEDY) for _ in range(ROOM * 3 // 4)]
    assert all(map(budget.begin_wait, waiting))
    assert not budget.begin_wait(make_request("www.example.org", peer=GREEDY))
    for request in waiting:
        request.set_client(OTHER)
    assert budget.begin_wait(waiting[0])  # of a second cache below
    budget.end_wait(waiting[0], answered=True)
    budget.end_wait(waiting.pop(0), answered=True)
    again = [make_request("www.example.org", peer=GREEDY) for _ in range(2)]
    assert list(map(budget.begin_wait, again)) == [True, False]
    for request in (*waiting, again[0]):
        budget.end_wait(request, answered=True)
    assert (budget.waiting, budget.used, budget._shares) == (0, 0, None)


def failing(rcode, *, error=None, momentary=False):
    def reply(request):
        made = request.error(rcode, error)
        made.is_momentary = momentary
        return made

    return reply


@pytest.mark.parametrize("options", [b"", option(65001, b"x")], ids=["usual", "asked apart"])
@pytest.mark.parametrize(
    ("below", "free"),
    [
        (answer, 1),
        (failing(3), 1),
        (failing(2), 1),
        (failing(5), 0),
        (failing(2, error="no upstream answered"), 0),
        (failing(2, momentary=True), 0),
        (lambda request: Reply(b"\0\0\x81"), 0),
        pytest.param(
            lambda request: Reply(None),  # type: ignore[arg-type]  # a plugin's mistake
            0,
            marks=pytest.mark.pure_form("a value of another type is refused at once"),
        ),
        (lambda request: None, 0),
    ],
    ids=["answer", "NXDOMAIN", "SERVFAIL", "REFUSED", "silence", "too many", "three bytes",
         "no bytes", "no reply"],
)  # fmt: skip
def test_only_what_an_upstream_answers_leaves_its_place_to_the_next(below, free, options):
    """Above the number that may wait at any time; 510 wait, the last 10 of them since it rose."""
    budget = Budget(2000 * WAITING_SIZE)
    controller = controller_for("cache")
    setup(controller)
    cache = Cache(controller.handlers[0].settings, budget, lambda: 1000.0)
    top = link([cache, Recorder(below)])

    def own():
        request = make_request("www.example.org")
        request.client = None
        return request

    waiting = [own() for _ in range(500)]
    assert all(map(budget.begin_wait, waiting))
    late = [own() for _ in range(11)]
    for request in late:
        request.received = 0.0101
    assert [budget.begin_wait(request) for request in late] == [True] * 10 + [False]
    budget.end_wait(waiting.pop(), answered=True)
    request = make_request("www.example.org", edns=1232, peer=OTHER).derive(options=options)
    request.received = 0.0101
    request.client = None
    asyncio.run(top.serve_dns(request))
    assert budget.waiting == 509
    assert sum(budget.begin_wait(own()) for _ in range(2)) == free
