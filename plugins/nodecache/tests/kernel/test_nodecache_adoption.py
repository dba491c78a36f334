"""nodecache with `adopt_node_cache`: the rules and the interface that the program node-cache has left.

Its rules are made by the programs of iptables with the arguments that it passes to them, and
compared as `iptables-save` prints them.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from corepy.testing.netns import addresses, host, isolated, placed_rules, run
from corepy_nodecache import cli, link
from corepy_nodecache.claims import Claims
from corepy_nodecache.detect import tables_of
from corepy_nodecache.host import Host, Report
from corepy_nodecache.link import Links
from corepy_nodecache.model import MARK, Address, DesiredState, HostError
from corepy_nodecache.nft import NftTables
from corepy_nodecache.settings import Settings, union

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from corepy_nodecache.model import Mode

KINDS: tuple[Mode, ...] = ("legacy", "nft")
V4, V6, OLD = "169.254.20.10", "fd00::10", "10.96.0.10"
SKIP, ALLOW = "NodeLocal DNS Cache: skip conntrack", "NodeLocal DNS Cache: allow DNS traffic"
DEVICE = "nodelocaldns"


def settings(*ips: str) -> Settings:
    """The settings that the command node-cache makes from its flags."""
    health = tuple((ip, 8080) for ip in ips)
    return Settings(ips, health=health, interface=DEVICE, adopt_node_cache=True)


def node_cache(kind: Mode, change: str, ip: str, *, comments: bool = True) -> None:
    """Make one change with each rule of an address, as cmd/node-cache/app/cache_app.go does."""
    for table, chain, protocol, address, port, target in (
        ("raw", "PREROUTING", "tcp", "-d", "--dport 53", "NOTRACK"),
        ("raw", "PREROUTING", "udp", "-d", "--dport 53", "NOTRACK"),
        ("filter", "INPUT", "tcp", "-d", "--dport 53", "ACCEPT"),
        ("filter", "INPUT", "udp", "-d", "--dport 53", "ACCEPT"),
        ("raw", "OUTPUT", "tcp", "-s", "--sport 53", "NOTRACK"),
        ("raw", "OUTPUT", "udp", "-s", "--sport 53", "NOTRACK"),
        ("filter", "OUTPUT", "tcp", "-s", "--sport 53", "ACCEPT"),
        ("filter", "OUTPUT", "udp", "-s", "--sport 53", "ACCEPT"),
        ("raw", "OUTPUT", "tcp", "-d", "--dport 53", "NOTRACK"),
        ("raw", "OUTPUT", "udp", "-d", "--dport 53", "NOTRACK"),
        ("raw", "OUTPUT", "tcp", "-d", "--dport 8080", "NOTRACK"),
        ("raw", "OUTPUT", "tcp", "-s", "--sport 8080", "NOTRACK"),
    ):
        comment = ["-m", "comment", "--comment", SKIP if target == "NOTRACK" else ALLOW]
        run(
            f"{'ip6tables' if ':' in ip else 'iptables'}-{kind}", change, chain, "-t", table,
            "-p", protocol, address, ip, *port.split(), "-j", target, *(comment if comments else ()),
        )  # fmt: skip


def table_of_node_cache(kind: Mode, *ips: str) -> list[str]:
    """The rules of node-cache as `iptables-save` prints them; they are removed again."""
    for ip in ips:
        node_cache(kind, "-I", ip)
    printed = sorted(placed_rules(kind))
    for ip in ips:
        node_cache(kind, "-D", ip)
    return printed


def bystanders(kind: Mode) -> None:
    """Rules of others that resemble ours: a network, a range, an interface, another comment."""
    for words in (
        f"-A INPUT -d {V4}/31 -p udp --dport 53 -j ACCEPT",
        f"-A INPUT -d {V4} -p udp --dport 53:54 -j ACCEPT",
        f"-A INPUT -i lo -d {V4} -p udp --dport 53 -j ACCEPT",
        f"-A INPUT ! -d {V4} -p udp --dport 53 -j ACCEPT",
        f"-A INPUT -d {V4} -p udp --dport 53 -j DROP",
        f"-A INPUT -d {V4} -p udp --dport 53 -m comment --comment other -j ACCEPT",
        f"-A INPUT -d {V4} -p tcp --dport 53 --syn -j ACCEPT",
        f"-A INPUT -d {V4} -p udp --dport 5353 -j ACCEPT",
        f"-t raw -A OUTPUT -d {V4} -j NOTRACK",
    ):
        run(f"iptables-{kind}", *words.split())
    for words in (
        f"-A INPUT -d {V6}/64 -p udp --dport 53 -j ACCEPT",
        f"-A OUTPUT -o lo -s {V6} -p udp --sport 53 -j ACCEPT",
        f"-t raw -A OUTPUT -d {V6} -p tcp -m tcp --dport 53 --tcp-flags RST RST -j NOTRACK",
    ):
        run(f"ip6tables-{kind}", *words.split())


@pytest.fixture
def processes() -> Iterator[contextlib.ExitStack]:
    """Closes what the processes of a test hold."""
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture
def made(processes: contextlib.ExitStack) -> Callable[[Mode], Host]:
    """Make the host of one process."""

    def make(kind: Mode) -> Host:
        found = Host()
        processes.callback(found.close)
        found.tables = tables_of(kind)
        return found

    return make


def bridge(*ips: str) -> None:
    """Make an interface as node-cache does, but a bridge: this kernel may lack the dummy driver."""
    run("ip", "link", "add", DEVICE, "type", "bridge")
    run("ip", "link", "set", DEVICE, "addrgenmode", "none")
    for ip in ips:
        run("ip", "addr", "add", ip, "dev", DEVICE, *(["nodad"] if ":" in ip else []))
    run("ip", "link", "set", DEVICE, "up")


@pytest.mark.parametrize("kind", KINDS)
@isolated
def test_the_rules_are_node_caches(kind: Mode, made: Callable[[Mode], Host]) -> None:
    bridge()
    table = table_of_node_cache(kind, V4, V6)
    assert len(table) == 24
    process = made(kind)
    assert process.sync(settings(V4, V6).want()).errors == []
    assert sorted(placed_rules(kind)) == table
    # It finds each of them, and removes them.
    for change in ("-C", "-D"):
        node_cache(kind, change, V4)
        node_cache(kind, change, V6)
    assert placed_rules(kind) == []


@pytest.mark.parametrize("kind", KINDS)
@isolated
def test_leftovers_become_ours(kind: Mode, made: Callable[[Mode], Host]) -> None:
    """With and without comments, several times, and those of an earlier corepy."""
    bridge()
    table = table_of_node_cache(kind, V4, V6)
    bystanders(kind)
    others = sorted(placed_rules(kind))
    for ip in (V4, V6):
        node_cache(kind, "-I", ip, comments=False)
        node_cache(kind, "-I", ip)
        node_cache(kind, "-A", ip)
        node_cache(kind, "-A", ip, comments=False)
    before = Settings((V4, V6), health=((V4, 8080),)).want()
    tables_of(kind).reconcile(before.rules(), lambda _: False)
    assert len(placed_rules(kind)) == len(others) + 8 * 12 + 22
    process = made(kind)
    report = process.sync(settings(V4, V6).want())
    removed = 6 * 12 + 22
    assert (report.done[2:], report.errors) == ([f"removed {removed} rules"], [])
    assert sorted(placed_rules(kind)) == sorted([*others, *table])
    assert process.sync(settings(V4, V6).want()).done == []
    # Copies that come later are removed at the latest when the process stops.
    node_cache(kind, "-I", V4)
    node_cache(kind, "-I", V4, comments=False)
    assert process.sync(DesiredState()).errors == []
    assert sorted(placed_rules(kind)) == others


@pytest.mark.parametrize("kind", KINDS)
@isolated
def test_rules_without_comments_are_replaced(kind: Mode, made: Callable[[Mode], Host]) -> None:
    bridge()
    table = table_of_node_cache(kind, V4)
    node_cache(kind, "-A", V4, comments=False)
    process = made(kind)
    done = ["added 12 rules", "removed 12 rules"]
    assert process.sync(settings(V4).want()).done[1:] == done
    assert sorted(placed_rules(kind)) == table


@pytest.mark.parametrize("kind", KINDS)
@isolated
def test_without_the_option_rules_of_node_cache_stay(
    kind: Mode, made: Callable[[Mode], Host]
) -> None:
    """A node-cache that runs on the same addresses would add them again."""
    bridge()
    node_cache(kind, "-I", V4)
    node_cache(kind, "-I", V4, comments=False)
    theirs = sorted(placed_rules(kind))
    process = made(kind)
    assert process.sync(Settings((V4,), device=False).want(), sweep=True).done == ["added 10 rules"]
    assert sum(MARK in rule for rule in placed_rules(kind)) == 10
    assert process.sync(DesiredState()).done == ["removed 10 rules"]
    assert sorted(placed_rules(kind)) == theirs


@isolated
def test_an_earlier_corepy_keeps_its_rules_while_it_runs(made: Callable[[Mode], Host]) -> None:
    """Otherwise each of the two would remove the rules of the other, again and again."""
    bridge()
    table = table_of_node_cache("nft", V4)
    process, neighbour = made("nft"), Claims()
    earlier = Settings((V4,), health=((V4, 8080),), interface=DEVICE).want()
    neighbour.hold(earlier)
    tables_of("nft").reconcile(earlier.rules(), lambda _: False)
    assert process.sync(settings(V4).want(), sweep=True).done[1:] == ["added 12 rules"]
    assert len(placed_rules("nft")) == 24
    neighbour.close()
    assert process.sync(settings(V4).want()).done == ["removed 12 rules"]
    assert sorted(placed_rules("nft")) == table


@pytest.mark.parametrize("kind", KINDS)
@isolated
def test_a_corepy_without_the_option_shares_the_rules(
    kind: Mode, made: Callable[[Mode], Host]
) -> None:
    """Rules of both would be doubled; those of node-cache are kept, and replaced at the end."""
    bridge()
    process, own = made(kind), made(kind)
    without = Settings((V4,), interface=DEVICE).want()
    assert own.sync(without).done[1:] == ["added 10 rules"]
    assert process.sync(settings(V4).want()).done == ["added 12 rules"]
    assert own.sync(without).done == ["removed 10 rules"]
    table = sorted(placed_rules(kind))
    assert len(table) == 12
    assert own.sync(without) == Report.nothing(without)
    assert process.sync(DesiredState()).done == ["removed 2 rules"]
    assert len(set(placed_rules(kind)) & set(table)) == len(placed_rules(kind)) == 10
    assert own.sync(without).done == ["added 10 rules", "removed 10 rules"]
    assert set(placed_rules(kind)).isdisjoint(table)
    # A node-cache that begins later is no process of corepy: its rules are its own.
    node_cache(kind, "-I", V4)
    assert own.sync(without).done == []
    assert own.sync(DesiredState()).done == ["removed 10 rules", f"removed {V4} from {DEVICE}"]
    assert sorted(placed_rules(kind)) == table


@isolated
def test_a_corepy_that_stops_removes_shared_rules(made: Callable[[Mode], Host]) -> None:
    """Also at once, before it has replaced them."""
    bridge()
    process, own = made("nft"), made("nft")
    without = Settings((V4,), interface=DEVICE).want()
    process.sync(settings(V4).want())
    assert own.sync(without).done == []
    process.sync(DesiredState())
    assert own.sync(DesiredState()).done == ["removed 10 rules", f"removed {V4} from {DEVICE}"]
    assert placed_rules("nft") == []


@isolated
def test_a_claim_without_rules_replaces_none(made: Callable[[Mode], Host]) -> None:
    """A process without NET_ADMIN claims what it cannot write."""
    bridge()
    own, neighbour = made("nft"), Claims()
    neighbour.hold(settings(V4).want())
    assert own.sync(Settings((V4,), interface=DEVICE).want()).done[1:] == ["added 10 rules"]
    neighbour.close()


@isolated
def test_two_processes_share_the_rules_of_node_cache(made: Callable[[Mode], Host]) -> None:
    bridge()
    first, second = made("nft"), made("nft")
    first.sync(settings(V4, OLD).want())
    assert second.sync(settings(V4).want(), sweep=True).done == []
    assert first.sync(DesiredState()).done == ["removed 12 rules", f"removed {OLD} from {DEVICE}"]
    assert sorted(placed_rules("nft")) == table_of_node_cache_in_place(V4)
    assert second.sync(DesiredState()).done == ["removed 12 rules", f"removed {V4} from {DEVICE}"]
    assert placed_rules("nft") == []


def table_of_node_cache_in_place(ip: str) -> list[str]:
    """Check that each rule is there once, as node-cache checks it, and return the table."""
    node_cache("nft", "-C", ip)
    return sorted(placed_rules("nft"))


@pytest.mark.parametrize("adopts", [False, True])
@isolated
def test_a_sweep_removes_rules_for_addresses_of_ours(
    made: Callable[[Mode], Host], processes: contextlib.ExitStack, adopts: bool
) -> None:
    """For an address that a killed process has left, nobody answers; others may be in use."""
    bridge()
    made("nft").sync(settings(V4, OLD).want())
    node_cache("nft", "-I", V6)
    processes.close()
    done = made("nft").sync(settings(V4)._replace(adopt_node_cache=adopts).want(), sweep=True).done
    assert f"removed {OLD} from {DEVICE}" in done
    ips = {ip for ip in (V4, V6, OLD) if any(ip in rule for rule in placed_rules("nft"))}
    assert ips == {V4, V6}
    node_cache("nft", "-C", V6)


@pytest.mark.parametrize("adopts", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@isolated
def test_a_sweep_removes_leftovers_from_the_other_kind_of_iptables(
    kind: Mode, adopts: bool, made: Callable[[Mode], Host]
) -> None:
    """An earlier image may have used it; its rules have an effect all the same."""
    bridge()
    other: Mode = "nft" if kind == "legacy" else "legacy"
    bystanders(other)
    node_cache(other, "-I", V6)
    node_cache(other, "-I", V4, comments=False)
    node_cache(other, "-I", V4)
    theirs = sorted(placed_rules(other))
    tables_of(other).reconcile(Settings((V4, OLD)).want().rules(), lambda _: False)
    process = made(kind)
    process.other_tables = tables_of(other)
    want = settings(V4)._replace(adopt_node_cache=adopts).want()
    count = 20 + (24 if adopts else 0)
    assert process.sync(want, sweep=True).done[1:] == [
        "added 12 rules", f"removed {count} rules from {other} iptables"
    ]  # fmt: skip
    assert sum(V4 in rule for rule in placed_rules(kind)) == 12
    assert len(placed_rules(other)) == len(theirs) - (24 if adopts else 0)
    node_cache(other, "-C", V6)


@isolated
def test_a_sweep_without_the_other_kind_of_iptables(made: Callable[[Mode], Host]) -> None:
    """A failure there is none of this process, except for a lock, whose holder may finish."""
    bridge()

    class Broken(NftTables):
        name = "broken"
        kind = "iptables"

        def reconcile(self, *_: object, **__: object) -> tuple[int, int]:
            raise HostError(self.kind, "no such tables")

    process, broken = made("nft"), Broken()
    process.other_tables = broken
    assert process.sync(settings(V4).want(), sweep=True).errors == []
    broken.kind = "iptables_lock"
    assert process.sync(settings(V4).want()).errors == []
    report = process.sync(settings(V4).want(), sweep=True)
    assert [str(error) for error in report.errors] == ["no such tables"]
    assert report.rules == 12


# -- the interface


@pytest.fixture
def bridges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let bridges be what node-cache makes."""
    monkeypatch.setattr(link, "ADOPTED_KIND", "bridge")


def shown() -> str:
    return run("ip", "addr", "show", "dev", DEVICE, check=False)


@pytest.mark.usefixtures("bridges")
@isolated
def test_the_interface_of_node_cache_becomes_ours(made: Callable[[Mode], Host]) -> None:
    bridge(V4, V6, OLD)
    process, want = made("nft"), settings(V4, V6).want()
    assert process.sync(DesiredState(want.addresses)).done == []  # before it serves
    assert not Links().read().links[DEVICE].is_ours
    assert process.sync(want).done == [f"took over interface {DEVICE}", "added 24 rules"]
    assert Links().read().links[DEVICE][-2:] == (True, True)
    assert sorted(Links().read().ours()) == sorted(want.addresses)
    assert "nodad" in next(line for line in shown().splitlines() if V6 in line)
    assert addresses(DEVICE) == [f"{OLD}/32", f"{V4}/32", f"{V6}/128"]
    assert process.sync(want).done == []
    # As the process stops: first without rules, then without addresses. The address that the Go
    # program had and this process does not have would be a black hole.
    process.sync(DesiredState(want.addresses, adopted=want.adopted))
    assert process.sync(DesiredState()).done[-1] == f"removed interface {DEVICE}"
    assert shown() == ""


@pytest.mark.usefixtures("bridges")
@isolated
def test_the_interface_stays_as_long_as_another_process_needs_it(
    made: Callable[[Mode], Host], processes: contextlib.ExitStack
) -> None:
    bridge(V4, OLD)
    process, neighbour = made("nft"), Claims()
    processes.callback(neighbour.close)
    neighbour.hold(DesiredState(frozenset({Address(DEVICE, OLD)})))
    process.sync(settings(V4).want())
    assert process.sync(DesiredState()).done == ["removed 12 rules", f"removed {V4} from {DEVICE}"]
    assert addresses(DEVICE) == [f"{OLD}/32"]


@pytest.mark.usefixtures("bridges")
@isolated
def test_a_kernel_that_keeps_the_protocol_number_of_an_address(
    made: Callable[[Mode], Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    """There, the address has no mark, and the interface goes as a whole all the same."""
    bridge(V4)
    monkeypatch.setattr(link, "PROTOCOL", 0)
    process, want = made("nft"), settings(V4).want()
    assert process.sync(want).done[0] == f"took over interface {DEVICE}"
    monkeypatch.undo()
    assert Links().read().ours() == []
    assert process.sync(want).done == []
    assert process.sync(DesiredState()).done == ["removed 12 rules", f"removed interface {DEVICE}"]


@pytest.mark.usefixtures("bridges")
@isolated
def test_a_teardown_removes_the_interface(made: Callable[[Mode], Host]) -> None:
    bridge(V4, OLD)
    made("nft").sync(settings(V4).want())
    assert Links().remove_all() == [f"removed {V4} from {DEVICE}", f"removed interface {DEVICE}"]


@pytest.mark.usefixtures("bridges")
@isolated
def test_a_reload_without_the_option_keeps_the_interface(made: Callable[[Mode], Host]) -> None:
    bridge(V4)
    process, without = made("nft"), Settings((V4,), interface=DEVICE).want()
    adopting = Settings((V4,), interface=DEVICE, adopt_node_cache=True).want()
    process.sync(adopting)
    assert process.sync(union([adopting, without])).done == ["added 10 rules"]
    assert process.sync(without).done == ["removed 10 rules"]
    assert addresses(DEVICE) == [f"{V4}/32"]
    assert sum(MARK in rule for rule in placed_rules("nft")) == len(placed_rules("nft")) == 10
    process.sync(DesiredState())
    assert shown() == ""


@isolated
def test_an_interface_of_another_kind_is_used_and_never_deleted(
    made: Callable[[Mode], Host],
) -> None:
    bridge(V4)
    process = made("nft")
    before = host("nft")[1:]
    process.sync(settings(V4).want())
    process.sync(DesiredState())
    assert host("nft")[1:] == before


# -- the commands


@isolated
def test_the_commands_know_the_rules_of_node_cache(
    made: Callable[[Mode], Host],
    processes: contextlib.ExitStack,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bridge()
    before = host("nft")
    made("nft").sync(settings(V4).want())
    node_cache("nft", "-I", V6)
    node_cache("nft", "-I", V4, comments=False)
    processes.close()
    conf = tmp_path / "Corefile"
    text = f".:53 {{\n bind {V4}\n nodecache {{\n interface {DEVICE}\n %s\n }}\n whoami\n}}\n"

    def output(*arguments: str) -> list[str]:
        assert cli.main([*arguments]) == 0
        return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]

    suffix = "with the comments of node-cache"
    theirs = [f"rules nft {V6} port 53 10, {suffix}", f"rules nft {V6} port 8080 2, {suffix}"]
    ours = [f"rules nft {V4} port 53 10, {suffix}", f"rules nft {V4} port 8080 2, {suffix}"]
    conf.write_text(text % "adopt_node_cache")
    shown = output("status", "-conf", str(conf))
    assert [line for line in shown if line.startswith("rules")] == [*ours, *theirs]
    planned = output("plan", "-conf", str(conf))
    assert len(planned) == 1 + 10
    assert all(line.startswith("remove rule nft IPv4") for line in planned[1:])
    assert not any("comment" in line for line in planned[1:])
    conf.write_text(text % "")
    planned = output("plan", "-conf", str(conf))
    assert sum(line.startswith("add rule nft") for line in planned) == len(planned) - 1 == 10
    assert output("teardown") == [
        "DONE", "removed 12 rules from nft iptables", f"removed {V4} from {DEVICE}"
    ]  # fmt: skip
    node_cache("nft", "-D", V6)
    node_cache("nft", "-D", V4, comments=False)
    assert host("nft")[1:] == before[1:]
