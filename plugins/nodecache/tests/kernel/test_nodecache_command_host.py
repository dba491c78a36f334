"""The program `node-cache` with the argument list of the official manifest, in a network namespace."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from corepy.testing import Command, ask
from corepy.testing.command import wait_until
from corepy.testing.netns import addresses, host, isolated, placed_rules, run
from corepy_nodecache.model import MARK, DesiredState, UntrackedEndpoint, spec

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


@contextmanager
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
    """The rules of corepy, in the table that it has chosen."""
    found = [*placed_rules("nft"), *placed_rules("legacy")]
    return sorted(it for it in found if MARK in it)


def wanted(*ips: str) -> list[str]:
    """The rules of node-cache for these addresses: twelve each."""
    dns = {UntrackedEndpoint("dns", ip, 53) for ip in ips}
    health = {UntrackedEndpoint("health", ip, 8080) for ip in ips}
    found = DesiredState(endpoints=frozenset(dns | health)).rules()
    return sorted(f"{it.family} {it.table} -A {spec(it)}" for it in found)


def prepare() -> tuple[str, str, str]:
    """Make the interface, since this kernel may lack the dummy driver, and the tables."""
    run("ip", "link", "add", "nodelocaldns", "type", "bridge")
    run("ip", "link", "set", "nodelocaldns", "addrgenmode", "none")
    run("ip", "link", "set", "nodelocaldns", "up")
    for program in ("iptables-nft", "ip6tables-nft"):
        for table in ("raw", "filter"):
            run(program, "-t", table, "-N", "OTHER")
    return host("nft")


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
    (tmp_path / "other").write_text(text)
    with node_cache(tmp_path, "-basecorefile", str(tmp_path / "other")) as server:
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
        texts = [run("curl", "-s", f"http://{LOCAL}:{port}/metrics") for port in (9253, 9353)]
        assert server.stop() == 0
    name = "coredns_nodecache_setup_errors_total"
    for text in texts:
        counts = dict(line.split() for line in text.splitlines() if line.startswith(name))
        assert counts[f'{name}{{errortype="configmap"}}'] == "0"
        assert int(counts[f'{name}{{errortype="interface_add"}}']) > 0
        assert int(counts[f'{name}{{errortype="interface_check"}}']) > 0
        assert int(counts[f'{name}{{errortype="iptables"}}']) > 0
