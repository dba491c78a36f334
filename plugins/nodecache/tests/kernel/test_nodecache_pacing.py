"""When nodecache's reconciler looks at the host again, with the clock and all sleeps by hand."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from corepy.testing.netns import isolated
from corepy_nodecache import metrics
from corepy_nodecache import reconciler as module
from corepy_nodecache.host import Report
from corepy_nodecache.model import DesiredState, HostError
from corepy_nodecache.reconciler import Reconciler
from corepy_nodecache.settings import Settings
from corepy_nodecache.watch import LegacyFingerprint

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

ONE = Settings(ips=("169.254.20.10",)).want()
INFINITY = float("inf")
LOCKED = Report([], False, [HostError("iptables_lock", "held")], 0, 0)


class Clock:
    """The time of the reconciler, which passes only where it sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.sleeps: list[float] = []

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds


class Sizes(LegacyFingerprint):
    """The sizes of legacy tables, as the test says."""

    def __init__(self, *sizes: bytes) -> None:
        super().__init__()
        self.sizes = sizes
        self.is_closed = False

    def read(self) -> tuple[bytes, ...]:
        return self.sizes

    def close(self) -> None:
        super().close()
        self.is_closed = True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


def drive(work: Callable[[Reconciler], Awaitable[None]]) -> None:
    """Run `work` on a reconciler that makes no passes of its own."""

    async def whole() -> None:
        it = Reconciler()
        it._task.cancel()
        await work(it)
        it._is_locked_out = False
        await it.close()

    asyncio.run(whole())


@pytest.mark.parametrize(
    ("last", "expected"), [(100.0, 0.5), (99.75, 0.25), (99.5, 0.05), (90.0, 0.05)]
)
@isolated
def test_changes_are_gathered_for_a_moment(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, last: float, expected: float
) -> None:
    async def work(it: Reconciler) -> None:
        clock.now, it._last_pass = 100.0, last
        it._changed.set()
        with monkeypatch.context() as patch:
            patch.setattr(asyncio, "sleep", clock.sleep)
            assert await it._must_look()
        assert clock.sleeps == [expected]
        assert not it._changed.is_set()
        assert not await it._must_look()

    drive(work)


@isolated
def test_without_a_change_a_pass_is_due_by_the_clock_or_by_the_sizes(clock: Clock) -> None:
    async def work(it: Reconciler) -> None:
        it._due = 10.0
        clock.now = 9.99
        assert not await it._must_look()
        clock.now = 10.0
        assert await it._must_look()
        clock.now = 0.0
        it._fingerprint = sizes
        assert await it._must_look()
        it._sizes = (b"1", b"2")
        assert not await it._must_look()

    sizes = Sizes(b"1", b"2")
    drive(work)
    assert sizes.is_closed


@pytest.mark.parametrize(
    ("due", "is_legacy", "expected"),
    [
        (INFINITY, False, None),
        (107.0, False, 7.0),
        (90.0, False, 0),
        (INFINITY, True, 0.5),
        (107.0, True, 0.5),
        (100.25, True, 0.25),
    ],
)
@isolated
def test_how_long_a_change_is_waited_for(
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    due: float,
    is_legacy: bool,
    expected: float | None,
) -> None:
    asked: list[float | None] = []
    timeout = asyncio.timeout

    def noted(delay: float | None) -> asyncio.Timeout:
        asked.append(delay)
        return timeout(0)

    async def work(it: Reconciler) -> None:
        clock.now, it._due = 100.0, due
        if is_legacy:
            it._fingerprint = Sizes()
        with monkeypatch.context() as patch:
            patch.setattr(asyncio, "timeout", noted)
            await it._wait()
        assert asked == [expected]

    drive(work)


@isolated
def test_failures_are_tried_again_less_and_less_often(clock: Clock) -> None:
    async def work(it: Reconciler) -> None:
        it._intervals = {1: 60.0, 2: 0.0, 3: 45.0}
        assert it._next_delay() == 45.0
        it._intervals = {1: 60.0, 2: 0.5}
        assert it._next_delay() == 0.5
        it._intervals = {2: 0.0}
        assert it._next_delay() == INFINITY
        it._problem = "no"
        delays = [it._next_delay() for _ in range(7)]
        assert delays == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
        it._is_locked_out = True
        assert it._next_delay() == 1.0
        it._problem, it._is_locked_out = "", False
        assert it._next_delay() == INFINITY
        it._problem, it._is_locked_out = "no", True
        assert it._next_delay() == 0.5
        it._problem = ""

    drive(work)


@isolated
def test_an_equal_wish_needs_no_pass_for_a_moment(clock: Clock) -> None:
    async def work(it: Reconciler) -> None:
        it._desired, it._asked, it._last_pass = {1: ONE}, ONE, 0.0
        clock.now = 0.49
        assert it._is_fresh()
        assert not it._is_fresh(sweep=True)
        it._running = 1
        assert not it._is_fresh()
        it._running, it._problem = 0, "no"
        assert not it._is_fresh()
        it._problem, it._asked = "", DesiredState()
        assert not it._is_fresh()
        it._asked = ONE
        clock.now = 0.5
        assert not it._is_fresh()

    drive(work)


@isolated
def test_a_stop_tries_for_eight_seconds(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(it: Reconciler) -> None:
        passes = []

        async def locked_out(sweep: bool = False) -> Report:
            passes.append(clock.now)
            assert len(passes) <= 16
            return LOCKED

        monkeypatch.setattr(it, "_sync", locked_out)
        it._is_locked_out = True
        with monkeypatch.context() as patch:
            patch.setattr(asyncio, "sleep", clock.sleep)
            await it._remove_at_exit()
        assert clock.sleeps == [0.5] * 16
        assert passes == [0.5 * number for number in range(1, 17)]
        it._is_locked_out = False
        await it._remove_at_exit()
        assert len(passes) == 16

    drive(work)


@isolated
def test_the_figures_of_a_pass(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    async def work(it: Reconciler) -> None:
        it._intervals = {1: 60.0}
        clock.now = 5.0
        refused, repairs = metrics.setup_errors.labels("iptables_lock"), metrics.repairs.value
        before = refused.value
        it._publish(LOCKED._replace(rules=4, addresses=1))
        assert (metrics.rules.value, metrics.addresses.value) == (4, 1)
        assert (metrics.degraded.value, refused.value) == (1, before + 1)
        assert (it._is_locked_out, it._last_pass, it._due) == (True, 5.0, 5.5)
        it._publish(Report(["added 2 rules"], True, [], 10, 2, True))
        assert (metrics.rules.value, metrics.addresses.value) == (10, 2)
        assert (metrics.degraded.value, refused.value) == (0, before + 1)
        assert (it._is_locked_out, it._due) == (False, 65.0)
        assert metrics.repairs.value == repairs + 1

    drive(work)
    assert [it.message for it in caplog.records if it.levelname != "INFO"] == [
        "held (retrying)",
        "repaired changes made by others: added 2 rules",
    ]


@isolated
def test_sizes_after_a_change_of_ours_are_looked_at_again(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports = [
        Report([], False, [], 0, 0),
        Report(["added 10 rules"], True, [], 10, 1),
        Report([], False, LOCKED.errors, 0, 0),
        Report(["added 1 rules"], True, [], 10, 1),
    ]

    async def work(it: Reconciler) -> None:
        it._fingerprint = Sizes(b"1")
        monkeypatch.setattr(it._host, "sync", lambda want, sweep=False: reports.pop(0))
        assert it._pass(ONE, False).repaired is False
        assert it._sizes == (b"1",)
        assert it._pass(ONE, False).repaired  # an earlier pass has left the host whole
        assert it._sizes == ()
        assert it._pass(DesiredState(), False).repaired is False
        # The wish changed and failed meanwhile; what it wanted before was whole once.
        assert it._pass(DesiredState(), False).repaired is False
        it._fingerprint = Sizes()

    drive(work)
