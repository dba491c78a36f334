"""The program `node-cache` with the argument list of the official manifest, in a network namespace."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from corepy.testing import Command, ask
from corepy.testing.command import wait_until
from corepy.testing.netns import addresses, host, isolated, placed_rules, run
from corepy_nodecache.model import DesiredState, UntrackedEndpoint, spec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROGRAM = [sys.executable, "-c", "from corepy_nodecache.node_cache import script; exit(script())"]
LOCAL, SERVICE = "169.254.20.10", "10.96.0.10"
TEMPLATE = """\
cluster.local:53 {
    errors
    cache {
            success 9984 30
            denial 9984 5
    }
    reload
    loop
    bind __PILLAR__LOCAL__DNS__ __PILLAR__DNS__SERVER__
    forward . __PILLAR__CLUSTER__DNS__ {
            force_tcp
    }
    health 169.254.20.10:8080
}
.:53 {
    errors
    bind __PILLAR__LOCAL__DNS__ __PILLAR__DNS__SERVER__
    whoami
}
"""
UNPRIVILEGED = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin")


@contextlib.contextmanager
def node_cache(folder: Path, *arguments: str, prefix: tuple[str, ...] = ()) -> Iterator[Command]:
    """Run it with the arguments of the official manifest, its paths in `folder`."""
    (folder / "Corefile.base").write_text(TEMPLATE)
    output = folder / "Corefile"
    process = subprocess.Popen(
        [
            *prefix, *PROGRAM, "-localip", f"{LOCAL},{SERVICE}", "-conf", output, "-upstreamsvc",
            "kube-dns-upstream", "-basecorefile", folder / "Corefile.base",
            "-kubednscm", folder / "kube-dns", *arguments,
        ],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={
            **os.environ, "PYTHONUNBUFFERED": "1", "KUBE_DNS_UPSTREAM_SERVICE_HOST": "10.96.0.99",
        },
    )  # fmt: skip
    server = Command(process, output)
    try:
        yield server
    finally:
        server.end()


def rules() -> list[str]:
    """All rules, in the kind of iptables that corepy has chosen and in the other one."""
    return sorted([*placed_rules("nft"), *placed_rules("legacy")])


def wanted(*ips: str) -> list[str]:
    """The rules of node-cache for these addresses, twelve each (see test_nodecache_adoption.py)."""
    dns = {UntrackedEndpoint("dns", ip, 53, "node-cache") for ip in ips}
    health = {UntrackedEndpoint("health", ip, 8080, "node-cache") for ip in ips}
    found = DesiredState(endpoints=frozenset(dns | health)).rules()
    return sorted(f"{it.family} {it.table} -A {spec(it)}" for it in found)


def make_bridge() -> None:
    """Make the interface, since this kernel may lack the dummy driver."""
    run("ip", "link", "add", "nodelocaldns", "type", "bridge")
    run("ip", "link", "set", "nodelocaldns", "addrgenmode", "none")
    run("ip", "link", "set", "nodelocaldns", "up")


def prepare(kind: str = "nft") -> tuple[str, str, str]:
    """Make the interface, the tables, and the chain by which kubelet shows its kind of iptables."""
    make_bridge()
    for program in (f"iptables-{kind}", f"ip6tables-{kind}"):
        for table in ("raw", "filter"):
            run(program, "-t", table, "-N", "OTHER")
        run(program, "-t", "mangle", "-N", "KUBE-IPTABLES-HINT")
    return host(kind)


def leave_behind(kind: str, *ips: str) -> None:
    """Add the rules of node-cache, each twice, once as its early versions did."""
    for rule in wanted(*ips):
        family, table, words = rule.split(maxsplit=2)
        program = f"{'ip6tables' if family == '6' else 'iptables'}-{kind}"
        arguments = shlex.split(words)
        run(program, "-t", table, *arguments)
        at = arguments.index("comment")
        run(program, "-t", table, *arguments[: at - 1], *arguments[at + 3 :])


def occupied(ip: str) -> socket.socket:
    """Return a socket on port 53 that no other program can share."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((ip, 53))
    return sock


def errors(ip: str, port: int = 9253) -> dict[str, int]:
    """The error counters that are exported at this address, by their label."""
    text = run("curl", "-s", f"http://{ip}:{port}/metrics")
    name = "coredns_nodecache_setup_errors_total{errortype="
    lines = (line for line in text.splitlines() if line.startswith(name))
    return {line.split('"')[1]: int(line.split()[1]) for line in lines}


@isolated
def test_the_official_arguments(tmp_path: Path) -> None:
    before = prepare()
    with node_cache(tmp_path) as server:
        server.wait_for("corepy-")
        assert addresses("nodelocaldns") == [f"{SERVICE}/32", f"{LOCAL}/32"]
        assert rules() == wanted(LOCAL, SERVICE)
        assert len(rules()) == 24
        for ip in (LOCAL, SERVICE):
            for tcp in (False, True):
                assert ask((ip, 53), "example.org", "A", tcp=tcp).header.rcode == 0
        run("iptables-nft", "-t", "raw", "-F", "PREROUTING")
        wait_until(lambda: rules() == wanted(LOCAL, SERVICE))
        assert server.stop() == 0
    assert host("nft") == before


@pytest.mark.parametrize("kind", ["legacy", "nft"])
@isolated
def test_what_node_cache_has_left_is_taken_over(tmp_path: Path, kind: str) -> None:
    """Its rules are there once while corepy serves, and gone when it has stopped."""
    before = prepare(kind)
    leave_behind(kind, LOCAL, "fd00::10")
    leave_behind(kind, LOCAL)
    assert len(rules()) == 4 * 12 + 24
    with node_cache(tmp_path, f"-localip={LOCAL},fd00::10") as server:
        wait_until(lambda: rules() == wanted(LOCAL, "fd00::10"))
        leave_behind(kind, LOCAL)
        wait_until(lambda: rules() == wanted(LOCAL, "fd00::10"))
        assert server.stop() == 0
    assert host(kind) == before


@pytest.mark.parametrize("kind", ["legacy", "nft"])
@isolated
def test_what_others_remove_comes_back(tmp_path: Path, kind: str) -> None:
    """Without waiting for the interval of the checks."""
    prepare(kind)
    with node_cache(tmp_path, "-syncinterval=3600s") as server:
        wait_until(lambda: rules() == wanted(LOCAL, SERVICE))
        run(f"iptables-{kind}", "-t", "raw", "-F")
        run(f"iptables-{kind}", "-F")
        wait_until(lambda: rules() == wanted(LOCAL, SERVICE))
        run("ip", "link", "del", "nodelocaldns")
        server.wait_for("no dummy driver")
        make_bridge()
        wait_until(lambda: addresses("nodelocaldns") == [f"{SERVICE}/32", f"{LOCAL}/32"])
        assert ask((SERVICE, 53), "example.org", "A").header.rcode == 0
        assert server.stop() == 0


@isolated
def test_a_lock_that_another_program_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Queries are answered meanwhile; all rules follow the release of the lock."""
    before = prepare("legacy")
    path = tmp_path / "xtables.lock"
    monkeypatch.setenv("XTABLES_LOCKFILE", str(path))
    base = tmp_path / "other"
    base.write_text(TEMPLATE.replace("    loop\n", f"    prometheus {LOCAL}:9253\n"))
    with contextlib.ExitStack() as stack:
        lock = stack.enter_context(path.open("w"))
        fcntl.flock(lock, fcntl.LOCK_EX)
        server = stack.enter_context(node_cache(tmp_path, "-basecorefile", str(base)))
        server.wait_for("another program holds")
        assert rules() == []
        refused = errors(LOCAL)["iptables_lock"]
        assert refused > 0
        while errors(LOCAL)["iptables_lock"] == refused:  # until the next attempt
            assert ask((LOCAL, 53), "example.org", "A").header.rcode == 0
        fcntl.flock(lock, fcntl.LOCK_UN)
        wait_until(lambda: rules() == wanted(LOCAL, SERVICE))
        assert server.stop() == 0
    assert host("legacy") == before


@isolated
def test_quitting_removes_rules_and_addresses(tmp_path: Path) -> None:
    before = prepare()
    with node_cache(tmp_path, f"-localip={LOCAL},fd00::10") as server:
        server.wait_for("corepy-")
        wait_until((tmp_path / "Corefile").exists)
        assert rules() == wanted(LOCAL, "fd00::10")
        assert server.stop(signal.SIGQUIT) == 0
    assert host("nft") == before


@isolated
def test_a_failed_start_leaves_nothing(tmp_path: Path) -> None:
    """With the address of kube-dns on an interface, the node would have no DNS."""
    before = prepare()
    text = TEMPLATE.replace("health 169.254.20.10:8080", "health 192.0.2.1:8080")
    with node_cache(tmp_path, "-basecorefile", str(tmp_path / "other")) as server:
        assert server.process.wait(100) == 1
    for wrong in (text, TEMPLATE.replace("whoami", "whoareyou")):
        (tmp_path / "other").write_text(wrong)
        with node_cache(tmp_path, "-basecorefile", str(tmp_path / "other")) as server:
            assert server.process.wait(100) == 1
    assert host("nft") == before


@isolated
def test_a_port_that_another_program_has_leaves_nothing(tmp_path: Path) -> None:
    before = prepare()
    with occupied("0.0.0.0"), node_cache(tmp_path) as server:
        assert server.process.wait(100) == 1
    assert host("nft") == before


@isolated
def test_without_net_admin_it_serves_and_counts(tmp_path: Path) -> None:
    run("ip", "link", "set", "lo", "up")
    run("ip", "addr", "add", f"{LOCAL}/32", "dev", "lo")
    metrics = TEMPLATE.replace("    loop\n", "    prometheus 169.254.20.10:9253\n")
    (tmp_path / "other").write_text(metrics)
    base = ("-basecorefile", str(tmp_path / "other"))
    with node_cache(tmp_path, *base, prefix=UNPRIVILEGED) as server:
        server.wait_for("corepy-")
        assert ask((LOCAL, 53), "example.org", "A").header.rcode == 0
        counts = [errors(LOCAL, port) for port in (9253, 9353)]
        assert server.stop() == 0
    for found in counts:
        assert found.pop("configmap") == found.pop("iptables_lock") == 0
        assert found.keys() == {"interface_add", "interface_check", "iptables"}
        assert min(found.values()) > 0
