"""The argument lists of public manifests and charts, and Corefiles of the shapes that they have.

Read in November 2026 at the sources; the values here are our own:

* official: kubernetes/kubernetes, cluster/addons/dns/nodelocaldns
* deliveryhero: deliveryhero/helm-charts, stable/node-local-dns
* lablabs: lablabs/k8s-nodelocaldns-helm, charts/node-local-dns
* kubespray: kubernetes-sigs/kubespray, roles/kubernetes-apps/ansible
* kops: kubernetes/kops, addons/nodelocaldns.addons.k8s.io
* rke2: rancher/rke2-charts, packages/rke2-coredns
* gardener: gardener/gardener, pkg/component/networking/nodelocaldns
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from corepy.commands.run_server import check_generated, outline_generated
from corepy.testing import ask, run_program
from corepy.testing.command import wait_until
from corepy.testing.netns import isolated, placed_rules, run
from corepy_nodecache.node_cache.corefile_maker import CorefileMaker
from corepy_nodecache.node_cache.flags import read_flags, require_addresses

SERVICES = {
    "KUBE_DNS_UPSTREAM_SERVICE_HOST": "10.96.7.7",
    "NODE_LOCAL_DNS_UPSTREAM_SERVICE_HOST": "10.96.7.7",
}


def zone(name: str, bind: str, to: str, *more: str, tcp: bool = True) -> str:
    """One server block as these templates have it, with their uneven indentation."""
    forward = f"forward . {to} {{\n            force_tcp\n    }}" if tcp else f"forward . {to}"
    lines = ["errors", "cache 30", "reload", "loop", f"bind {bind}", forward, *more]
    return f"{name} {{\n" + "".join(f"    {line}\n" for line in lines) + "    }\n"


SERVFAIL = 2
PILLARS = "__PILLAR__LOCAL__DNS__ __PILLAR__DNS__SERVER__"
CLUSTER, UPSTREAM = "__PILLAR__CLUSTER__DNS__", "__PILLAR__UPSTREAM__SERVERS__"
METRICS = "prometheus :9253"

CASES = {
    "official": (
        ["-localip", "169.254.20.10,10.96.0.10", "-conf", "/etc/Corefile", "-upstreamsvc",
         "kube-dns-upstream"],
        zone("cluster.local:53", PILLARS, CLUSTER, METRICS, "health 169.254.20.10:8080")
        + zone("in-addr.arpa:53", PILLARS, CLUSTER, METRICS)
        + zone(".:53", PILLARS, UPSTREAM, METRICS, tcp=False),
        ["address 169.254.20.10 10.96.0.10", "forward . 10.96.7.7 {", "forward . /etc/resolv.conf"],
    ),
    "deliveryhero": (
        ["-localip", "169.254.20.25,172.20.0.10", "-conf", "/etc/Corefile", "-upstreamsvc",
         "node-local-dns-upstream", "-skipteardown=false", "-setupinterface=true",
         "-setupiptables=true"],
        zone("cluster.local:53", "0.0.0.0", CLUSTER, "template IN AAAA {\n rcode NOERROR\n }",
             METRICS, "health :8090")
        + zone(".:53", "0.0.0.0", "/etc/resolv.conf", METRICS),
        ["address 169.254.20.25 172.20.0.10", "bind 0.0.0.0", "nodecache {"],
    ),
    "deliveryhero without iptables": (
        ["-localip", "169.254.20.25", "-conf", "/etc/Corefile", "-upstreamsvc",
         "node-local-dns-upstream", "-skipteardown=true", "-setupinterface=false",
         "-setupiptables=false"],
        zone(".:53", "0.0.0.0", CLUSTER, METRICS),
        ["device off", "iptables off", "nodecache skipteardown {"],
    ),
    "lablabs": (
        ["-localip", "169.254.20.11", "-skipteardown=true", "-setupinterface=true",
         "-setupiptables=false", "-quiet", "-health-port", "8080", "-upstreamsvc", "kube-dns",
         "-conf", "/etc/Corefile", "-syncinterval", "1ns", "-interfacename", "nodelocaldns",
         "-metrics-listen-address", "0.0.0.0:9353"],
        zone(".:53", "169.254.20.11", UPSTREAM, METRICS, "health 169.254.20.11:8080",
             "log . combined {\n class all\n }", tcp=False)
        + zone("ip6.arpa:53", "169.254.20.11", f"{UPSTREAM} {{\n }}", METRICS, tcp=False),
        ["interval 1s", "iptables off", "forward . /etc/resolv.conf {"],
    ),
    "kubespray": (
        ["-localip", "169.254.25.10", "-conf", "/etc/Corefile", "-upstreamsvc", "coredns",
         "-skipteardown"],
        zone("cluster.local:53", "169.254.25.10", "10.233.0.3", METRICS,
             "health 169.254.25.10:9254")
        + zone(".:53", "169.254.25.10", "/etc/resolv.conf", METRICS, tcp=False),
        ["nodecache skipteardown {", "address 169.254.25.10"],
    ),
    "kops": (
        ["-localip=169.254.20.10", "-conf=/etc/Corefile", "-upstreamsvc=kube-dns-upstream",
         "-setupiptables=false"],
        zone("cluster.local:53", "169.254.20.10", "100.64.0.10", METRICS,
             "health 169.254.20.10:3989")
        + zone(".:53", "169.254.20.10", UPSTREAM, METRICS, "dns64", tcp=False),
        ["iptables off", "dns64"],
    ),
    "rke2": (
        ["-localip", "169.254.20.10,10.43.0.10", "-conf", "/etc/Corefile", "-upstreamsvc",
         "kube-dns-upstream"],
        zone("cluster.local:53", PILLARS, CLUSTER, METRICS, "health 169.254.20.10:8080")
        + zone(".:53", PILLARS, UPSTREAM, METRICS),
        ["address 169.254.20.10 10.43.0.10"],
    ),
    "rke2 with cilium": (
        ["-localip", "169.254.20.10", "-conf", "/etc/Corefile", "-upstreamsvc",
         "kube-dns-upstream", "-skipteardown=true", "-setupinterface=false",
         "-setupiptables=false"],
        zone("cluster.local:53", "0.0.0.0", CLUSTER, METRICS, "health")
        + zone(".:53", "0.0.0.0", UPSTREAM, METRICS),
        ["device off", "iptables off"],
    ),
    "gardener": (
        ["-localip", "169.254.20.10", "-conf", "/etc/Corefile", "-upstreamsvc",
         "kube-dns-upstream", "-health-port", "8099"],
        zone("cluster.local:53", "169.254.20.10", "100.104.0.10", METRICS,
             "health 169.254.20.10:8099", "import custom/*.override")
        + zone(".:53", "169.254.20.10", "__PILLAR__UPSTREAM__SERVERS__", METRICS,
               "import custom/*.override"),
        ["health_port 8099"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_chart(name: str, tmp_path: Path) -> None:
    """Its arguments are accepted, and its template becomes a valid Corefile with *nodecache*."""
    arguments, template, lines = CASES[name]
    base = tmp_path / "Corefile.base"
    base.write_text(template)
    options, warnings = read_flags(
        [*arguments, "-basecorefile", str(base), "-kubednscm", str(tmp_path)], {}
    )
    require_addresses(options)
    maker = CorefileMaker(options, SERVICES)
    candidate = maker.candidate(maker.look())
    assert (warnings, list(candidate.problems)) == ([], [])
    assert candidate.corefile is not None
    assert check_generated(candidate.corefile) == ()
    assert [it for it in lines if f" {it}\n" not in candidate.corefile.text] == []
    directives = [
        block.directives.count("nodecache") for block in outline_generated(candidate.corefile)
    ]
    assert directives[0] == 1
    assert sum(directives) == 1


CONTAINER = 'mount --bind "$1" /etc && shift && exec "$@"'
IN_A_NAMESPACE = [
    # chart, an address to ask, and rules while it serves; the others serve likewise
    ("deliveryhero", "172.20.0.10", 24),
    ("lablabs", "169.254.20.11", 0),
]


@pytest.mark.parametrize(("name", "address", "expected"), IN_A_NAMESPACE)
@isolated
def test_a_chart_in_a_namespace(name: str, address: str, expected: int, tmp_path: Path) -> None:
    """It serves with the chart's own paths, and has the rules that the chart asks for."""
    arguments, template, _ = CASES[name]
    (tmp_path / "coredns").mkdir()
    (tmp_path / "coredns" / "Corefile.base").write_text(template)
    (tmp_path / "resolv.conf").write_text("nameserver 192.0.2.53\n")
    run("ip", "link", "add", "nodelocaldns", "type", "bridge")  # the kernel may lack dummy links

    def rules() -> int:
        return len([*placed_rules("nft"), *placed_rules("legacy")])

    def answers() -> bool:
        try:
            return ask((address, 53), "nothing.test", timeout=10).header.rcode == SERVFAIL
        except OSError:  # not yet
            return False

    words = ["unshare", "--mount", "sh", "-c", CONTAINER, "sh", str(tmp_path)]
    words += [sys.executable, "-m", "corepy", "node-cache", *arguments]
    with run_program(words, tmp_path / "Corefile", env=SERVICES, wait=False) as server:
        wait_until(answers)  # with -quiet there is no banner
        wait_until(lambda: rules() == expected)
        assert "[ERROR] plugin/nodecache" not in server.output
        assert server.stop() == 0
    assert rules() == 0
