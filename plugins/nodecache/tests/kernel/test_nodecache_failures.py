"""nodecache's reconciler where something fails or waits: bugs, locks held by others, a stop meanwhile.

Failures are made, not waited for: a pass that raises, a pass that is held up, a lock that is held.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import threading
from typing import TYPE_CHECKING

import pytest

from corepy.testing.netns import addresses, isolated, rules, run
from corepy_nodecache import claims, detect, metrics
from corepy_nodecache import reconciler as module
from corepy_nodecache.legacy import LegacyTables
from corepy_nodecache.model import MARK, DesiredState, Mode
from corepy_nodecache.reconciler import Reconciler
from corepy_nodecache.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from corepy_nodecache.host import Report

ONE = Settings(ips=("169.254.20.10",))
TWO = Settings(ips=("169.254.20.10", "10.0.0.1"))
SLOW = 60.0  # seconds after which a test has failed for good


class Passes:
    """The passes of a reconciler over the host; the next ones can be made to fail or to wait."""

    def __init__(self, reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.failures = 0
        self.gate = threading.Event()
        self.gate.set()
        self.begun = threading.Event()
        self._sync = reconciler._host.sync
        monkeypatch.setattr(reconciler._host, "sync", self.sync)

    def sync(self, want: DesiredState, sweep: bool = False) -> Report:
        self.count += 1
        self.begun.set()
        assert self.gate.wait(SLOW)
        if self.failures:
            self.failures -= 1
            raise ZeroDivisionError("a bug")
        return self._sync(want, sweep)


@contextlib.asynccontextmanager
async def reconciler(kind: Mode) -> AsyncIterator[Reconciler]:
    run("ip", "link", "add", "nodecache", "type", "bridge")
    made = Reconciler()
    made.use(await made.host_thread.run(lambda: detect.choose(kind)))
    try:
        yield made
    finally:
        await made.close()


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(SLOW):
        while not done():  # noqa: ASYNC110  # the host has no event for it
            await asyncio.sleep(0.02)


def count(kind: str) -> int:
    return sum(MARK in line for line in rules(kind))


@contextlib.contextmanager
def held_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Hold the lock of legacy iptables, as another program does; yields what releases it."""
    path = tmp_path / "xtables.lock"
    monkeypatch.setenv("XTABLES_LOCKFILE", str(path))
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield lambda: fcntl.flock(file, fcntl.LOCK_UN)


@isolated
def test_a_bug_in_a_pass_does_not_end_the_repairs(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        async with reconciler("nft") as it:
            await it.set_desired("owner", ONE.want(), 0)
            passes = Passes(it, monkeypatch)
            passes.failures = 1
            run("iptables-nft", "-t", "raw", "-F")
            await until(lambda: "checking the host failed" in caplog.text)
            run("iptables-nft", "-t", "filter", "-F")
            await until(lambda: count("nft") == 10)
            await it.leave("owner")

    asyncio.run(work())
    assert caplog.text.count("ZeroDivisionError: a bug") == 1


@isolated
def test_a_bug_in_a_pass_reaches_its_caller_and_the_next_wish_works(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_FRESH", SLOW)

    async def work() -> None:
        async with reconciler("nft") as it:
            it._task.cancel()  # no passes of its own
            passes = Passes(it, monkeypatch)
            passes.failures = 1
            with pytest.raises(ZeroDivisionError):
                await it.set_desired("owner", ONE.want(), 0)
            await it.set_desired("owner", ONE.want(), 0)
            assert count("nft") == 10
            # The pass that failed no longer counts as running, so an equal wish needs no pass.
            await it.set_desired("owner", ONE.want(), 0)
            assert passes.count == 2
            await it.leave("owner")

    asyncio.run(work())


@isolated
def test_legacy_tables_are_looked_at_without_an_interval() -> None:
    async def work() -> None:
        async with reconciler("legacy") as it:
            await it.set_desired("owner", ONE.want(), 0)
            run("iptables-legacy", "-t", "raw", "-F")
            await until(lambda: count("legacy") == 10)
            await it.leave("owner")

    asyncio.run(work())


@isolated
def test_legacy_tables_that_stay_the_same_cause_no_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with reconciler("legacy") as it:
            passes = Passes(it, monkeypatch)
            await it.set_desired("owner", ONE.want(), 0)
            sizes: list[tuple[bytes, ...]] = []
            fingerprint = it._fingerprint
            assert fingerprint is not None
            read = fingerprint.read

            def note() -> tuple[bytes, ...]:
                sizes.append(read())
                return sizes[-1]

            monkeypatch.setattr(fingerprint, "read", note)
            looks = dict.fromkeys([passes.count], 0)  # of the sizes, by the passes made until then

            def is_settled() -> bool:
                looks.setdefault(passes.count, len(sizes))
                return len(sizes) - looks[passes.count] >= 3

            await until(is_settled)
            await it.leave("owner")

    asyncio.run(work())


@contextlib.asynccontextmanager
async def refused_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Reconciler, Callable[[], None]]]:
    """A reconciler that could not remove what is left, and a function that releases the lock."""
    LegacyTables().reconcile(TWO.want().rules(), lambda _: False)
    with held_lock(tmp_path, monkeypatch) as release:
        async with reconciler("legacy") as it:
            await it.set_desired("owner", ONE.want(), 60, sweep=True)
            yield it, release


@isolated
def test_a_sweep_is_repeated_until_it_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the boot of a node other programs hold the lock; leftovers must not stay for that reason."""

    async def work() -> None:
        async with refused_sweep(tmp_path, monkeypatch) as (it, release):
            assert count("legacy") == 20
            release()
            await until(lambda: count("legacy") == 10)
            await it.leave("owner")

    asyncio.run(work())


@isolated
def test_a_new_desired_state_ends_the_repetition_of_a_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be of an owner that keeps what an earlier process has left."""

    async def work() -> None:
        async with refused_sweep(tmp_path, monkeypatch) as (it, release):
            it._task.cancel()  # only the passes of the desired states
            assert it._is_sweep_due
            await it.set_desired("other", ONE.want(), 60)
            assert not it._is_sweep_due
            release()
            await it.leave("other")
            assert count("legacy") == 20
            await it.leave("owner")

    asyncio.run(work())


@isolated
def test_a_lock_that_becomes_free_while_the_process_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    refused = metrics.setup_errors.labels("iptables_lock")

    async def work() -> None:
        with contextlib.ExitStack() as stack:
            async with reconciler("legacy") as it:
                await it.set_desired("owner", ONE.want(), 60)
                release = stack.enter_context(held_lock(tmp_path, monkeypatch))
                before = refused.value
                await it.leave("owner")
                assert refused.value > before
                assert count("legacy") == 10
                stopping = asyncio.create_task(it.close())
                at_stop = refused.value
                await until(lambda: refused.value > at_stop)  # the first try while stopping
                assert not stopping.done()
                release()
                await stopping
                assert (count("legacy"), addresses("nodecache")) == (0, [])
                monkeypatch.setattr(it, "close", lambda: asyncio.sleep(0))  # it is closed

    asyncio.run(work())
    assert "could not remove everything" not in caplog.text
    assert "the host matches the configuration again" in caplog.text


@isolated
def test_a_lock_that_is_never_free_ends_the_stop_with_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_LAST_TRIES", 0.1)

    async def work() -> None:
        async with reconciler("legacy") as it:
            await it.set_desired("owner", ONE.want(), 60)
            stack.enter_context(held_lock(tmp_path, monkeypatch))
            await it.leave("owner")

    with contextlib.ExitStack() as stack:
        asyncio.run(work())
        assert count("legacy") == 10
    message = "could not remove everything; the next start or `corepy nodecache teardown` will"
    assert caplog.messages.count(message) == 1


@isolated
def test_a_wish_is_not_fulfilled_by_a_pass_that_still_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A second block with the same addresses must not open its sockets before they are there."""

    async def work() -> None:
        async with reconciler("nft") as it:
            passes = Passes(it, monkeypatch)
            passes.gate.clear()
            first = asyncio.create_task(it.set_desired("first", ONE.want(), 60))
            await asyncio.to_thread(passes.begun.wait, SLOW)
            second = asyncio.create_task(it.set_desired("second", ONE.want(), 60))
            await asyncio.sleep(0)
            assert not second.done()
            passes.gate.set()
            await asyncio.gather(first, second)
            assert count("nft") == 10
            await it.leave("first")
            await it.leave("second")

    asyncio.run(work())


@isolated
def test_passes_are_made_only_where_something_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FRESH", SLOW)

    async def work() -> None:
        async with reconciler("nft") as it:
            it._task.cancel()  # the passes that the kernel's messages ask for do not count here
            passes = Passes(it, monkeypatch)
            await it.set_desired("first", ONE.want(), 60)
            await it.set_desired("second", ONE.want(), 60)
            assert passes.count == 1
            assert await it.leave("nobody") is None
            assert await it.leave("second") is None
            assert passes.count == 1
            await it.set_desired("third", TWO.want(), 60)
            assert (passes.count, count("nft")) == (2, 20)
            await it.set_desired("first", ONE.want(), 60, sweep=True)
            assert passes.count == 3
            await it.leave("third", keep=True)
            assert (passes.count, count("nft"), it.owners) == (3, 20, 1)
            await it.leave("first")
            assert count("nft") == 20

    asyncio.run(work())


@isolated
def test_a_state_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")

    async def work() -> None:
        async with reconciler("nft") as it:
            await it.set_desired("owner", ONE.want(), 60)
            assert caplog.messages == []
            run("ip", "link", "del", "nodecache")
            await until(lambda: metrics.degraded.value == 1)
            errors = metrics.setup_errors.labels("interface_add").value
            await until(lambda: metrics.setup_errors.labels("interface_add").value >= errors + 2)
            run("ip", "link", "add", "nodecache", "type", "bridge")
            await until(lambda: metrics.degraded.value == 0)
            await it.leave("owner")

    asyncio.run(work())
    # The link is gone, then it cannot be made again: two states, however often they are found.
    problems = [line for line in caplog.messages if line.endswith("(retrying)")]
    assert 1 <= len(problems) <= 2
    assert len(set(problems)) == len(problems)
    assert caplog.messages.count("the host matches the configuration again") == 1


@isolated
def test_the_node_lock_is_waited_for() -> None:
    found: list[bool] = []

    def wait() -> None:
        with claims.node_lock(wait=SLOW) as held:
            found.append(held)

    # A thread that this one starts is in the same network namespace.
    second = threading.Thread(target=wait)
    with claims.node_lock() as held:
        assert held
        second.start()
        second.join(0.2)
        assert found == []
    second.join(SLOW)
    assert found == [True]
