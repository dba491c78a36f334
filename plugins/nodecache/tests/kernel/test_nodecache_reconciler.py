"""The reconciler on a real host: repairs, reloads, crashes and neighbours, in namespaces.

This kernel may lack the dummy driver, so the interface is a bridge made beforehand; the dummy has its
own test (test_nodecache_uml.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from corepy.testing.netns import addresses, isolated, rules, run, saved
from corepy_nodecache import claims, detect, metrics, preflight
from corepy_nodecache.link import Links
from corepy_nodecache.model import MARK, DesiredState, HostError, Mode
from corepy_nodecache.reconciler import Reconciler
from corepy_nodecache.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

KINDS: tuple[Mode, ...] = ("legacy", "nft")
BOTH = Settings(ips=("169.254.20.10", "fd00::10"))
ONE = Settings(ips=("169.254.20.10",))
PREFIXED = ["169.254.20.10/32", "fd00::10/128"]
SLOW = 60.0  # seconds after which a test has failed for good


@contextlib.asynccontextmanager
async def reconciler(kind: Mode) -> AsyncIterator[Reconciler]:
    made = Reconciler()
    made.use(await made.host_thread.run(lambda: detect.choose(kind)))
    try:
        yield made
    finally:
        await made.close()


def make_bridge() -> None:
    run("ip", "link", "add", "nodecache", "type", "bridge")


async def seconds_until(done: Callable[[], bool]) -> float:
    """Wait in small steps; the time is for comparing, not for the clock's sake."""
    start = time.monotonic()
    while not done():
        assert time.monotonic() - start < SLOW
        await asyncio.sleep(0.02)
    return time.monotonic() - start


def count(kind: str) -> int:
    return sum(MARK in line for line in rules(kind))


@pytest.mark.parametrize("kind", KINDS)
@isolated
def test_addresses_and_rules_come_and_go_in_order(kind: Mode) -> None:
    make_bridge()
    before = run("ip", "-o", "addr"), saved(kind)

    async def work() -> None:
        async with reconciler(kind) as it:
            await it.set_desired("owner", DesiredState(BOTH.addresses()), 60)
            assert (addresses("nodecache"), count(kind)) == (PREFIXED, 0)
            await it.set_desired("owner", BOTH.want(), 60)
            assert count(kind) == 20
            assert (metrics.rules.value, metrics.addresses.value) == (20, 2)
            await it.set_desired("owner", DesiredState(BOTH.addresses()), 60)
            assert (addresses("nodecache"), count(kind)) == (PREFIXED, 0)
            await it.leave("owner")
            assert addresses("nodecache") == []

    asyncio.run(work())
    assert "169.254" not in run("ip", "-o", "addr") + saved(kind)
    assert before[0].splitlines()[0] in run("ip", "-o", "addr")


@pytest.mark.parametrize("kind", KINDS)
@isolated
def test_each_repair_is_counted_once(kind: Mode) -> None:
    """A repair that fails at first as well; what it took to get there at the start is none."""
    make_bridge()

    def whole() -> bool:
        return count(kind) == 20 and addresses("nodecache") == PREFIXED

    def repairs() -> int:
        return int(metrics.repairs.value - before)

    async def work() -> None:
        async with reconciler(kind) as it:
            await it.set_desired("owner", BOTH.want(), 60)
            run(f"iptables-{kind}", "-t", "raw", "-F")
            await seconds_until(lambda: whole() and repairs() == 1)
            run("ip", "link", "del", "nodecache")
            await seconds_until(lambda: metrics.degraded.value == 1)
            make_bridge()
            await seconds_until(lambda: whole() and repairs() == 2)
            for _ in range(2):  # passes that begin after all of our own changes: no repairs
                last = it._last_pass
                run("ip", "link", "set", "lo", "down")
                run("ip", "link", "set", "lo", "up")
                await seconds_until(lambda last=last: it._last_pass > last)
            assert (repairs(), metrics.degraded.value) == (2, 0)
            await it.leave("owner")

    before = metrics.repairs.value
    asyncio.run(work())


@pytest.mark.parametrize("kind", KINDS)
@isolated
def test_the_slow_poll_sees_what_nobody_tells(kind: Mode) -> None:
    """A legacy rule exchanged for another of the same size: only looking at the rules shows it."""
    make_bridge()

    async def work() -> None:
        async with reconciler(kind) as it:
            await it.set_desired("owner", ONE.want(), 1)
            script = saved(kind).replace("169.254.20.10", "169.254.20.11").partition("\n*")[0]
            run(f"iptables-{kind}-restore", text=script + "\n")
            await seconds_until(lambda: sum("20.10/32" in line for line in rules(kind)) == 10)
            await it.leave("owner")

    asyncio.run(work())


@isolated
def test_a_held_lock_delays_rules_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "xtables.lock"
    monkeypatch.setenv("XTABLES_LOCKFILE", str(path))
    make_bridge()
    beats, repairs = 0, metrics.repairs.value

    async def heart() -> None:
        nonlocal beats
        while True:
            await asyncio.sleep(0.01)
            beats += 1

    async def work() -> None:
        pulse = asyncio.create_task(heart())
        async with reconciler("legacy") as it:
            with path.open("w") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                failures = metrics.setup_errors.labels("iptables_lock").value
                await it.set_desired("owner", BOTH.want(), 60)
                assert metrics.setup_errors.labels("iptables_lock").value == failures + 1
                assert (addresses("nodecache"), count("legacy")) == (PREFIXED, 0)
                assert metrics.degraded.value == 1
                assert beats > 5  # two seconds of waiting did not stop the event loop
            await seconds_until(lambda: count("legacy") == 20)
            await seconds_until(lambda: metrics.degraded.value == 0)
            assert metrics.repairs.value == repairs
            await it.leave("owner")
        pulse.cancel()
        await asyncio.wait([pulse])

    asyncio.run(work())
    assert sum("another program holds" in line for line in caplog.messages) == 1


NEIGHBOUR = """
import asyncio, sys
from corepy_nodecache import detect
from corepy_nodecache.reconciler import Reconciler
from corepy_nodecache.settings import Settings

async def main():
    kind, *ips = sys.argv[1:]
    reconciler = Reconciler()
    reconciler.use(await reconciler.host_thread.run(lambda: detect.choose(kind)))
    await reconciler.set_desired("owner", Settings(ips=tuple(ips)).want(), 60, sweep=True)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await reconciler.leave("owner")
    await reconciler.close()

asyncio.run(main())
"""


@contextlib.contextmanager
def neighbour(kind: str, *ips: str) -> Iterator[subprocess.Popen[bytes]]:
    """Another process on this node that wants `ips` until its input ends."""
    command = [sys.executable, "-c", NEIGHBOUR, kind, *ips]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield process
        finally:
            process.kill()


def stop(process: subprocess.Popen[bytes]) -> None:
    process.communicate(timeout=SLOW)
    assert process.returncode == 0


@pytest.mark.parametrize("kind", KINDS)
@isolated
def test_the_last_of_two_processes_tears_down(kind: Mode) -> None:
    make_bridge()
    with (
        neighbour(kind, "169.254.20.10", "10.0.0.1") as first,
        neighbour(kind, "169.254.20.10", "fd00::10") as second,
    ):
        assert count(kind) == 30
        stop(first)
        assert (count(kind), addresses("nodecache")) == (20, PREFIXED)
        stop(second)
        assert (count(kind), addresses("nodecache")) == (0, [])


@pytest.mark.parametrize("kind", KINDS)
@isolated
def test_what_a_killed_process_left_is_taken_over(kind: Mode) -> None:
    make_bridge()
    with neighbour(kind, "169.254.20.10", "10.0.0.1") as killed:
        killed.send_signal(signal.SIGKILL)
    assert count(kind) == 20
    with neighbour(kind, "169.254.20.10", "fd00::10") as successor:
        assert (count(kind), addresses("nodecache")) == (20, PREFIXED)
        stop(successor)
    assert (count(kind), addresses("nodecache")) == (0, [])


@isolated
def test_what_was_there_before_stays() -> None:
    make_bridge()
    run("ip", "addr", "add", "169.254.20.10/32", "dev", "nodecache")
    run("ip", "addr", "add", "10.9.9.9/24", "dev", "nodecache")
    run("ip", "link", "set", "nodecache", "up")
    before = run("ip", "-4", "addr", "show", "dev", "nodecache")
    with neighbour("nft", "169.254.20.10", "10.0.0.1") as process:
        assert len(addresses("nodecache")) == 3
        stop(process)
    assert run("ip", "-4", "addr", "show", "dev", "nodecache") == before


@isolated
def test_a_link_with_our_mark_goes_when_it_is_empty() -> None:
    make_bridge()
    run("ip", "link", "set", "nodecache", "alias", MARK)
    links = Links()
    links.ensure(BOTH.addresses())
    assert links.remove(ONE.addresses()) == ["removed 169.254.20.10 from nodecache"]
    run("ip", "addr", "add", "10.9.9.9/24", "dev", "nodecache")
    assert links.remove_all() == ["removed fd00::10 from nodecache"]
    run("ip", "addr", "del", "10.9.9.9/24", "dev", "nodecache")
    assert links.remove_all() == ["removed interface nodecache"]


@isolated
def test_no_dummy_driver_is_said_and_nothing_is_left() -> None:
    try:
        run("ip", "link", "add", "probe", "type", "dummy")
    except OSError:
        with pytest.raises(HostError, match="no dummy driver: load the module"):
            Links().ensure(ONE.addresses())
        assert "nodecache" not in run("ip", "link")
    else:
        assert Links().ensure(ONE.addresses())[0] == "added interface nodecache"


def check(settings: Settings, kind: Mode = "nft") -> list[str]:
    return preflight.check(settings, detect.choose(kind))


@isolated
def test_a_service_address_of_ipvs_is_refused() -> None:
    run("ip", "link", "add", "kube-ipvs0", "type", "bridge")
    run("ip", "addr", "add", "169.254.20.10/32", "dev", "kube-ipvs0")
    with pytest.raises(HostError, match=r"169.254.20.10 is a service address on kube-ipvs0"):
        check(ONE)
    assert check(ONE._replace(device=False)) == []


@isolated
def test_an_address_on_another_interface_is_named_and_left_there() -> None:
    make_bridge()
    run("ip", "link", "add", "other", "type", "bridge")
    run("ip", "addr", "add", "169.254.20.10/32", "dev", "other")
    assert check(ONE) == ["169.254.20.10 is already on other: left there, not added again"]
    assert Links().ensure(ONE.addresses()) == ["set nodecache up"]
    assert (addresses("nodecache"), addresses("other")) == ([], ["169.254.20.10/32"])


@isolated
def test_a_foreign_interface_is_warned_of() -> None:
    make_bridge()
    run("ip", "addr", "add", "10.9.9.9/24", "dev", "nodecache")
    (warning,) = check(ONE)
    assert warning == (
        "nodecache is a bridge interface with other addresses (10.9.9.9): used as it is, never deleted"
    )


PREFLIGHT = """
import sys
from corepy_nodecache import detect, preflight
from corepy_nodecache.model import HostError
from corepy_nodecache.settings import Settings
try:
    preflight.check(Settings(), detect.choose(sys.argv[1]))
except HostError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("kind", "dropped", "names"),
    [
        ("nft", "net_admin", "CAP_NET_ADMIN"),
        ("legacy", "net_admin,-net_raw", "CAP_NET_ADMIN and CAP_NET_RAW"),
        ("legacy", "net_raw", "CAP_NET_RAW"),
    ],
)
@isolated
def test_missing_capabilities_are_named(kind: str, dropped: str, names: str) -> None:
    said = run(
        *("setpriv", f"--bounding-set=-{dropped}", f"--inh-caps=-{dropped}"),
        *(sys.executable, "-c", PREFLIGHT, kind),
    )
    assert said.startswith(f"missing {names}: run as root")


@isolated
def test_missing_libraries_name_the_package(tmp_path: Path) -> None:
    (tmp_path / "iptc.py").write_text("raise OSError('libip4tc.so: cannot open')\n")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{PREFLIGHT}"
    said = run(sys.executable, "-c", code, "legacy")
    assert "install Debian's package iptables (libip4tc2, libip6tc2, libxtables12)" in said


@isolated
def test_missing_programs_name_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("corepy_nodecache.nft.program", lambda family, task: None)
    with pytest.raises(HostError, match="install the package iptables"):
        check(ONE)


@isolated
def test_claims_are_seen_and_end_with_the_process() -> None:
    mine, others = claims.Claims(), claims.Claims()
    mine.hold(BOTH.want())
    assert others.others() == BOTH.want()
    assert mine.others() == DesiredState()
    mine.hold(ONE.want())
    assert others.others() == ONE.want()
    mine.close()
    assert others.others() == DesiredState()


@isolated
def test_one_process_works_on_the_node_at_a_time() -> None:
    with claims.node_lock() as held:
        assert held
        with claims.node_lock(wait=0.05) as second:
            assert not second
    with claims.node_lock() as again:
        assert again
