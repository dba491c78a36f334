"""nodecache's locks and claims, with a clock in the test's hand: who waits how long, and who is seen."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from typing import TYPE_CHECKING

import pytest

from corepy.testing.netns import isolated, rules
from corepy.testing.open_descriptors import open_files
from corepy_nodecache import claims, legacy, lock
from corepy_nodecache.claims import Claims
from corepy_nodecache.legacy import LegacyTables
from corepy_nodecache.model import MARK, Address, DesiredState, HostError, UntrackedEndpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

V4 = DesiredState(endpoints=frozenset({UntrackedEndpoint("dns", "169.254.20.10", 53)})).rules()
BOTH = V4 | DesiredState(endpoints=frozenset({UntrackedEndpoint("dns", "fd00::10", 53)})).rules()


class Clock:
    """A clock whose time passes only in `sleep`."""

    def __init__(self) -> None:
        self.now = 0.0
        self.sleeps: list[float] = []
        self.on_sleep: Callable[[], None] = lambda: None

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds
        self.on_sleep()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    for module in (claims, legacy, lock):
        monkeypatch.setattr(module, "time", made)
    return made


@pytest.fixture
def held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Hold the lock of legacy iptables, as another program does; gives what releases it."""
    path = tmp_path / "xtables.lock"
    monkeypatch.setenv("XTABLES_LOCKFILE", str(path))
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield lambda: fcntl.flock(file, fcntl.LOCK_UN)


@pytest.mark.parametrize(("wait", "tries"), [(0, 0), (0.05, 1), (0.25, 5)])
def test_a_held_lock_is_waited_for_as_long_as_asked(
    clock: Clock, held: Callable[[], None], wait: float, tries: int, tmp_path: Path
) -> None:
    before = open_files()
    with pytest.raises(HostError) as caught, lock.xtables_lock(wait):
        raise AssertionError
    assert caught.value.kind == "iptables_lock"
    assert str(caught.value) == (
        f"another program holds {tmp_path}/xtables.lock, so rules cannot be changed"
    )
    assert clock.sleeps == [0.05] * tries
    assert open_files() <= before


def test_a_lock_that_becomes_free_is_taken(clock: Clock, held: Callable[[], None]) -> None:
    clock.on_sleep = lambda: held() if len(clock.sleeps) == 3 else None
    with lock.xtables_lock(), pytest.raises(HostError), lock.xtables_lock(0):
        raise AssertionError
    assert clock.sleeps == [0.05] * 3
    with lock.xtables_lock(0):
        pass


@pytest.mark.usefixtures("clock")
def test_a_lock_file_is_made_for_root_alone_and_not_inherited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "new.lock"
    monkeypatch.setenv("XTABLES_LOCKFILE", str(path))
    with lock.xtables_lock():
        assert path.stat().st_mode & 0o777 == 0o600
        (number,) = (
            int(it)
            for it in os.listdir("/proc/self/fd")
            if os.path.realpath(f"/proc/self/fd/{it}") == str(path)
        )
        assert not os.get_inheritable(number)


@pytest.mark.usefixtures("clock")
def test_a_lock_file_that_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "nowhere" / "lock"
    monkeypatch.setenv("XTABLES_LOCKFILE", str(path))
    with pytest.raises(HostError) as caught, lock.xtables_lock():
        raise AssertionError
    assert caught.value.kind == "iptables_lock"
    assert str(caught.value) == f"cannot open {path}: No such file or directory"


@isolated
def test_blocks_that_ask_one_after_the_other_wait_once(
    clock: Clock, held: Callable[[], None]
) -> None:
    tables = LegacyTables(lock_wait=0.1)

    def waits(passes: float = 0.0) -> int:
        clock.sleeps.clear()
        clock.now += passes
        with pytest.raises(HostError):
            tables.reconcile(BOTH, lambda _: True)
        return len(clock.sleeps)

    assert waits() == 2  # and not once more for IPv6
    assert waits() == 0
    assert waits(0.25) == 0
    assert waits(0.31) == 2
    assert rules("legacy") == []
    held()
    assert tables.reconcile(BOTH, lambda _: True) == (20, 0)
    assert clock.sleeps == [0.05, 0.05]


@isolated
def test_a_failure_under_the_lock_is_no_wait_in_vain(
    clock: Clock, held: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rules that the kernel refuses: the next try waits for the lock as usual."""

    def fail(*_: object) -> None:
        raise HostError("iptables", "no")

    tables = LegacyTables(lock_wait=0.1)
    held()
    with monkeypatch.context() as patch:
        patch.setattr(legacy, "_apply", fail)
        with pytest.raises(HostError, match="no"):
            tables.reconcile(V4, lambda _: True)
    again = os.open(lock.lock_path(), os.O_RDONLY)
    fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
    clock.on_sleep = lambda: os.close(again) if len(clock.sleeps) == 2 else None
    assert tables.reconcile(V4, lambda _: True) == (10, 0)


@isolated
def test_rules_are_read_again_under_the_lock(clock: Clock, held: Callable[[], None]) -> None:
    """What the holder of the lock did meanwhile counts."""
    other = LegacyTables()

    def other_writes() -> None:
        held()
        assert other.reconcile(V4, lambda _: True) == (10, 0)
        clock.on_sleep = lambda: None

    clock.on_sleep = other_writes
    assert LegacyTables().reconcile(V4, lambda _: True) == (0, 0)
    assert sum(MARK in line for line in rules("legacy")) == 10


@pytest.mark.usefixtures("held")
@isolated
def test_reading_and_a_host_that_is_as_wanted_need_no_lock(clock: Clock) -> None:
    tables = LegacyTables()
    tables.check([4])
    assert tables.read() == []
    assert tables.reconcile(set(), lambda _: True) == (0, 0)
    assert clock.sleeps == []


@pytest.mark.parametrize(("wait", "tries"), [(0, 0), (0.01, 1), (0.05, 5)])
@isolated
def test_the_nodes_lock_is_waited_for_as_long_as_asked(
    clock: Clock, wait: float, tries: int
) -> None:
    before = open_files()
    with claims.node_lock() as first, claims.node_lock(wait) as second:
        assert (first, second) == (True, False)
    assert clock.sleeps == pytest.approx([0.01] * tries)
    assert open_files() <= before


@isolated
def test_the_nodes_lock_is_taken_when_it_becomes_free(clock: Clock) -> None:
    with contextlib.ExitStack() as first:
        first.enter_context(claims.node_lock())
        clock.on_sleep = lambda: first.close() if len(clock.sleeps) == 250 else None
        with claims.node_lock() as second:
            assert second
    assert len(clock.sleeps) == 250


@isolated
def test_claims_of_other_versions_are_no_claims_of_ours() -> None:
    mine = Claims()
    texts = (
        "corepy-nodecache/tok/address nodecache 10.0.0.1",
        "corepy-nodecache/tok/dns 53 10.0.0.2",
        "corepy-nodecache/tok/health 8080 fd00::1",
        "corepy-nodecache/tok/dns port 10.0.0.3",
        "corepy-nodecache/tok/node-cache dns 53 10.0.0.2",
        "corepy-nodecache/tok/node-cache dns port 10.0.0.2",
        "corepy-nodecache/tok/other dns 53 10.0.0.2",
        "corepy-nodecache/tok/tunnel 53 10.0.0.3",
        "corepy-nodecache/tok/address nodecache 10.0.0.4 more",
        "corepy-nodecache-lock",
        "another/tok/dns 53 10.0.0.5",
    )
    with contextlib.ExitStack() as stack:
        for text in texts:
            claim = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            claim.bind(f"\0{text}")
        assert mine.others() == DesiredState(
            frozenset({Address("nodecache", "10.0.0.1")}),
            frozenset(
                {
                    UntrackedEndpoint("dns", "10.0.0.2", 53),
                    UntrackedEndpoint("health", "fd00::1", 8080),
                    UntrackedEndpoint("dns", "10.0.0.2", 53, "node-cache"),
                }
            ),
        )
    assert mine.others() == DesiredState()


@isolated
def test_claims_are_exchanged_one_by_one() -> None:
    mine, view, before = Claims(), Claims(), open_files()
    old = DesiredState(frozenset({Address("a", "10.0.0.1"), Address("a", "10.0.0.2")}))
    new = DesiredState(
        frozenset({Address("a", "10.0.0.2")}),
        frozenset({UntrackedEndpoint("dns", "10.0.0.2", 53, "node-cache")}),
    )
    mine.hold(old)
    kept = mine._held["address a 10.0.0.2"]
    mine.hold(new)
    assert mine._held["address a 10.0.0.2"] is kept
    assert view.others() == new
    assert len(open_files() - before) == 2
    mine.close()
    assert open_files() <= before
