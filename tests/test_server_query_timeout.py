"""The time limit of queries: when they are looked at, which of them expire, and what is logged."""

import asyncio
import logging
from types import SimpleNamespace
from typing import Any

import pytest

from corepy.plugin.failures import FAILURES
from corepy.server.contain.attribution import Attribution
from corepy.server.listen import query_timeout
from corepy.server.listen.query_timeout import SWITCH, QueryTimeouts
from corepy.testing import make_request

NOW = 1000.0


class Timer:
    def __init__(self, seconds, call):
        self.seconds, self.call = seconds, call
        self.is_cancelled = False

    def cancel(self):
        self.is_cancelled = True


class Loop:
    """An event loop that only notes its timers."""

    def __init__(self):
        self.timers = []

    def call_later(self, seconds, call):
        self.timers.append(Timer(seconds, call))
        return self.timers[-1]

    @property
    def open(self):
        return [it.seconds for it in self.timers if not it.is_cancelled]


class Waits:
    """A query that waits in a plugin since `received`, in a block with a time limit."""

    outcome = "answered SERVFAIL"

    def __init__(self, received, limit=None, plugin="slow", where="in wait"):
        self.request = make_request("www.test.", peer=("192.0.2.1", 1))
        self.request.received = received
        if limit is not None:
            route = SimpleNamespace(time_limit=limit)
            context: Any = SimpleNamespace(route=route)
            self.request.context = context
        self.found = Attribution(plugin, where, None)
        self.has_timed_out = False
        self.expired = 0

    def expire(self):
        self.has_timed_out = True
        self.expired += 1
        return self.found


@pytest.fixture
def loop(monkeypatch):
    loop = Loop()
    monkeypatch.setattr(query_timeout, "get_running_loop", lambda: loop)
    monkeypatch.setattr(query_timeout, "monotonic", lambda: NOW)
    monkeypatch.setattr(logging.getLogger("corepy"), "propagate", True)
    return loop


def timeouts(monkeypatch, limit, *queries):
    monkeypatch.setenv(SWITCH, str(limit))
    return QueryTimeouts(lambda: queries)


def test_the_limit_without_the_variable(monkeypatch):
    monkeypatch.delenv(SWITCH, raising=False)
    assert query_timeout.limit() == 10.0


@pytest.mark.parametrize(
    ("limit", "of_blocks", "interval"),
    [
        (10, [], [1.0]),
        (10, [0.0, 1.5, 5], [0.75]),
        (1.5, [0.0, 3], [0.75]),
        (10, [0.01], [0.05]),
        (0, [0.0, 4], [1.0]),
        (0, [0.5, 0.4], [0.2]),
        (0, [0.0], []),
        (0, [], []),
    ],
)
def test_how_often_queries_are_looked_at(loop, monkeypatch, limit, of_blocks, interval):
    looks = timeouts(monkeypatch, limit)
    looks.stop()  # before the start it does nothing
    looks.start(of_blocks)
    assert loop.open == interval
    for timer in loop.timers.copy():
        timer.call()  # as the loop does, which has it no longer
        timer.cancel()
    assert loop.open == interval
    looks.start(of_blocks)
    assert loop.open == interval  # the timer from before is cancelled
    looks.stop()
    assert loop.open == []


@pytest.mark.parametrize(
    ("limit", "of_block", "allowed"),
    [
        (10, None, 10),  # no block answers the query
        (10, 0.0, 10),
        (10, 0.5, 0.5),
        (10, 30, 10),
        (0, 30, 30),
        (0, 0.0, 0),
        (0, None, 0),
    ],
)
def test_the_shorter_limit_counts(loop, monkeypatch, limit, of_block, allowed):
    received = (NOW - allowed - 0.25, NOW - allowed, NOW - allowed + 0.25, NOW - 1e6)
    queries = [Waits(at, of_block) for at in received]
    timeouts(monkeypatch, limit, *queries)._expire_overdue()
    assert [it.expired for it in queries] == ([1, 0, 0, 1] if allowed else [0] * 4)
    assert loop.open == [1.0]


def test_queries_that_wait_at_one_place_are_one_line(loop, monkeypatch, caplog):
    queries = [
        *(Waits(NOW - 20, plugin="slow") for _ in range(3)),
        *(Waits(NOW - 20, plugin="slow", where="in another") for _ in range(2)),
        Waits(NOW - 20, 0.5),
        Waits(NOW - 20, plugin="", where=""),
    ]
    queries[3].outcome = queries[4].outcome = "closed the connection"
    before = [FAILURES.labels(name, "timeout").value for name in ("slow", "server")]
    looks = timeouts(monkeypatch, 10, *queries)
    looks._expire_overdue()
    expected = [
        ("corepy.plugin.slow", " and 2 more", "10", "in wait", "answered SERVFAIL"),
        ("corepy.plugin.slow", " and 1 more", "10", "in another", "closed the connection"),
        ("corepy.plugin.slow", "", "0.5", "in wait", "answered SERVFAIL"),
        ("corepy", "", "10", "server", "answered SERVFAIL"),
    ]
    logged = [
        (
            name,
            f"www.test. A from 192.0.2.1{more}: no answer after {limit} s (waiting at {where});"
            f" {outcome}",
        )
        for name, more, limit, where, outcome in expected
    ]
    assert [(it.name, it.getMessage()) for it in caplog.records] == logged
    after = [FAILURES.labels(name, "timeout").value for name in ("slow", "server")]
    assert [new - old for new, old in zip(after, before, strict=True)] == [6, 1]
    looks._expire_overdue()  # they are abandoned, without another line
    assert [it.expired for it in queries] == [2] * 7
    assert len(caplog.records) == 4


@pytest.mark.parametrize("damage", ["context", "wire"])
def test_a_request_that_a_plugin_has_damaged_does_not_keep_others_waiting(
    loop, monkeypatch, damage
):
    damaged: Any = Waits(NOW - 9, plugin="damages")
    other = Waits(NOW - 9)
    cancelled = []
    damaged.cancel = lambda: cancelled.append(damaged)
    if damage == "context":
        damaged.request.context = None
    else:
        damaged.request = SimpleNamespace(context=other.request.context, received=NOW - 9)
    before = FAILURES.labels("slow", "timeout").value
    timeouts(monkeypatch, 5, damaged, other)._expire_overdue()
    assert other.expired == 1
    assert FAILURES.labels("slow", "timeout").value == before + 1
    assert cancelled == ([damaged] if damage == "context" else [])


def test_a_timer_of_a_real_loop(monkeypatch):
    async def test():
        looks = timeouts(monkeypatch, 1e-9)
        looks.start()
        done = asyncio.Event()
        monkeypatch.setattr(looks, "_waiting", lambda: done.set() or ())
        await asyncio.wait_for(done.wait(), 60)
        looks.stop()

    asyncio.run(test())
