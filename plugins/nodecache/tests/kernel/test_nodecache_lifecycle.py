"""nodecache through the life of server generations, in namespaces: the hooks, called in the order in
which a server calls them, on a real host. The whole server is in test_nodecache_server.py.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pluggy
import pytest

from corepy.plugin import LifecycleContext, StartupError
from corepy.testing.netns import addresses, isolated, rules, run
from corepy_nodecache import lifecycle, metrics
from corepy_nodecache.host import Host
from corepy_nodecache.lifecycle import Nodecache
from corepy_nodecache.link import Links
from corepy_nodecache.model import MARK, HostError
from corepy_nodecache.nft import NftTables
from corepy_nodecache.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from corepy_nodecache.host import Report
    from corepy_nodecache.model import DesiredState

SLOW = 60.0  # seconds after which a test has failed for good
IP, OTHER, THIRD = "169.254.20.10", "169.254.20.11", "169.254.20.12"


def one(*ips: str, **more: Any) -> Settings:
    return Settings(ips or (IP,), iptables="nft", interval=0.0)._replace(**more)


async def _reload(_reason: str) -> bool:
    return False


def context(final: bool = True) -> LifecycleContext:
    return LifecycleContext(pluggy.PluginManager("corepy"), _reload, lambda: None, final=final)


async def start(*blocks: Nodecache) -> None:
    for block in blocks:
        await block.before_listen(context())
    for block in blocks:
        await block.serving(context())


async def stop(*blocks: Nodecache, final: bool = True) -> None:
    for block in blocks:
        await block.stopping(context(final))
    for block in blocks:
        await block.shutdown(context(final))


def on_host() -> tuple[int, list[str]]:
    """How many rules of ours there are, and the addresses of the interface."""
    return sum(MARK in line for line in rules("nft")), addresses("nodecache")


def placed(*ips: str) -> list[str]:
    return sorted(f"{ip}/32" for ip in ips)


def leave_behind(*ips: str) -> None:
    """Put on the host all that a process which was killed leaves there."""
    Links().ensure(one(*ips).addresses())
    NftTables().reconcile(one(*ips).want().rules(), lambda _: False)


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> lifecycle._Process:
    """The state of a process that starts anew."""
    fresh = lifecycle._Process()
    monkeypatch.setattr(lifecycle, "_process", fresh)
    return fresh


def live(work: Callable[[], Awaitable[None]], bridge: bool = True) -> None:
    if bridge:
        run("ip", "link", "add", "nodecache", "type", "bridge")
        run("ip", "link", "set", "nodecache", "up")

    async def whole() -> None:
        await work()

    asyncio.run(whole())


@isolated
def test_each_hook_does_its_part(
    process: lifecycle._Process, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    async def work() -> None:
        block = Nodecache(one())
        await block.before_listen(context())
        assert on_host() == (0, placed(IP))
        assert process.starting == {block}
        await block.serving(context())
        assert on_host() == (10, placed(IP))
        assert process.starting == set()
        await block.stopping(context())
        assert on_host() == (0, placed(IP))
        await block.shutdown(context())
        assert on_host() == (0, [])
        assert (process.reconciler, process.may_sweep) == (None, True)

    live(work)
    assert [it for it in threading.enumerate() if it.name.startswith("nodecache")] == []
    assert caplog.messages == [
        "using nft iptables",
        f"added {IP} to nodecache",
        "added 10 rules",
        "removed 10 rules",
        f"removed {IP} from nodecache",
    ]


@isolated
def test_the_status_is_shown_once_for_all_blocks(process: lifecycle._Process) -> None:
    async def work() -> None:
        first, second = Nodecache(one()), Nodecache(one(OTHER))
        assert first.status() is None
        await start(first, second)
        status = first.status()
        assert status is not None
        assert second.status() is None
        assert 0 <= status.pop("last_check") < SLOW
        assert status == {
            "state": "in place", "problems": [], "iptables": "nft", "addresses": 2, "rules": 20,
            "repairs": status["repairs"],
        }  # fmt: skip
        assert process.reconciler is not None
        process.reconciler._problem = "no lock"
        metrics.degraded.set(1)
        status = first.status()
        assert status is not None
        assert (status["state"], status["problems"]) == ("degraded", ["no lock"])
        await stop(first, second)
        assert first.status() is None

    live(work)


@isolated
def test_a_reload_changes_nothing_that_both_generations_want(process: lifecycle._Process) -> None:
    async def work() -> None:
        old, new = Nodecache(one(IP, OTHER)), Nodecache(one(IP))
        await start(old)
        reconciler = process.reconciler
        await start(new)
        assert process.reconciler is reconciler
        assert on_host() == (20, placed(IP, OTHER))
        await stop(old, final=False)
        assert process.reconciler is reconciler
        assert on_host() == (10, placed(IP))
        await stop(new)
        assert on_host() == (0, [])

    live(work)


@isolated
def test_what_an_earlier_process_left_goes_once_all_blocks_serve(
    process: lifecycle._Process,
) -> None:
    async def work() -> None:
        await asyncio.to_thread(leave_behind, IP, OTHER)
        first, second = Nodecache(one()), Nodecache(one(THIRD))
        await first.before_listen(context())
        await second.before_listen(context())
        await first.serving(context())
        assert on_host() == (20, placed(IP, OTHER, THIRD))
        assert process.may_sweep
        await second.serving(context())
        assert on_host() == (20, placed(IP, THIRD))
        assert not process.may_sweep
        # From now on the rules of a future process are none of ours to take away.
        await asyncio.to_thread(leave_behind, OTHER)
        third = Nodecache(one())
        await start(third)
        assert on_host() == (30, placed(IP, OTHER, THIRD))
        await stop(first, second, third)
        assert on_host() == (10, placed(OTHER))
        assert process.may_sweep

    live(work)


@isolated
def test_a_sweep_that_fails_is_due_again(
    process: lifecycle._Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = Host.sync

    def fail(host: Host, want: DesiredState, sweep: bool = False) -> Report:
        report = sync(host, want)
        return report._replace(errors=[HostError("iptables", "no")]) if sweep else report

    async def work() -> None:
        await asyncio.to_thread(leave_behind, OTHER)
        first, second = Nodecache(one()), Nodecache(one())
        with monkeypatch.context() as patch:
            patch.setattr(Host, "sync", fail)
            await start(first)
            assert process.may_sweep
            assert on_host() == (20, placed(IP, OTHER))
        await start(second)
        assert on_host() == (10, placed(IP))
        assert not process.may_sweep
        await stop(first, second)

    live(work)


@isolated
def test_a_block_that_keeps_everything_sweeps_nothing(process: lifecycle._Process) -> None:
    async def work() -> None:
        await asyncio.to_thread(leave_behind, OTHER)
        first, second = Nodecache(one(skip_teardown=True)), Nodecache(one(THIRD))
        await start(first, second)
        assert on_host() == (30, placed(IP, OTHER, THIRD))
        await stop(first, second)
        # What the first block wanted stays, and so does all that was there before.
        assert on_host() == (20, placed(IP, OTHER))
        assert (process.reconciler, process.may_sweep) == (None, True)

    live(work)


@pytest.mark.parametrize(
    ("left", "is_served", "final", "expected"),
    [
        (False, True, True, (10, placed(IP))),
        (False, True, False, (0, [])),
        (False, False, True, (0, [])),  # a start that failed takes back what it added itself
        (True, False, True, (10, placed(IP))),
    ],
    ids=["stop", "reload", "failed start", "failed start after another process"],
)
@isolated
def test_skipteardown(
    process: lifecycle._Process,
    left: bool,
    is_served: bool,
    final: bool,
    expected: tuple[int, list[str]],
) -> None:
    async def work() -> None:
        if left:
            await asyncio.to_thread(leave_behind, IP)
        block = Nodecache(one(skip_teardown=True))
        await block.before_listen(context())
        if is_served:
            await block.serving(context())
        await stop(block, final=final)
        assert on_host() == expected
        assert process.starting == set()

    live(work)


@isolated
def test_an_interface_that_cannot_be_made_refuses_the_start(
    process: lifecycle._Process, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def ensure(links: Links, *_: object) -> list[str]:
        raise HostError("interface_add", "no interface today")

    monkeypatch.setattr(Links, "ensure", ensure)

    async def work() -> None:
        block = Nodecache(one())
        with pytest.raises(StartupError) as caught:
            await block.before_listen(context())
        assert str(caught.value) == "no interface today"
        await block.shutdown(context())
        assert process.reconciler is None

    live(work)
    assert [it.message for it in caplog.records if it.levelname == "ERROR"] == []


@isolated
def test_rules_that_fail_do_not_refuse_the_start(
    process: lifecycle._Process, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def reconcile(tables: NftTables, *_: object) -> tuple[int, int]:
        raise HostError("iptables", "no rules today")

    async def work() -> None:
        block = Nodecache(one())
        with monkeypatch.context() as patch:
            patch.setattr(NftTables, "reconcile", reconcile)
            await block.before_listen(context())
            assert caplog.messages == []
            await block.serving(context())
        assert caplog.messages == ["no rules today (retrying)"]
        await block.stopping(context())
        await block.shutdown(context())

    live(work)


@isolated
def test_best_effort_logs_a_failure_before_others_suffer_from_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A start that fails at a plugin without an address has logged why there is none."""
    caplog.set_level("INFO")

    def ensure(_links: Links, *_: object) -> list[str]:
        raise HostError("interface_add", "no link today")

    async def work() -> None:
        block = Nodecache(one(best_effort=True))
        monkeypatch.setattr(Links, "ensure", ensure)
        await block.before_listen(context())
        assert caplog.messages == ["using nft iptables", "no link today (retrying)"]
        await block.shutdown(context())  # without `serving`, as after a failed start
        assert caplog.messages == ["using nft iptables", "no link today (retrying)"]

    live(work)


@isolated
def test_a_host_that_fails_the_checks_refuses_the_start(process: lifecycle._Process) -> None:
    run("ip", "link", "add", "kube-ipvs0", "type", "bridge")
    run("ip", "addr", "add", f"{IP}/32", "dev", "kube-ipvs0")

    async def work() -> None:
        for settings in (one(), one(iptables="off")):
            block = Nodecache(settings)
            with pytest.raises(StartupError, match="is a service address on kube-ipvs0"):
                await block.before_listen(context())
            assert process.starting == set()
            # A stop without a reconciler's wishes is harmless.
            await stop(block)
            assert process.reconciler is None
            await block.stopping(context())

    live(work)


@pytest.mark.parametrize(("mode", "number"), [("nft", 20), ("auto", 20), ("off", 10)])
@isolated
def test_a_second_block_uses_the_tables_of_the_first(
    process: lifecycle._Process, mode: str, number: int
) -> None:
    async def work() -> None:
        first, second = Nodecache(one()), Nodecache(one(OTHER, iptables=mode))
        await start(first)
        await start(second)
        assert on_host() == (number, placed(IP, OTHER))
        await stop(first, second)

    live(work)


@isolated
def test_a_second_block_needs_the_same_kind(process: lifecycle._Process) -> None:
    async def work() -> None:
        first, second = Nodecache(one()), Nodecache(one(OTHER, iptables="legacy"))
        await start(first)
        with pytest.raises(StartupError) as caught:
            await start(second)
        assert str(caught.value) == (
            "iptables legacy contradicts nft, which is in use:"
            " all server blocks need the same kind, and a change needs a restart"
        )
        await stop(first, second)

    live(work)


@isolated
def test_the_first_block_with_rules_chooses_the_tables(process: lifecycle._Process) -> None:
    async def work() -> None:
        off, nft = Nodecache(one(iptables="off")), Nodecache(one(OTHER))
        await start(off)
        assert process.reconciler is not None
        assert process.reconciler.tables is None
        await start(nft)
        assert on_host() == (10, placed(IP, OTHER))
        await stop(off, nft)

    live(work)


@isolated
def test_a_warning_of_the_host_is_logged_once(
    process: lifecycle._Process, caplog: pytest.LogCaptureFixture
) -> None:
    run("ip", "link", "add", "other", "type", "bridge")
    run("ip", "addr", "add", f"{IP}/32", "dev", "other")

    async def work() -> None:
        first, second = Nodecache(one()), Nodecache(one())
        await start(first, second)
        third = Nodecache(one())
        await start(third)
        await stop(first, second, third)

    live(work)
    assert caplog.messages == [f"{IP} is already on other: left there, not added again"]


@isolated
def test_a_repair_is_not_told_twice(
    process: lifecycle._Process, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    async def work() -> None:
        block = Nodecache(one())
        await start(block)
        reconciler = process.reconciler
        assert reconciler is not None
        # No passes of its own: one that is under way in the worker's thread would find the repair,
        # and its report would be lost with the task.
        reconciler._task.cancel()
        await asyncio.wait([reconciler._task])
        await reconciler.host_thread.run(lambda: None)
        run("iptables-nft", "-t", "raw", "-F")
        caplog.clear()
        await block._set_desired(block._settings.want(), sweep=True)
        assert caplog.messages == ["repaired changes made by others: added 6 rules"]
        await stop(block)

    live(work)
