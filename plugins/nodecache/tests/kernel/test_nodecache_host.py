"""One pass over the host: its order, its report, and what goes on when a part of it fails."""

from __future__ import annotations

import contextlib
import errno
from typing import TYPE_CHECKING

import pytest

from corepy.testing.netns import addresses, isolated, rules, run
from corepy_nodecache import host as module
from corepy_nodecache.claims import Claims
from corepy_nodecache.host import Host, Report
from corepy_nodecache.link import Links
from corepy_nodecache.model import MARK, DesiredState, HostError
from corepy_nodecache.nft import NftTables
from corepy_nodecache.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

IP, OTHER = "169.254.20.10", "169.254.20.11"
ONE, TWO = Settings((IP,)).want(), Settings((IP, OTHER)).want()
NO = HostError("iptables", "no")


@pytest.fixture
def processes() -> Iterator[contextlib.ExitStack]:
    """Closes what the processes of a test hold."""
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture
def made(processes: contextlib.ExitStack) -> Callable[..., Host]:
    """Make the host of one process; the first needs the bridge."""

    def make(tables: bool = True, bridge: bool = True) -> Host:
        if bridge:
            run("ip", "link", "add", "nodecache", "type", "bridge")
            run("ip", "link", "set", "nodecache", "up")
        found = Host()
        processes.callback(found.close)
        found.tables = NftTables() if tables else None
        return found

    return make


def on_host() -> tuple[int, list[str]]:
    return sum(MARK in line for line in rules("nft")), addresses("nodecache")


def placed(*ips: str) -> list[str]:
    return sorted(f"{ip}/32" for ip in ips)


def refuse(error: Exception = NO) -> Callable[..., tuple[int, int]]:
    def work(*_: object) -> tuple[int, int]:
        raise error

    return work


@isolated
def test_a_pass_reports_what_it_did(made: Callable[..., Host]) -> None:
    host = made()
    added = [f"added {IP} to nodecache", "added 10 rules"]
    assert host.sync(ONE) == Report(added, True, [], 10, 1)
    assert host.sync(ONE) == Report.nothing(ONE) == Report([], False, [], 10, 1, False)
    run("iptables-nft", "-t", "raw", "-F")
    assert host.sync(ONE) == Report(["added 6 rules"], True, [], 10, 1)
    run("ip", "addr", "flush", "dev", "nodecache")
    assert host.sync(ONE) == Report([f"added {IP} to nodecache"], True, [], 10, 1)
    gone = ["removed 10 rules", f"removed {IP} from nodecache"]
    assert host.sync(DesiredState()) == Report(gone, False, [], 0, 0)


@isolated
def test_without_tables_rules_are_left_alone(made: Callable[..., Host]) -> None:
    host = made(tables=False)
    NftTables().reconcile(ONE.rules(), lambda _: True)
    assert host.sync(ONE) == Report([f"added {IP} to nodecache"], True, [], 0, 1)
    assert host.sync(DesiredState(), sweep=True) == Report(
        [f"removed {IP} from nodecache"], False, [], 0, 0
    )
    assert on_host() == (10, [])


@isolated
def test_rules_that_fail_keep_no_addresses_away(
    made: Callable[..., Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    host = made()
    monkeypatch.setattr(host.tables, "reconcile", refuse())
    assert host.sync(ONE) == Report([f"added {IP} to nodecache"], True, [NO], 0, 1)
    NftTables().reconcile(set(list(ONE.rules())[:4]), lambda _: True)
    assert host.sync(ONE) == Report([], False, [NO], 4, 1)
    # The address of an earlier wish goes all the same.
    assert host.sync(DesiredState()) == Report([f"removed {IP} from nodecache"], False, [NO], 0, 0)


@isolated
def test_addresses_that_fail_keep_no_rules_away(
    made: Callable[..., Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    host = made()
    monkeypatch.setattr(Links, "ensure", refuse())
    assert host.sync(ONE) == Report(["added 10 rules"], True, [NO], 10, 0)
    monkeypatch.setattr(Links, "read", refuse())
    assert host.sync(ONE) == Report([], False, [NO], 0, 0)


@isolated
def test_a_process_without_descriptors_reports_it(
    made: Callable[..., Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    host = made()
    monkeypatch.setattr(Claims, "hold", refuse(OSError(errno.EMFILE, "Too many open files")))
    report = host.sync(ONE)
    assert (report.errors[0].kind, str(report.errors[0])) == (
        "interface_check",
        "[Errno 24] Too many open files",
    )
    assert report._replace(errors=[]) == Report([], False, [], 0, 0)


@isolated
def test_claims_last_as_long_as_something_may_be_there(
    made: Callable[..., Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    host, view = made(), Claims()
    host.sync(TWO)
    assert view.others() == TWO
    with monkeypatch.context() as patch:
        patch.setattr(host.tables, "reconcile", refuse())
        host.sync(ONE)
    # Its rules are still there: another process must not take the address for unused.
    assert view.others() == TWO
    assert host.sync(ONE).done == ["removed 10 rules"]
    assert on_host() == (10, placed(IP))
    assert view.others() == ONE
    host.close()
    assert view.others() == DesiredState()
    assert on_host() == (10, placed(IP))


@isolated
def test_what_another_process_claims_stays(made: Callable[..., Host]) -> None:
    host, neighbour = made(), Claims()
    host.sync(TWO)
    neighbour.hold(ONE)
    assert host.sync(DesiredState(), sweep=True).done == [
        "removed 10 rules",
        f"removed {OTHER} from nodecache",
    ]
    assert on_host() == (10, placed(IP))
    neighbour.close()
    assert host.sync(DesiredState()).done == []  # it is no longer ours
    assert host.sync(DesiredState(), sweep=True).done == [
        "removed 10 rules",
        f"removed {IP} from nodecache",
    ]


@isolated
def test_a_sweep_takes_what_an_earlier_process_left(
    made: Callable[..., Host], processes: contextlib.ExitStack
) -> None:
    made().sync(TWO)
    processes.close()  # the claims of a killed process end
    successor = made(bridge=False)
    assert successor.sync(ONE).done == []
    assert on_host() == (20, placed(IP, OTHER))
    assert successor.sync(ONE, sweep=True) == Report(
        ["removed 10 rules", f"removed {OTHER} from nodecache"], False, [], 10, 1
    )
    assert on_host() == (10, placed(IP))


@isolated
def test_a_pass_without_the_lock_of_the_node_goes_on(
    made: Callable[..., Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    from corepy_nodecache import claims

    host = made()
    real = claims.node_lock
    monkeypatch.setattr(module, "node_lock", lambda: real(wait=0))
    with real() as held:
        assert held
        assert host.sync(ONE).errors == []
    assert on_host() == (10, placed(IP))
    # The pass has given it back, and the one before as well.
    with real(wait=0) as held:
        assert held


@isolated
def test_a_pass_holds_the_lock_of_the_node(
    made: Callable[..., Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    from corepy_nodecache import claims

    host = made()
    found: list[bool] = []

    def reconcile(*_: object, **__: object) -> tuple[int, int]:
        with claims.node_lock(wait=0) as held:
            found.append(held)
        return 0, 0

    monkeypatch.setattr(host.tables, "reconcile", reconcile)
    host.sync(ONE)
    assert found == [False]
