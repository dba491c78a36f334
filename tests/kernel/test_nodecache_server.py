"""The real command with nodecache, in network namespaces: start, answer, reload, stop, crash, refuse.

The interface is a bridge made beforehand, since this kernel may lack the dummy driver.
"""

from __future__ import annotations

import fcntl
import json
import random
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING

import pytest

from corepy.testing import Command, ask, run_command
from corepy.testing.command import wait_until
from corepy.testing.netns import addresses, isolated, rules, run, saved
from corepy_nodecache.model import MARK

if TYPE_CHECKING:
    from pathlib import Path

V4, V6 = ("169.254.20.10", 5300), ("fd00::10", 5300)
ANOTHER = ("169.254.20.11", 5300)
KINDS = ("legacy", "nft")


def block(kind: str, *ips: str, argument: str = "", port: int = 5300, more: str = "") -> str:
    options = f"nodecache {argument} {{\n iptables {kind}\n }}"
    return f".:{port} {{\n bind {' '.join(ips)}\n {options}\n whoami\n {more}\n}}\n"


def make_bridge() -> None:
    run("ip", "link", "add", "nodecache", "type", "bridge")


def ours(kind: str) -> int:
    return sum(MARK in line for line in rules(kind))


def answers(address: tuple[str, int], **options: bool) -> bool:
    return ask(address, "example.org", "A", **options).header.rcode == 0


def reload(server: Command, text: str, times: int = 1) -> None:
    server.conf.write_text(text)
    server.send_signal(signal.SIGUSR1)
    server.wait_for("Reloading complete", times=times)


@pytest.mark.parametrize("kind", KINDS)
@isolated
def test_start_answer_stop(kind: str) -> None:
    make_bridge()
    with run_command(block(kind, V4[0], V6[0])) as server:
        assert addresses("nodecache") == ["169.254.20.10/32", "fd00::10/128"]
        assert ours(kind) == 20
        assert all(answers(it, tcp=tcp) for it in (V4, V6) for tcp in (False, True))
        assert server.stop() == 0
    assert (ours(kind), addresses("nodecache")) == (0, [])


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
        assert server.process.wait(20) == 1
        wait_until(lambda: message in server.output)
    assert (ours("nft"), addresses("nodecache")) == (0, [])


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
    make_bridge()
    text = block(kind, V4[0]) + block(kind, ANOTHER[0])
    with run_command(text) as server:
        server.stop(signal.SIGKILL)
    assert ours(kind) == 20
    with run_command(block(kind, V4[0], V6[0])) as server:
        assert (ours(kind), len(addresses("nodecache"))) == (20, 2)
        assert server.stop() == 0
    assert (ours(kind), addresses("nodecache")) == (0, [])


@pytest.mark.parametrize("kind", KINDS)
@isolated
def test_sigterm_in_the_middle_of_reloads_leaves_nothing(kind: str) -> None:
    make_bridge()
    dice = random.Random(3)
    for _ in range(5):
        with run_command(block(kind, V4[0])) as server:
            server.conf.write_text(block(kind, V4[0], V6[0]))
            server.send_signal(signal.SIGUSR1)
            time.sleep(dice.random() * 0.1)
            assert server.stop() == 0
        assert (ours(kind), addresses("nodecache")) == (0, [])


@isolated
def test_dns_answers_while_the_lock_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "xtables.lock"
    monkeypatch.setenv("XTABLES_LOCKFILE", str(lock))
    make_bridge()
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with run_command(block("legacy", V4[0])) as server:
            server.wait_for("another program holds")
            for _ in range(300):
                assert answers(V4)
            assert ours("legacy") == 0
            fcntl.flock(file, fcntl.LOCK_UN)
            wait_until(lambda: ours("legacy") == 10)
            server.wait_for("the host is as wanted again")
            assert server.output.count("another program holds") == 1
            assert server.stop() == 0
    assert ours("legacy") == 0


@pytest.mark.parametrize("kind", KINDS)
@isolated
def test_the_last_of_two_servers_tears_down(kind: str) -> None:
    """The two DaemonSets of a highly available node: one Corefile, one address, two processes."""
    make_bridge()
    text = block(kind, V4[0], V6[0])
    with run_command(text) as first, run_command(text) as second:
        assert ours(kind) == 20
        assert first.stop() == 0
        assert (ours(kind), len(addresses("nodecache"))) == (20, 2)
        assert all(answers(it) for it in (V4, V6))
        assert second.stop() == 0
    assert (ours(kind), addresses("nodecache")) == (0, [])


@isolated
def test_the_one_shot_commands(tmp_path: Path) -> None:
    make_bridge()
    corefile = tmp_path / "Corefile"
    corefile.write_text(block("nft", V4[0]))

    def command(*words: str, check: bool = True) -> str:
        return run(sys.executable, "-m", "corepy", "nodecache", *words, check=check)

    assert command("status") == "Nothing of corepy is on this host.\n"
    plan = command("plan", "-conf", str(corefile))
    assert plan.count("add ") == 11
    assert "address 169.254.20.10 on nodecache" in plan
    with run_command(block("nft", V4[0])) as server:
        found = json.loads(command("status", "-json"))
        assert {
            "kind": "rules",
            "where": "nft",
            "what": "169.254.20.10 port 5300",
            "state": "10",
        } in found
        assert command("plan", "-conf", str(corefile)) == "Nothing to change.\n"
        with pytest.raises(OSError, match="stop it first"):
            command("teardown")
        server.stop(signal.SIGKILL)
    assert ours("nft") == 10
    assert command("teardown").splitlines()[1:] == [
        "removed 10 rules from nft iptables",
        "removed 169.254.20.10 from nodecache",
    ]
    assert command("teardown") == "Nothing of corepy was on this host.\n"
    with pytest.raises(OSError, match="cannot read the Corefile /nowhere"):
        command("plan", "-conf", "/nowhere")


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
