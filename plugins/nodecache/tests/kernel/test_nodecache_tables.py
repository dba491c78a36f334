"""nodecache's rules in real legacy and nft tables, each test in a network namespace of its own."""

from __future__ import annotations

import fcntl
import socket
import sys
from typing import TYPE_CHECKING

import pytest

from corepy.testing.netns import isolated, rules, run, saved
from corepy_nodecache import detect, preflight, watch
from corepy_nodecache.legacy import LegacyTables, existing_tables
from corepy_nodecache.model import MARK, DesiredState, HostError, UntrackedEndpoint
from corepy_nodecache.nft import NftTables
from corepy_nodecache.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from corepy_nodecache.tables import RuleTables

KINDS = ("legacy", "nft")
TABLES: dict[str, type[LegacyTables] | type[NftTables]] = {"legacy": LegacyTables, "nft": NftTables}
V4 = UntrackedEndpoint("dns", "169.254.20.10", 53)
V6 = UntrackedEndpoint("dns", "fd00::10", 53)
HEALTH = UntrackedEndpoint("health", "169.254.20.10", 8080)

GOLDEN = """\
-A PREROUTING -d {ip} -p tcp -m tcp --dport 53 {mark} -j NOTRACK
-A PREROUTING -d {ip} -p udp -m udp --dport 53 {mark} -j NOTRACK
-A OUTPUT -d {ip} -p tcp -m tcp --dport 53 {mark} -j NOTRACK
-A OUTPUT -d {ip} -p udp -m udp --dport 53 {mark} -j NOTRACK
-A OUTPUT -s {ip} -p tcp -m tcp --sport 53 {mark} -j NOTRACK
-A OUTPUT -s {ip} -p udp -m udp --sport 53 {mark} -j NOTRACK
-A INPUT -d {ip} -p tcp -m tcp --dport 53 {mark} -j ACCEPT
-A INPUT -d {ip} -p udp -m udp --dport 53 {mark} -j ACCEPT
-A OUTPUT -s {ip} -p tcp -m tcp --sport 53 {mark} -j ACCEPT
-A OUTPUT -s {ip} -p udp -m udp --sport 53 {mark} -j ACCEPT
"""
GOLDEN_HEALTH = """\
-A OUTPUT -d 169.254.20.10/32 -p tcp -m tcp --dport 8080 {mark} -j NOTRACK
-A OUTPUT -s 169.254.20.10/32 -p tcp -m tcp --sport 8080 {mark} -j NOTRACK
"""


def golden(text: str, ip: str = "") -> list[str]:
    return text.format(ip=ip, mark=f'-m comment --comment "{MARK}"').splitlines()


def wanted(*endpoints: UntrackedEndpoint) -> set[object]:
    return set(DesiredState(endpoints=frozenset(endpoints)).rules())


def reconcile(tables: RuleTables, *endpoints: UntrackedEndpoint) -> tuple[int, int]:
    return tables.reconcile(DesiredState(endpoints=frozenset(endpoints)).rules(), lambda _: True)


@pytest.mark.parametrize("kind", KINDS)
@isolated
def test_iptables_shows_exactly_the_rules(kind: str) -> None:
    tables = TABLES[kind]()
    assert reconcile(tables, V4, V6, HEALTH) == (22, 0)
    expected = golden(GOLDEN, "169.254.20.10/32") + golden(GOLDEN, "fd00::10/128")
    assert sorted(rules(kind)) == sorted(expected + golden(GOLDEN_HEALTH))
    assert set(tables.read()) == wanted(V4, V6, HEALTH)


@pytest.mark.parametrize("kind", KINDS)
@isolated
def test_foreign_rules_stay_byte_for_byte(kind: str) -> None:
    """Built-in and own chains, policies, ipsets' neighbours: all that iptables-save prints."""
    for program in (f"iptables-{kind}", f"ip6tables-{kind}"):
        for words in (
            "-N KUBE-SERVICES",
            "-A INPUT -j KUBE-SERVICES",
            "-A KUBE-SERVICES -p udp --dport 53 -m comment --comment other -j DROP",
            "-P FORWARD DROP",
            "-t raw -A PREROUTING -p tcp --dport 53 -j NOTRACK",
            "-t raw -A OUTPUT -j RETURN",
        ):
            run(program, *words.split())
    before, tables = saved(kind), TABLES[kind]()
    reconcile(tables, V4, V6, HEALTH)
    assert rules(kind) != [line for line in before.splitlines() if line.startswith("-A")]
    reconcile(tables, V6)
    assert reconcile(tables) == (0, 10)
    assert saved(kind) == before


@pytest.mark.parametrize("kind", KINDS)
@isolated
def test_rules_stand_above_an_earlier_drop(kind: str) -> None:
    run(f"iptables-{kind}", "-A", "INPUT", "-j", "DROP")
    reconcile(TABLES[kind](), V4)
    chain = [line for line in rules(kind) if line.startswith("-A INPUT")]
    assert [line.rpartition(" ")[2] for line in chain] == ["ACCEPT", "ACCEPT", "DROP"]


@pytest.mark.parametrize("kind", KINDS)
@isolated
def test_repeated_rules_are_thinned_out(kind: str) -> None:
    tables = TABLES[kind]()
    reconcile(tables, V4)
    once = sorted(rules(kind))
    mark = ("-m", "comment", "--comment", MARK)
    for _ in range(3):
        run(
            *(f"iptables-{kind} -t raw -A OUTPUT -s 169.254.20.10 -p udp --sport 53").split(),
            *(*mark, "-j", "NOTRACK"),
        )
    assert reconcile(tables, V4) == (0, 3)
    assert sorted(rules(kind)) == once


@pytest.mark.parametrize("kind", KINDS)
@isolated
def test_a_hundred_syncs_change_nothing(kind: str) -> None:
    tables = TABLES[kind]()
    reconcile(tables, V4, V6)
    once = saved(kind)
    for number in range(1, 101):
        assert reconcile(tables, V4, V6) == (0, 0)
        if number % 20 == 0:
            assert saved(kind) == once


@pytest.mark.parametrize("kind", KINDS)
@isolated
def test_a_family_without_wishes_gets_no_tables(kind: str) -> None:
    reconcile(TABLES[kind](), V4)
    assert run(f"ip6tables-{kind}-save") == ""


@isolated
def test_only_what_is_removable_goes() -> None:
    tables = LegacyTables()
    reconcile(tables, V4, V6)
    kept = DesiredState(endpoints=frozenset({V6})).rules()
    assert tables.reconcile(set(), lambda rule: rule not in kept) == (0, 10)
    assert set(tables.read()) == kept


def test_python_iptables_is_loaded_without_starting_a_program() -> None:
    """ldconfig, which it would ask for its libraries, made up half of the start."""
    code = "import subprocess; subprocess.Popen = None; import corepy_nodecache.libiptc as it;"
    run(sys.executable, "-c", f"{code} it.load_iptc()")


@isolated
def test_the_lock_of_iptables_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "xtables.lock"
    monkeypatch.setenv("XTABLES_LOCKFILE", str(path))
    tables = LegacyTables(lock_wait=0.2)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(HostError, match=f"another program holds {path}") as caught:
            reconcile(tables, V4, V6)
        assert caught.value.kind == "iptables_lock"
        assert rules("legacy") == []
    assert reconcile(tables, V4, V6) == (20, 0)


@isolated
def test_our_lock_keeps_iptables_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same file and the same kind of lock: iptables waits in vain while we hold it."""
    from corepy_nodecache.lock import xtables_lock

    path = tmp_path / "xtables.lock"
    monkeypatch.setenv("XTABLES_LOCKFILE", str(path))
    with xtables_lock(), pytest.raises(OSError, match="xtables lock"):
        run("iptables-legacy", "-w", "1", "-A", "INPUT", "-j", "ACCEPT")
    run("iptables-legacy", "-w", "1", "-A", "INPUT", "-j", "ACCEPT")


@isolated
def test_nothing_is_untracked_that_cannot_be_accepted() -> None:
    """nft, with a filter table that iptables cannot use: IPv6 gets its rules all the same."""
    native = "table ip filter {\n chain INPUT {\n type filter hook input priority 1;\n }\n }\n"
    run("nft", "-f", "-", text=native)
    tables = NftTables()
    with pytest.raises(HostError, match="iptables-nft"):
        reconcile(tables, V4, V6)
    assert [line for line in rules("nft") if "169.254" in line] == []
    assert len([line for line in rules("nft") if "fd00::10" in line]) == 10


@pytest.mark.parametrize("table", ["raw", "filter"])
@isolated
def test_tables_that_take_no_rules_are_found_before_anything_is_changed(table: str) -> None:
    """They can be read, but a chain of the right name is somebody's own and hooked to nothing."""
    NftTables().check({4, 6})
    assert rules("nft") == []
    run("nft", "flush", "ruleset")
    run("nft", "-f", "-", text=f"table ip {table} {{\n chain OUTPUT {{\n }}\n }}\n")
    before, tables = run("nft", "list", "table", "ip", table), NftTables()
    with pytest.raises(
        HostError, match=r"raw and filter do not accept IPv4 rules: iptables-nft-res"
    ):
        tables.check({4, 6})
    assert run("nft", "list", "table", "ip", table) == before
    assert rules("nft") == []
    tables.check({6})


@isolated
def test_tables_that_have_our_rules_are_not_tried_out() -> None:
    """A reload and a second process do not need it, and every transaction wakes all who watch."""
    tables = NftTables()
    reconcile(tables, V4)
    transactions = watch._nftables_socket()
    assert transactions is not None
    with transactions:
        tables.check({4})
        with pytest.raises(BlockingIOError):
            transactions.recv(1)
        tables.check({6})
        assert transactions.recv(1)
        while True:
            try:
                transactions.recv(1)
            except BlockingIOError:
                break
        tables.check({6})
        with pytest.raises(BlockingIOError):
            transactions.recv(1)


@isolated
def test_auto_without_any_rules_is_nft_and_makes_no_legacy_table() -> None:
    assert detect.detect() == ("nft", "")
    assert existing_tables(4) == existing_tables(6) == set()


@pytest.mark.parametrize("program", ["iptables", "ip6tables"])
@pytest.mark.parametrize("chain", ["KUBE-IPTABLES-HINT", "KUBE-KUBELET-CANARY"])
@pytest.mark.parametrize("kind", KINDS)
@isolated
def test_auto_follows_kubelets_hint(kind: str, chain: str, program: str) -> None:
    other = "nft" if kind == "legacy" else "legacy"
    run(f"{program}-{kind}", "-t", "mangle", "-N", chain)
    for _ in range(3):
        run(f"iptables-{other}", "-A", "INPUT", "-j", "ACCEPT")
    assert detect.detect().kind == kind


@pytest.mark.parametrize("kind", KINDS)
@isolated
def test_auto_follows_the_greater_number_of_rules(kind: str) -> None:
    for _ in range(2):
        run(f"iptables-{kind}", "-A", "INPUT", "-j", "ACCEPT")
    other = "nft" if kind == "legacy" else "legacy"
    run(f"ip6tables-{other}", "-A", "INPUT", "-j", "ACCEPT")
    assert detect.detect().kind == kind
    assert detect.choose("auto").name == kind


@pytest.mark.parametrize("kind", KINDS)
@isolated
def test_auto_stays_with_the_kind_that_holds_rules_of_corepy(kind: str) -> None:
    reconcile(TABLES[kind](), V4)
    other = "nft" if kind == "legacy" else "legacy"
    for _ in range(20):
        run(f"iptables-{other}", "-A", "INPUT", "-j", "ACCEPT")
    assert detect.detect() == (kind, f"rules of corepy or node-cache are in the {kind} tables")


BROKEN = "table ip raw {\n chain OUTPUT {\n }\n }\n"
"""A table that iptables-nft can read and not write: its chain is no base chain."""

ENDPOINT = Settings(ips=("169.254.20.10",), device=False)


@isolated
def test_auto_falls_back_where_nothing_speaks_for_the_detected_kind() -> None:
    run("nft", "-f", "-", text=BROKEN)
    tables, (warning,) = preflight.choose_tables(ENDPOINT)
    assert tables.name == "legacy"
    assert warning.startswith("iptables auto: using legacy, because nft does not work: the nft ")


@pytest.mark.parametrize(
    ("words", "evidence"),
    [
        (("-t", "mangle", "-N", "KUBE-IPTABLES-HINT"), "kubelet's chains are in the nft tables"),
        (("-A", "INPUT", "-j", "ACCEPT"), "1 rules are in the nft tables"),
    ],
)
@isolated
def test_auto_refuses_where_a_fall_back_could_mislead_kube_proxy(
    words: tuple[str, ...], evidence: str
) -> None:
    run("nft", "-f", "-", text=BROKEN)
    run("iptables-nft", *words)
    with pytest.raises(HostError) as caught:
        preflight.choose_tables(ENDPOINT)
    assert f"iptables auto chose nft because {evidence}; or set: iptables legacy" in str(
        caught.value
    )
    assert existing_tables(4) == set()


@pytest.mark.parametrize("ip", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("kind", KINDS)
@isolated
def test_untracked_is_proven_with_a_tracked_control(kind: str, ip: str) -> None:
    """Traffic to the wanted socket leaves no flow behind; traffic to the port beside it does."""
    six = ":" in ip
    reconcile(TABLES[kind](), UntrackedEndpoint("dns", ip, 5353))
    # A rule that asks for a state switches connection tracking on in this namespace.
    program = f"{'ip6tables' if six else 'iptables'}-{kind}"
    run(program, *["-A", "INPUT", "-m", "conntrack", "--ctstate", "ESTABLISHED", "-j", "ACCEPT"])
    family = socket.AF_INET6 if six else socket.AF_INET
    for port in (5353, 5354):
        with (
            socket.socket(family, socket.SOCK_DGRAM) as server,
            socket.socket(family, socket.SOCK_DGRAM) as client,
            socket.create_server((ip, port), family=family) as listener,
            socket.create_connection((ip, port)),
        ):
            server.bind((ip, port))
            server.settimeout(30)
            client.settimeout(30)
            client.sendto(b"question", (ip, port))
            _, address = server.recvfrom(64)
            server.sendto(b"answer", address)
            assert client.recv(64) == b"answer"
            listener.accept()[0].close()
    flows = run("conntrack", "-L", "-f", "ipv6" if six else "ipv4", check=False)
    ends = {word for word in flows.split() if "port=" in word}  # sport=53531 is no sport=5353
    assert "dport=5354" in ends
    assert not {"sport=5353", "dport=5353"} & ends
