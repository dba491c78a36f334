"""The real command with nodecache, in network namespaces: start, answer, reload, stop, crash, refuse.

The interface is a bridge made beforehand, since this kernel may lack the dummy driver.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from corepy.testing import Command, ask, run_command
from corepy.testing.command import wait_until
from corepy.testing.netns import (
    addresses,
    bystanders,
    host,
    isolated,
    placed_rules,
    rules,
    run,
    saved,
)
from corepy_nodecache.model import MARK, DesiredState, UntrackedEndpoint, spec

V4, V6 = ("169.254.20.10", 5300), ("fd00::10", 5300)
ANOTHER = ("169.254.20.11", 5300)
KINDS = ("legacy", "nft")
UNPRIVILEGED = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin")


def block(kind: str, *ips: str, argument: str = "", port: int = 5300, more: str = "") -> str:
    options = f"nodecache {argument} {{\n iptables {kind}\n }}"
    return f".:{port} {{\n bind {' '.join(ips)}\n {options}\n whoami\n {more}\n}}\n"


def make_bridge() -> None:
    run("ip", "link", "add", "nodecache", "type", "bridge")


def ours(kind: str) -> int:
    return sum(MARK in line for line in rules(kind))


def exactly(kind: str, *sockets: tuple[str, int]) -> bool:
    """Whether the rules of `sockets` are there, all of them, once each, and no other of ours."""
    wanted = DesiredState(
        endpoints=frozenset(UntrackedEndpoint("dns", *it) for it in sockets)
    ).rules()
    found = (rule for rule in placed_rules(kind) if MARK in rule)
    return sorted(found) == sorted(f"{it.family} {it.table} -A {spec(it)}" for it in wanted)


def answers(address: tuple[str, int], **options: Any) -> bool:
    return ask(address, "example.org", "A", **options).header.rcode == 0


def reload(server: Command, text: str, times: int = 1) -> None:
    server.conf.write_text(text)
    server.send_signal(signal.SIGUSR1)
    server.wait_for("Reloading complete", times=times)


@pytest.mark.parametrize("kind", KINDS)
@isolated
def test_start_answer_stop(kind: str) -> None:
    before = bystanders(kind, "nodecache")
    with run_command(block(kind, V4[0], V6[0])) as server:
        assert {"169.254.20.10/32", "fd00::10/128"} <= set(addresses("nodecache"))
        assert exactly(kind, V4, V6)
        assert all(answers(it, tcp=tcp) for it in (V4, V6) for tcp in (False, True))
        assert server.stop() == 0
    assert host(kind) == before


@pytest.mark.parametrize("kind", KINDS)
@isolated
def test_a_reload_applies_the_difference(kind: str) -> None:
    make_bridge()
    both = block(kind, V4[0]) + block(kind, V4[0], V6[0], port=5301)
    with run_command(both) as server:
        assert ours(kind) == 30
        before = saved(kind)
        reload(server, both)
        assert saved(kind) == before
        reload(server, block(kind, V4[0]), times=2)
        assert (ours(kind), addresses("nodecache")) == (10, ["169.254.20.10/32"])
        assert answers(V4)
        reload(server, f".:{V4[1]} {{\n whoami\n}}\n", times=3)
        assert (ours(kind), addresses("nodecache")) == (0, [])
        assert server.stop() == 0


@pytest.mark.parametrize("kind", KINDS)
@isolated
def test_a_refused_reload_leaves_everything(kind: str) -> None:
    make_bridge()
    run("ip", "link", "add", "kube-ipvs0", "type", "bridge")
    run("ip", "addr", "add", "10.96.0.10/32", "dev", "kube-ipvs0")
    with run_command(block(kind, V4[0])) as server:
        before = saved(kind)
        server.conf.write_text(block(kind, ANOTHER[0]) + block(kind, "10.96.0.10", port=5301))
        server.send_signal(signal.SIGUSR1)
        server.wait_for("reload failed")
        assert "10.96.0.10 is a service address on kube-ipvs0" in server.output
        assert (saved(kind), addresses("nodecache")) == (before, ["169.254.20.10/32"])
        assert answers(V4)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (("10.96.0.10",), "service address on kube-ipvs0"),
        (("169.254.20.11", "10.7.7.7"), "10.7.7.7"),
    ],
)
@isolated
def test_a_refused_start_leaves_nothing(second: tuple[str, ...], message: str) -> None:
    """A mistake in the second block undoes the first: a preflight, and a socket that is in use."""
    make_bridge()
    run("ip", "link", "add", "kube-ipvs0", "type", "bridge")
    run("ip", "addr", "add", "10.96.0.10/32", "dev", "kube-ipvs0")
    run("ip", "addr", "add", "10.7.7.7/32", "dev", "lo")
    text = block("nft", V4[0]) + block("nft", *second, port=5301)
    with socket.create_server(("10.7.7.7", 5301)), run_command(text, wait=False) as server:
        assert server.process.wait(60) == 1
        wait_until(lambda: message in server.output)
    assert (ours("nft"), addresses("nodecache")) == (0, [])


@isolated
def test_a_refusal_is_one_line() -> None:
    with run_command(block("nft", "169.254.20.10"), wait=False, prefix=UNPRIVILEGED) as server:
        assert server.process.wait(60) == 1
    assert server.output.splitlines() == [
        "corepy: plugin/nodecache: missing CAP_NET_ADMIN: run as root, or add it to the container's"
        " capabilities (or disable the changes: device off, iptables off)"
    ]


@isolated
def test_an_unusable_table_is_refused_and_nothing_is_left() -> None:
    """One line; no address, no rule, and what made the table unusable as it was."""
    make_bridge()
    run("nft", "-f", "-", text="table ip raw {\n chain OUTPUT {\n }\n }\n")
    with run_command(block("nft", V4[0]), wait=False) as server:
        assert server.process.wait(60) == 1
    assert len(server.output.splitlines()) == 1
    assert "nft tables raw and filter do not accept IPv4 rules: iptables-nft" in server.output
    assert (ours("nft"), addresses("nodecache")) == (0, [])


@isolated
def test_a_node_without_the_dummy_driver_is_told_once() -> None:
    try:
        run("ip", "link", "add", "probe", "type", "dummy")
    except OSError:
        with run_command(block("nft", "169.254.20.10"), wait=False) as server:
            assert server.process.wait(60) == 1
        assert server.output.count("no dummy driver") == 1
        assert "wanted again" not in server.output
        assert "nodecache" not in run("ip", "link")
    else:
        with run_command(block("nft", "169.254.20.10")) as server:
            assert server.stop() == 0


@pytest.mark.parametrize("kind", KINDS)
@isolated
def test_skipteardown_leaves_everything_and_the_next_start_adopts(kind: str) -> None:
    make_bridge()
    text = block(kind, V4[0], V6[0], argument="skipteardown")
    for _ in range(2):
        with run_command(text) as server:
            assert ours(kind) == 20
            assert server.stop() == 0
    assert ours(kind) == 20
    assert addresses("nodecache") == ["169.254.20.10/32", "fd00::10/128"]


@pytest.mark.parametrize("kind", KINDS)
@isolated
def test_a_killed_server_is_succeeded_without_duplicates(kind: str) -> None:
    before = bystanders(kind, "nodecache")
    text = block(kind, V4[0]) + block(kind, ANOTHER[0])
    with run_command(text) as server:
        server.stop(signal.SIGKILL)
    assert exactly(kind, V4, ANOTHER)
    for wanted in ((V4, V6), (V4, V6), (V6,)):
        with run_command(block(kind, *(ip for ip, _ in wanted))) as server:
            assert exactly(kind, *wanted)
            assert len(addresses("nodecache")) == 2 + len(wanted)
            server.stop(signal.SIGKILL)
    with run_command(block(kind, V4[0])) as server:
        assert exactly(kind, V4)
        assert server.stop() == 0
    assert host(kind) == before


@pytest.mark.parametrize("kind", KINDS)
@isolated
def test_the_rules_outlive_a_supervisor_that_is_killed(kind: str, tmp_path: Path) -> None:
    """One set of them, kept by the one worker; the next supervisor's end takes them away."""
    before = bystanders(kind, "nodecache")
    conf = tmp_path / "Corefile"
    conf.write_text(block(kind, V4[0], V6[0]))
    flags, env = ("-conf", str(conf), "-supervise"), {"RUNTIME_DIRECTORY": str(tmp_path)}
    with run_command(None, *flags, env=env) as first:
        first.wait_for(" serves")
        first.process.kill()
        first.process.wait()
        assert exactly(kind, V4, V6)
        assert all(answers(it) for it in (V4, V6))
        with run_command(None, *flags, env=env, wait=False) as second:
            second.wait_for("adopting it")
            second.wait_for(" serves")
            assert exactly(kind, V4, V6)
            assert all(answers(it) for it in (V4, V6))
            assert second.stop() == 0
    assert host(kind) == before


@pytest.mark.parametrize("kind", KINDS)
@isolated
def test_the_last_of_two_servers_tears_down(kind: str) -> None:
    """The two DaemonSets of a highly available node share an address; each has one of its own."""
    before = bystanders(kind, "nodecache")
    with (
        run_command(block(kind, V4[0], V6[0])) as first,
        run_command(block(kind, V4[0], ANOTHER[0])) as second,
    ):
        assert exactly(kind, V4, V6, ANOTHER)
        assert all(answers(it) for it in (V4, V6, ANOTHER))
        reload(second, block(kind, V6[0], ANOTHER[0]))
        assert exactly(kind, V4, V6, ANOTHER)
        assert first.stop() == 0
        assert exactly(kind, V6, ANOTHER)
        assert len(addresses("nodecache")) == 2 + 2
        assert all(answers(it) for it in (V6, ANOTHER))
        with run_command(block(kind, V6[0])) as third:
            second.stop(signal.SIGKILL)
            assert exactly(kind, V6, ANOTHER)
            assert third.stop() == 0
        # The killed one claims nothing; what only it wanted waits for the next start.
        assert exactly(kind, ANOTHER)
    with run_command(block(kind, V4[0])) as fourth:
        assert exactly(kind, V4)
        assert fourth.stop() == 0
    assert host(kind) == before


@isolated
def test_checking_needs_no_privileges(tmp_path: Path) -> None:
    corefile = tmp_path / "Corefile"
    corefile.write_text(block("legacy", V4[0]))
    tmp_path.chmod(0o755)
    run(
        *("setpriv", "--bounding-set=-all", "--inh-caps=-all"),
        *(sys.executable, "-m", "corepy", "-check", "-conf", str(corefile)),
    )
    assert ours("legacy") == 0


@pytest.mark.parametrize("kind", KINDS)
@isolated
def test_of_several_processes_one_acts(kind: str) -> None:
    """Rules and addresses are there once, stay when a follower dies, and go with the server."""
    before = bystanders(kind, "nodecache")
    with run_command(block(kind, V4[0], more="multisocket 2")) as server:
        assert exactly(kind, V4)
        (follower,) = _children(server.process.pid)
        loaded = Path(f"/proc/{follower}/maps").read_text()
        assert not re.search("libip[46]tc|libxtables", loaded)
        os.kill(follower, signal.SIGKILL)
        server.wait_for("has ended")
        wait_until(lambda: _children(server.process.pid) not in ([], [follower]))
        reload(server, block(kind, V4[0], more="multisocket 1"))
        assert not _children(server.process.pid)
        assert exactly(kind, V4)
        assert not any("repaired" in line for line in server.lines)
        assert answers(V4)
        assert server.stop() == 0
    assert host(kind) == before


def _children(pid: int) -> list[int]:
    return [int(it) for it in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
