"""docs/kubernetes-networks.md and docs/kubernetes-upgrade.md: their steps on a node of this machine.

The node is a network namespace with a pod. The rules of kube-proxy and of Calico are written down as
those programs install them, with the programs of iptables and nftables. kube-proxy with IPVS is in
plugins/nodecache/tests/kernel/test_nodecache_uml.py, because this kernel may lack it.
"""

from __future__ import annotations

import re
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from corepy.testing import Upstream, http_get, run_command
from corepy.testing.netns import addresses, isolated, pod, rules, run
from corepy_nodecache.model import MARK

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent.parent
NODE, NODE6 = "169.254.20.10", "fd00:53::10"
POD, POD6 = "10.5.5.2", "fd05::2"
KUBE_DNS, KUBE_DNS_UPSTREAM, ENDPOINT = "10.96.0.10", "10.96.0.11", "10.244.0.53"
NAME = "kubernetes.default.svc.cluster.local"
RECORDS = {f"{NAME}. A": [f"{NAME} 60 IN A 100.64.0.1"]}
MODES = ["legacy", "nft", "nftables"]

# kube-proxy with iptables: the Services kube-dns and kube-dns-upstream have the same endpoint.
IPTABLES = f"""\
*mangle
:KUBE-IPTABLES-HINT - [0:0]
COMMIT
*nat
:KUBE-SERVICES - [0:0]
:KUBE-SVC-DNS - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A KUBE-SERVICES -d {KUBE_DNS}/32 -p udp -m udp --dport 53 -j KUBE-SVC-DNS
-A KUBE-SERVICES -d {KUBE_DNS}/32 -p tcp -m tcp --dport 53 -j KUBE-SVC-DNS
-A KUBE-SERVICES -d {KUBE_DNS_UPSTREAM}/32 -p tcp -m tcp --dport 53 -j KUBE-SVC-DNS
-A KUBE-SVC-DNS -p udp -m udp -j DNAT --to-destination {ENDPOINT}:PORT
-A KUBE-SVC-DNS -p tcp -m tcp -j DNAT --to-destination {ENDPOINT}:PORT
COMMIT
*filter
:KUBE-FIREWALL - [0:0]
-A INPUT -j KUBE-FIREWALL
-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
COMMIT
"""
# kube-proxy with nftables: a table of its own, maps of services, and a check of cluster addresses.
NFTABLES = f"""\
table ip kube-proxy {{
    chain dns-udp {{
        meta l4proto udp dnat to {ENDPOINT}:PORT
    }}
    chain dns-tcp {{
        meta l4proto tcp dnat to {ENDPOINT}:PORT
    }}
    set cluster-ips {{
        type ipv4_addr
        elements = {{ {KUBE_DNS}, {KUBE_DNS_UPSTREAM} }}
    }}
    map service-ips {{
        type ipv4_addr . inet_proto . inet_service : verdict
        elements = {{ {KUBE_DNS} . udp . 53 : goto dns-udp, {KUBE_DNS} . tcp . 53 : goto dns-tcp,
            {KUBE_DNS_UPSTREAM} . tcp . 53 : goto dns-tcp }}
    }}
    chain cluster-ips-check {{
        ip daddr @cluster-ips reject
    }}
    chain services {{
        ip daddr . meta l4proto . th dport vmap @service-ips
    }}
    chain nat-prerouting {{
        type nat hook prerouting priority -100
        jump services
    }}
    chain nat-output {{
        type nat hook output priority -100
        jump services
    }}
    chain filter-forward {{
        type filter hook forward priority 0
        ct state new jump cluster-ips-check
    }}
    chain filter-output {{
        type filter hook output priority 0
        ct state new jump cluster-ips-check
    }}
}}
"""
# Calico's rules for packets between a pod and its node (Felix: felix/rules/static.go), with a policy for this pod, and one
# for host endpoints that denies all.
CALICO = """\
*filter
:cali-INPUT - [0:0]
:cali-OUTPUT - [0:0]
:cali-wl-to-host - [0:0]
:cali-fw-pod0 - [0:0]
:cali-po-egress - [0:0]
-I INPUT 1 -j cali-INPUT
-I OUTPUT 1 -j cali-OUTPUT
-A cali-INPUT -i pod0 -g cali-wl-to-host
-A cali-OUTPUT -o pod0 -j RETURN
-A cali-OUTPUT -o lo -j RETURN
-A cali-OUTPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A cali-OUTPUT -j DROP
-A cali-wl-to-host -i pod0 -j cali-fw-pod0
-A cali-wl-to-host -j ENDPOINT_TO_HOST
-A cali-fw-pod0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A cali-fw-pod0 -m conntrack --ctstate INVALID -j DROP
-A cali-fw-pod0 -j cali-po-egress
-A cali-fw-pod0 -m mark --mark 0x10000/0x10000 -j RETURN
-A cali-fw-pod0 -j DROP
COMMIT
"""
ALLOW_DNS = "".join(
    f"-A cali-po-egress -d {NODE}/32 -p {protocol} -m {protocol} --dport 53"
    " -j MARK --set-xmark 0x10000/0x10000\n"
    for protocol in ("udp", "tcp")
)
# A firewall of the node, ahead of all other rules: replies pass because their connection is known.
FIREWALL = f"""\
*filter
:fw-in - [0:0]
:fw-out - [0:0]
-I INPUT 1 -j fw-in
-I OUTPUT 1 -j fw-out
-A fw-in -i lo -j ACCEPT
-A fw-in -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A fw-in -d {NODE}/32 -p udp -m udp --dport 53 -j ACCEPT
-A fw-in -d {NODE}/32 -p tcp -m tcp --dport 53 -j ACCEPT
-A fw-in -j DROP
-A fw-out -o lo -j ACCEPT
-A fw-out -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A fw-out -j DROP
COMMIT
"""


def corefiles(path: str) -> list[str]:
    """The Corefiles of a manifest."""
    found = yaml.safe_load_all((ROOT / "deploy" / path).read_text())
    return [it["data"]["Corefile"] for it in found if it["kind"] == "ConfigMap"]


(TAKEOVER,) = corefiles("kustomize/components/takeover/corefile.yaml")
(SUPERVISED,) = corefiles("kubernetes/node-local.yaml")
DIRECT = SUPERVISED.replace("force_tcp", "prefer_udp")
"""As the manifest, but the tests' server of the cluster is queried as the tests count."""

PRIMARY, SECONDARY = (
    it.replace("100.64.0.10", "{$CLUSTER_DNS}") for it in corefiles("kubernetes/node-local-ha.yaml")
)


class Cluster:
    """The node's network: the DNS of the cluster, and the prefix of commands in the pod."""

    def __init__(self, dns: Upstream, inside: tuple[str, ...]) -> None:
        self.dns = dns
        self.inside = inside

    def answers(self, ip: str, *flags: str) -> str:
        """What the pod gets from `ip`; empty without a reply."""
        command = (*self.inside, "dig", "+short", "+tries=1", "+time=1", f"@{ip}", *flags, NAME)
        lines = run(*command, check=False).splitlines()
        return "".join(line for line in lines if not line.startswith(";"))

    def asks(self, *ips: str) -> int:
        """Query over UDP and TCP; return how many of these queries the cluster's DNS gets."""
        before = self._received()
        for ip in ips:
            assert [self.answers(ip), self.answers(ip, "+tcp")] == ["100.64.0.1"] * 2, ip
        return self._received() - before

    def _received(self) -> int:
        return sum(NAME in question for question, _ in self.dns.queries)

    def proxied(self, mode: str) -> None:
        """Install the rules of kube-proxy."""
        text = NFTABLES if mode == "nftables" else IPTABLES
        text = text.replace("PORT", str(self.dns.address[1]))
        if mode == "nftables":
            run("nft", "-f", "-", text=text)
        else:
            run(f"iptables-{mode}-restore", "--noflush", text=text)


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A node with a pod, and the cluster's DNS at its endpoint."""
    run("ip", "link", "add", "nodecache", "type", "bridge")  # this kernel may lack dummy
    run("ip", "addr", "add", f"{ENDPOINT}/32", "dev", "lo")
    with Upstream(RECORDS, host=ENDPOINT) as dns, pod(f"{POD}/24", "10.5.5.1/24") as inside:
        run("ip", "route", "add", "10.96.0.0/16", "dev", "lo", "src", "10.5.5.1")
        yield Cluster(dns, inside)


@contextmanager
def cache(corefile: str, upstream: str = KUBE_DNS_UPSTREAM) -> Iterator[None]:
    """Run the cache; its rules are in place, and it stops without an error."""
    env = {"CLUSTER_DNS": upstream, "READY_ADDRESS": "127.53.0.1"}
    with run_command(corefile, env=env) as server:
        yield
        assert server.stop() == 0
    assert not re.search(r"\[(ERROR|FATAL)\]|Traceback", server.output), server.output


def ours() -> list[str]:
    return [rule for kind in ("legacy", "nft") for rule in rules(kind) if MARK in rule]


def flows(*ips: str) -> list[str]:
    """The tracked connections of the pod to these addresses; the server has asked itself at first."""
    lines = run("conntrack", "-L").splitlines() + run("conntrack", "-L", "-f", "ipv6").splitlines()
    pairs = [f"src={POD6 if ':' in ip else POD} dst={ip} " for ip in ips]
    return [line for line in lines if any(pair in line for pair in pairs)]


def proxy_rules(mode: str) -> list[str]:
    """The rules of kube-proxy."""
    if mode == "nftables":
        return run("nft", "list", "table", "ip", "kube-proxy").splitlines()
    return [rule for rule in rules(mode) if "KUBE-" in rule]


@pytest.mark.parametrize("mode", MODES)
@isolated
def test_taking_over_the_address_of_kube_dns(mode: str) -> None:
    """Queries to it go to kube-dns before, to the cache meanwhile, and to kube-dns again after."""
    with cluster() as node:
        node.proxied(mode)
        before = proxy_rules(mode)
        assert node.asks(KUBE_DNS) == 2
        with cache(TAKEOVER):
            assert node.asks(KUBE_DNS) == 1  # a miss, which reaches kube-dns-upstream
            run("conntrack", "-D", "-d", KUBE_DNS, check=False)
            assert node.asks(KUBE_DNS, NODE) == 0
            assert flows(KUBE_DNS, NODE) == []
            assert proxy_rules(mode) == before
        assert node.asks(KUBE_DNS) == 2
        assert (proxy_rules(mode), ours(), addresses("nodecache")) == (before, [], [])


@pytest.mark.parametrize("mode", ["legacy", "nftables"])
@isolated
def test_the_link_local_address_beside_kube_proxy(mode: str) -> None:
    """The cache forwards to kube-dns itself, which pods that do not use the cache reach as before."""
    with cluster() as node:
        node.proxied(mode)
        with cache(DIRECT, KUBE_DNS):
            assert node.asks(NODE) == 1
            assert node.asks(NODE) == 0
            assert flows(NODE) == []
            assert node.asks(KUBE_DNS) == 2


@isolated
def test_a_policy_of_calico_that_denies_by_default() -> None:
    """A pod needs a policy for the address of the cache, and Felix the action Accept."""
    with cluster() as node, cache(DIRECT, dns_of(node)):
        untracked = ours()
        run("iptables-nft-restore", "--noflush", text=CALICO.replace("ENDPOINT_TO_HOST", "DROP"))
        assert node.answers(NODE) == ""
        policy = f"*filter\n{ALLOW_DNS}COMMIT\n"
        run("iptables-nft-restore", "--noflush", text=policy)
        assert node.answers(NODE) == ""
        run("iptables-nft", "-R", "cali-wl-to-host", "2", "-j", "ACCEPT")
        assert node.asks(NODE) == 1
        assert flows(NODE) == []
        assert ours() == untracked


@isolated
def test_a_firewall_that_accepts_replies_to_known_connections() -> None:
    """The cache must leave tracking on."""
    with cluster() as node:
        upstream = dns_of(node)
        with cache(DIRECT, upstream):
            run("iptables-nft-restore", "--noflush", text=FIREWALL)
            received = requests()
            assert node.answers(NODE) == ""
            assert requests() > received  # as the page describes the symptom
        documented = "    nodecache {\n        iptables off\n    }\n"
        assert documented in (ROOT / "docs/kubernetes-networks.md").read_text()
        with cache(DIRECT.replace("    nodecache\n", documented), upstream):
            assert node.asks(NODE) >= 1
            assert ours() == []
            assert flows(NODE) != []


def dns_of(node: Cluster) -> str:
    return "{}:{}".format(*node.dns.address)


def requests() -> float:
    """The queries that the cache has counted."""
    page = http_get(9253, "/metrics").text
    counted = re.findall(r"^coredns_dns_requests_total\{.* (\S+)$", page, re.MULTILINE)
    return sum(map(float, counted))


@isolated
def test_both_address_families() -> None:
    """The cache at both addresses, for a pod with both; the upstream has one."""
    both = DIRECT.replace(f"bind {NODE}", f"bind {NODE} {NODE6}")
    with cluster() as node:
        run("ip", "addr", "add", "fd05::1/64", "dev", "pod0", "nodad")
        for words in (f"addr add {POD6}/64 dev eth0 nodad", "route add default via fd05::1"):
            run(*node.inside, "ip", "-6", *words.split())
        with cache(both, dns_of(node)):
            assert addresses("nodecache") == [f"{NODE}/32", f"{NODE6}/128"]
            assert node.asks(NODE, NODE6) == 1
            assert flows(NODE, NODE6) == []


@isolated
def test_coredns_nodecache_is_replaced_one_daemon_after_the_other() -> None:
    """As docs/kubernetes-upgrade.md says; its rules, which have no mark, stay beside those of corepy."""
    for words in (
        f"-t raw -A PREROUTING -d {NODE}/32 -p udp -m udp --dport 53 -j NOTRACK",
        f"-A INPUT -d {NODE}/32 -p udp -m udp --dport 53 -j ACCEPT",
    ):
        run("iptables-legacy", *words.split())
    theirs = rules("legacy")
    plain = f".:53 {{\n    bind {NODE}\n    forward . {{$CLUSTER_DNS}}\n}}\n"
    with cluster() as node, ExitStack() as stack:
        run("ip", "addr", "add", f"{NODE}/32", "dev", "nodecache")
        env = {"CLUSTER_DNS": dns_of(node)}
        first, second = (stack.enter_context(run_command(plain, env=env)) for _ in range(2))
        for old, new in ((first, SECONDARY), (second, PRIMARY)):
            stack.enter_context(run_command(new, env=env))
            node.asks(NODE)
            assert old.stop() == 0
            node.asks(NODE)
        assert [rule for rule in rules("legacy") if MARK not in rule] == theirs
        assert len(ours()) == 12
    assert (addresses("nodecache"), len(ours())) == ([f"{NODE}/32"], 12)  # skipteardown
