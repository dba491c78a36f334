"""The highly available node-local cache: two servers on one address, as two DaemonSets run them.

The two Corefiles are those of k8s/node-local-ha.yaml of coredns-nodecache, word for word. Everything
around them is made to fit: the cluster's DNS and the node's resolver are knot, on the addresses that
the Corefiles and the resolv.conf name, and the interface is a bridge made beforehand, since this
kernel may lack the dummy driver.
"""

from __future__ import annotations

import re
import signal
import subprocess
import time
import urllib.request
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, NamedTuple

import pytest
from prometheus_client.parser import text_string_to_metric_families

from corepy.testing import Command, ask, run_command
from corepy.testing.command import wait_until
from corepy.testing.netns import addresses, isolated, rules, run
from corepy_nodecache.model import MARK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NODE = ("169.254.20.10", 53)
CLUSTER_DNS, RESOLVER = "100.64.0.10", "100.64.0.53"
RATE, SECONDS = 5000, 16

CLUSTER = f"""\
cluster.local:53 {{
    errors
    cache {{
      success 9984 30
      denial 9984 5
      prefetch 3 60s 15%
    }}
    reload
    loop
    bind 169.254.20.10 # Set your cluster dns to this
    NODECACHE
    template IN AAAA {{
      rcode NOERROR
    }}
    forward . {CLUSTER_DNS} {{ # Kube-DNS IP
      force_tcp
    }}
    prometheus :METRICS
    health 169.254.20.10:HEALTH
    }}
"""
REST = """\
ZONE:53 {
    errors
    CACHE
    reload
    loop
    bind 169.254.20.10
    NODECACHE
    template IN AAAA {
      rcode NOERROR
    }
    forward . /etc/resolv.conf {
      force_tcp
    }
    prometheus :METRICS
    }
"""
ALL = (
    CLUSTER
    + REST.replace("ZONE", "in-addr.arpa").replace("CACHE\n    reload", "cache 120\n    reload")
    + REST.replace("ZONE", ".").replace(
        "CACHE\n    reload", "cache {\n      prefetch 3 60s 15%\n    }\n    reload"
    )
)

ZONES = {
    "cluster.local": "kubernetes.default.svc A 100.64.0.1\n"
    + "".join(f"s{number}.default.svc A 100.64.1.{number}\n" for number in range(100)),
    "in-addr.arpa": "1.0.64.100 PTR kubernetes.default.svc.cluster.local.\n",
    ".": "www.example.org A 192.0.2.1\n",
}
SOA = "@ 60 SOA ns.invalid. admin.invalid. 1 3600 600 86400 5\n@ 60 NS ns.invalid.\n$TTL 60\n"


class Daemon(NamedTuple):
    """What the two DaemonSets differ in."""

    nodecache: str
    metrics: int
    health: int

    @property
    def corefile(self) -> str:
        lines = ALL.replace("METRICS", str(self.metrics)).replace("HEALTH", str(self.health))
        return lines.replace("    NODECACHE\n", self.nodecache)


PRIMARY = Daemon("    nodecache skipteardown\n", 9253, 8080)
SECONDARY = Daemon("", 9254, 8082)


@contextmanager
def name_servers(folder: Path) -> Iterator[None]:
    """Run knot with the cluster's zone and all others."""
    config = f"""\
server:
    rundir: {folder}
    listen: [{CLUSTER_DNS}@53, {RESOLVER}@53]
    tcp-max-clients: 200
database:
    storage: {folder}
zone:
"""
    for number, (zone, records) in enumerate(ZONES.items()):
        (folder / f"{number}.zone").write_text(SOA + records)
        config += f"  - domain: {zone}\n    file: {folder}/{number}.zone\n"
    (folder / "knot.conf").write_text(config)
    for address in (CLUSTER_DNS, RESOLVER):
        run("ip", "addr", "add", f"{address}/32", "dev", "lo")
    log = folder / "knot.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            ["knotd", "-c", str(folder / "knot.conf")], stdout=output, stderr=subprocess.STDOUT
        )
    try:
        wait_until(lambda: process.poll() is not None or "server started" in log.read_text())
        assert process.poll() is None, log.read_text()
        yield
    finally:
        process.terminate()
        process.wait(60)


class Node:
    """The machine: one interface, one resolv.conf, two daemons."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        run("ip", "link", "add", "nodecache", "type", "bridge")
        (folder / "resolv.conf").write_text(f"nameserver {RESOLVER}\n")
        stack.enter_context(name_servers(folder))

    def start(self, daemon: Daemon) -> Command:
        """Start a server that sees our resolv.conf as /etc/resolv.conf."""
        conf = self._folder / f"Corefile.{daemon.metrics}"
        conf.write_text(daemon.corefile)
        mount = f'mount --bind {self._folder}/resolv.conf /etc/resolv.conf && exec "$@"'
        prefix = ("unshare", "--mount", "sh", "-c", mount, "sh")
        command = run_command(None, "-conf", str(conf), prefix=prefix)
        return self._stack.enter_context(command)


def ours() -> list[str]:
    return [rule for kind in ("legacy", "nft") for rule in rules(kind) if MARK in rule]


def get(port: int, path: str) -> tuple[int, str]:
    with urllib.request.urlopen(f"http://{NODE[0]}:{port}{path}", timeout=5) as response:
        return response.status, response.read().decode()


def counted(daemon: Daemon) -> dict[str, float]:
    """Scrape a server; the sum over all labels for each sample name."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(get(daemon.metrics, "/metrics")[1]):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0) + sample.value
    return found


def assert_serves() -> None:
    for tcp in (False, True):
        service = ask(NODE, "kubernetes.default.svc.cluster.local", tcp=tcp)
        assert [str(rr.rdata) for rr in service.rr] == ["100.64.0.1"]
        pointer = ask(NODE, "1.0.64.100.in-addr.arpa", "PTR", tcp=tcp)
        assert str(pointer.rr[0].rdata) == "kubernetes.default.svc.cluster.local."
        assert str(ask(NODE, "www.example.org", tcp=tcp).rr[0].rdata) == "192.0.2.1"
        assert ask(NODE, "nowhere.cluster.local", tcp=tcp).header.rcode == 3
        hidden = ask(NODE, "www.example.org", "AAAA", tcp=tcp)
        assert (hidden.header.rcode, hidden.rr) == (0, [])


@isolated
def test_side_by_side(tmp_path: Path) -> None:
    with ExitStack() as stack:
        node = Node(tmp_path, stack)
        first, second = node.start(PRIMARY), node.start(SECONDARY)
        for _ in range(10):  # the kernel chooses a server by the client's port
            assert_serves()
        untracked = ours()
        assert untracked
        for daemon, server in ((PRIMARY, first), (SECONDARY, second)):
            assert get(daemon.health, "/health") == (200, "OK")
            numbers = counted(daemon)
            assert numbers["coredns_dns_requests_total"] > 0
            assert numbers["coredns_loop_detected_total"] == 0
            assert numbers["coredns_reload_last_successful"] == 1
            assert numbers["coredns_panics_total"] == 0
            assert "Running configuration SHA512" in server.output
        # Each goes without the other; the address and the rules stay for who remains.
        assert first.stop() == 0
        assert (addresses("nodecache"), ours()) == (["169.254.20.10/32"], untracked)
        assert_serves()
        first = node.start(PRIMARY)
        assert second.stop() == 0
        assert_serves()
        assert first.stop() == 0
        for server in (first, second):
            assert not re.search(r"\[(ERROR|FATAL)\]|Traceback", server.output), server.output


@contextmanager
def load(folder: Path) -> Iterator[list[str]]:
    """Ask for services at a steady rate meanwhile; the lines of dnsperf's report come at the end."""
    names = folder / "queries"
    names.write_text("".join(f"s{number}.default.svc.cluster.local A\n" for number in range(100)))
    words = ["dnsperf", "-s", NODE[0], "-d", str(names), "-Q", str(RATE), "-l", str(SECONDS)]
    process = subprocess.Popen(
        [*words, "-c", "64", "-t", "5", "-q", "30000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    report: list[str] = []
    try:
        yield report
        report += process.communicate(timeout=SECONDS * 3)[0].splitlines()
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def figure(report: list[str], name: str) -> int:
    (line,) = [line for line in report if name in line]
    return int(line.split(":")[1].split()[0])


@pytest.mark.serial
@isolated
def test_one_after_the_other_is_replaced_under_load(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """A rolling update of both DaemonSets. What is lost is reported; most of it must not be."""
    with ExitStack() as stack:
        node = Node(tmp_path, stack)
        running = {daemon: node.start(daemon) for daemon in (PRIMARY, SECONDARY)}
        assert_serves()
        with load(tmp_path) as report:
            for daemon in (PRIMARY, SECONDARY):
                time.sleep(2)
                assert running[daemon].stop(signal.SIGTERM) == 0
                time.sleep(1)
                running[daemon] = node.start(daemon)
        sent, lost = figure(report, "Queries sent"), figure(report, "Queries lost")
        assert_serves()
        for daemon, server in running.items():
            assert get(daemon.health, "/health") == (200, "OK")
            assert counted(daemon)["coredns_dns_requests_total"] > 0
            assert server.stop() == 0
    codes = next(line for line in report if "Response codes" in line)
    print(f"\nsent {sent}, lost {lost} at {RATE}/s; {codes.strip()}")
    record_property("sent", sent)
    record_property("lost", lost)
    assert sent > RATE * SECONDS * 0.5
    assert lost < sent * 0.01
    assert re.search(r"NOERROR \d+ \(100\.00%\)", codes)
