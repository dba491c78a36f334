"""node-cache as the official manifest runs it, and beside a corepy with a Corefile of its own.

The manifest is kubernetes/kubernetes, cluster/addons/dns/nodelocaldns. The interfaces are bridges
with corepy's mark, made beforehand, since this kernel may lack the dummy driver: they are treated
as if corepy had added them.
"""

from __future__ import annotations

import re
import socket
import sys
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from corepy.testing import ask, run_command, run_program
from corepy.testing.command import wait_until
from corepy.testing.netns import addresses, host, isolated, placed_rules, run
from corepy_nodecache.link import Links
from corepy_nodecache.model import MARK, Address

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from corepy.testing import Command

NODE, SERVICE, SIX, OTHER = "169.254.20.10", "10.96.0.10", "fd00::10", "169.254.20.11"
CLUSTER_DNS, RESOLVER = "10.96.0.99", "10.96.0.53"
ARGUMENTS = ("-localip", f"{NODE},{SERVICE}", "-conf", "/etc/Corefile", "-upstreamsvc",
             "kube-dns-upstream")  # fmt: skip
OWN = f".:53 {{\n    bind {OTHER}\n    nodecache\n    whoami\n}}\n"
ERRORS = ("configmap", "interface_add", "interface_check", "iptables", "iptables_lock")
FORCE_TCP = " {\n            force_tcp\n    }"


def zone(name: str, cache: str, upstream: str, more: str = "") -> str:
    return f"""\
{name}:53 {{
    errors
    cache {cache}
    reload
    loop
    bind __PILLAR__LOCAL__DNS__ __PILLAR__DNS__SERVER__
    forward . {upstream}
    prometheus :9253
    {more}
    }}
"""


TO_CLUSTER = "__PILLAR__CLUSTER__DNS__" + FORCE_TCP
TEMPLATE = (
    zone(
        "cluster.local",
        "{\n            success 9984 30\n            denial 9984 5\n    }",
        TO_CLUSTER,
        "health __PILLAR__LOCAL__DNS__:8080",
    )
    + zone("in-addr.arpa", "30", TO_CLUSTER)
    + zone("ip6.arpa", "30", TO_CLUSTER)
    + zone(".", "30", "__PILLAR__UPSTREAM__SERVERS__")
)
UPSTREAMS = f"""\
.:53 {{
    bind {CLUSTER_DNS}
    template IN A {{
        answer "{{{{ .Name }}}} 60 IN A 100.64.0.1"
    }}
    template IN PTR {{
        answer "{{{{ .Name }}}} 60 IN PTR kubernetes.default.svc.cluster.local."
    }}
}}
.:53 {{
    bind {RESOLVER}
    template IN A {{
        answer "{{{{ .Name }}}} 60 IN A 192.0.2.1"
    }}
}}
"""

WRITABLE = 'mount --bind "$1" /etc && shift && exec "$@"'
READ_ONLY = WRITABLE.replace("&& shift", "&& mount -o remount,bind,ro /etc && shift")
MOUNTED_FILE = WRITABLE.replace(
    "&& shift", "&& touch /etc/Corefile && mount --bind /etc/Corefile /etc/Corefile && shift"
)


class Etc:
    """The folder that is /etc in node-cache's pod."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "etc"
        (self.folder / "coredns").mkdir(parents=True)
        (self.folder / "coredns" / "Corefile.base").write_text(TEMPLATE)
        (self.folder / "resolv.conf").write_text(f"nameserver {RESOLVER}\n")
        self.corefile = self.folder / "Corefile"

    @contextmanager
    def node_cache(
        self, *arguments: str, container: str = WRITABLE, wait: bool = True
    ) -> Iterator[Command]:
        words = ["unshare", "--mount", "sh", "-c", container, "sh", str(self.folder)]
        words += [sys.executable, "-m", "corepy", "node-cache", *arguments]
        env = {"KUBE_DNS_UPSTREAM_SERVICE_HOST": CLUSTER_DNS}
        with run_program(words, self.corefile, env=env, wait=wait) as server:
            yield server


@pytest.fixture
def etc(tmp_path: Path) -> Etc:
    return Etc(tmp_path)


def make_interface(name: str) -> None:
    run("ip", "link", "add", name, "type", "bridge")
    run("ip", "link", "set", name, "addrgenmode", "none")
    run("ip", "link", "set", name, "alias", MARK)
    run("ip", "link", "set", name, "up")


def is_there(interface: str) -> bool:
    return f" {interface}: " in run("ip", "-o", "link")


def make_tables() -> tuple[str, str, str]:
    """Make the tables, which stay; return the state of the host."""
    for program in ("iptables-nft", "ip6tables-nft"):
        for table in ("raw", "filter"):
            run(program, "-t", table, "-N", "OTHER")
    return host("nft")


def rules() -> list[str]:
    """All rules of both kinds of iptables, without their comments."""
    found = [*placed_rules("nft"), *placed_rules("legacy")]
    return sorted(re.sub(r' -m comment --comment "[^"]*"', "", it) for it in found)


def are_rules(wanted: list[str]) -> bool:
    """Compare the rules while processes may change them."""
    try:
        return rules() == sorted(wanted)
    except OSError:  # a table changed while it was read
        return False


def dns_rules(ip: str) -> list[str]:
    """The rules for port 53 in the table of node-cache (cmd/node-cache/app: initIptables)."""
    family, length = (6, 128) if ":" in ip else (4, 32)
    found = []
    for proto in ("tcp", "udp"):
        to = f"-d {ip}/{length} -p {proto} -m {proto} --dport 53"
        back = f"-s {ip}/{length} -p {proto} -m {proto} --sport 53"
        found += [
            f"{family} raw -A PREROUTING {to} -j NOTRACK",
            f"{family} filter -A INPUT {to} -j ACCEPT",
            f"{family} raw -A OUTPUT {back} -j NOTRACK",
            f"{family} filter -A OUTPUT {back} -j ACCEPT",
            f"{family} raw -A OUTPUT {to} -j NOTRACK",
        ]
    return found


def all_rules(ip: str, health: int = 8080) -> list[str]:
    """The twelve rules of node-cache for an address."""
    family, length = (6, 128) if ":" in ip else (4, 32)
    to = f"-d {ip}/{length} -p tcp -m tcp --dport {health}"
    back = f"-s {ip}/{length} -p tcp -m tcp --sport {health}"
    return [
        *dns_rules(ip),
        f"{family} raw -A OUTPUT {to} -j NOTRACK",
        f"{family} raw -A OUTPUT {back} -j NOTRACK",
    ]


def answer(ip: str, name: str, qtype: str = "A", *, tcp: bool = False) -> list[str]:
    reply = ask((ip, 53), name, qtype, tcp=tcp)
    assert reply.header.rcode == 0
    return [str(record.rdata) for record in reply.rr]


def serves(*ips: str) -> bool:
    return all(ask((ip, 53), "example.org").header.rcode == 0 for ip in ips)


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as response:
        text: str = response.read().decode()
    return text


def make_upstream_addresses() -> None:
    for ip in (CLUSTER_DNS, RESOLVER):
        run("ip", "addr", "add", f"{ip}/32", "dev", "lo")


@isolated
def test_the_official_manifest(etc: Etc) -> None:
    """Its arguments and no others, its paths and its four zones."""
    make_upstream_addresses()
    before = make_tables()
    make_interface("nodelocaldns")
    with run_command(UPSTREAMS), etc.node_cache(*ARGUMENTS) as server:
        assert addresses("nodelocaldns") == [f"{SERVICE}/32", f"{NODE}/32"]
        assert rules() == sorted(all_rules(NODE) + all_rules(SERVICE))
        for ip, tcp in ((NODE, False), (SERVICE, True)):
            assert answer(ip, "kubernetes.default.svc.cluster.local", tcp=tcp) == ["100.64.0.1"]
            assert answer(ip, "example.org", tcp=tcp) == ["192.0.2.1"]
        name = ["kubernetes.default.svc.cluster.local."]
        assert answer(NODE, "1.0.64.100.in-addr.arpa", "PTR") == name
        assert answer(NODE, "1.ip6.arpa", "PTR") == name
        wait_until(etc.corefile.exists)
        assert get(f"http://{NODE}:8080/health") == "OK"
        for port in (9253, 9353):
            metrics = get(f"http://{NODE}:{port}/metrics")
            servers = re.findall(r'dns_requests_total\{[^}]*server="dns://([^"]*):53"', metrics)
            assert set(servers) == {NODE, SERVICE}
            found = re.findall(r'nodecache_setup_errors_total\{errortype="(\w+)"\} (\S+)', metrics)
            assert {kind: float(count) for kind, count in found} == dict.fromkeys(ERRORS, 0)
        assert server.stop() == 0
    assert host("nft") == before


@isolated
def test_beside_a_corepy_with_a_corefile_of_its_own(etc: Etc) -> None:
    """Each repairs and removes its own interface, addresses and rules, and leaves the other's.

    /etc/Corefile is a file of the node, a mount point that no rename can replace.
    """
    before = make_tables()
    make_interface("nodelocaldns")
    make_interface("nodecache")
    one = all_rules(NODE, 8099) + all_rules(SIX, 8099)
    two = dns_rules(OTHER)
    arguments = (*ARGUMENTS, "-localip", f"{NODE},{SIX}", "-health-port=8099")
    with etc.node_cache(*arguments, container=MOUNTED_FILE) as first:
        wait_until(lambda: f"bind {NODE} {SIX}" in etc.corefile.read_text())
        with run_command(OWN) as second:
            assert addresses("nodelocaldns") == [f"{NODE}/32", f"{SIX}/128"]
            assert addresses("nodecache") == [f"{OTHER}/32"]
            assert rules() == sorted(one + two)
            for program in ("iptables-nft", "ip6tables-nft"):
                run(program, "-t", "raw", "-F")
            wait_until(lambda: are_rules(one + two))
            assert second.stop() == 0
        assert not is_there("nodecache")
        assert (rules(), addresses("nodelocaldns")) == (sorted(one), [f"{NODE}/32", f"{SIX}/128"])
        assert first.stop() == 0
    assert host("nft") == before


@isolated
def test_beside_a_corepy_on_the_same_interface(etc: Etc) -> None:
    """Both use it, as two versions do in an upgrade; the last one removes it. /etc is read-only."""
    before = make_tables()
    make_interface("nodelocaldns")
    own = OWN.replace(OTHER, f"{OTHER} {SERVICE}").replace(
        "nodecache\n", "nodecache {\n        interface nodelocaldns\n    }\n"
    )
    with (
        etc.node_cache(*ARGUMENTS, container=READ_ONLY) as first,
        run_command(own) as second,
    ):
        first.wait_for("cannot write /etc/Corefile: Read-only file system; the server runs")
        everything = [f"{SERVICE}/32", f"{NODE}/32", f"{OTHER}/32"]
        assert addresses("nodelocaldns") == everything
        # A rule of the shared address may be there with the comment of each.
        assert set(rules()) == {*all_rules(NODE), *all_rules(SERVICE), *dns_rules(OTHER)}
        assert first.stop() == 0
        assert addresses("nodelocaldns") == [f"{SERVICE}/32", f"{OTHER}/32"]
        wait_until(lambda: are_rules(dns_rules(SERVICE) + dns_rules(OTHER)))
        assert serves(SERVICE, OTHER)
        assert second.stop() == 0
    assert host("nft") == before


@isolated
def test_a_start_that_fails_removes_the_interface(etc: Etc) -> None:
    """With the address of kube-dns on it, the node would have no DNS."""
    before = make_tables()
    make_interface("nodelocaldns")
    Links().ensure({Address("nodelocaldns", SERVICE)})  # as a process that was killed leaves it
    with (
        socket.create_server((SERVICE, 53)),
        etc.node_cache(*ARGUMENTS, wait=False) as server,
    ):
        assert server.process.wait(100) == 1
    assert f"{SERVICE}:53" in server.output
    assert host("nft") == before
