"""The default Corefiles that ship with *hosts*, rebuilt by hand, on a real server.

The line `kubernetes`, which corepy does not have yet, is left out. Addresses and ports are those of
the test; everything else is as shipped, so that an option that is refused would fail here.
"""

import pytest

from corepy import corefile
from corepy.loading.registry import find
from corepy.server.build.builder import build
from corepy.testing import Upstream, free_port, http_get, serve
from corepy.testing.command import wait_until

K3S = """\
.:{port} {{
    errors
    health 127.0.0.1:{health}
    ready 127.0.0.1:{ready}
    hosts {folder}/NodeHosts {{
      ttl 60
      reload 15s
      fallthrough
    }}
    prometheus 127.0.0.1:{metrics}
    cache 30
    loop
    reload
    loadbalance
    import {folder}/custom/*.override
    forward . {upstream}
}}
import {folder}/custom/*.server
"""
MINIKUBE = """\
.:{port} {{
    log
    errors
    health 127.0.0.1:{health} {{
       lameduck 5s
    }}
    ready 127.0.0.1:{ready}
    prometheus 127.0.0.1:{metrics}
    hosts {{
       192.168.49.1 host.minikube.internal
       fallthrough
    }}
    forward . {upstream} {{
       max_concurrent 1000
    }}
    cache 30 {{
       disable success cluster.local
       disable denial cluster.local
    }}
    loop
    reload
    loadbalance
}}
"""
KUBESPRAY = """\
.:{port} {{
    errors {{
    }}
    health 127.0.0.1:{health} {{
        lameduck 5s
    }}
    ready 127.0.0.1:{ready}
    prometheus 127.0.0.1:{metrics}
    forward . {upstream} {{
      prefer_udp
      max_concurrent 1000
    }}
    cache 30
    loop
    reload
    loadbalance
    hosts {folder}/NodeHosts {{
        fallthrough
    }}
}}
"""
KUBESPRAY_NODELOCALDNS = """\
.:{port} {{
    errors
    cache 30
    reload
    loop
    bind 127.0.0.1
    forward . {upstream}
    prometheus 127.0.0.1:{metrics}
    health 127.0.0.1:{health}
    hosts {folder}/NodeHosts {{
        fallthrough
    }}
}}
"""
AKS = r"""
health-check.localdns.local:{port} {{
    bind 127.0.0.1 127.0.0.2
    reload
    whoami
}}
.:{port} {{
    log
    bind 127.0.0.1
    hosts {folder}/NodeHosts {{
        ttl 5
        reload 5s
        fallthrough
    }}
    forward . {upstream} {{
        prefer_udp
        policy sequential
        max_concurrent 1000
    }}
    ready 127.0.0.1:{ready}
    cache 3600 {{
        success 9984
        denial 9984
        serve_stale 3600s immediate
        servfail 0
    }}
    loadbalance
    loop
    nsid localdns
    prometheus 127.0.0.1:{metrics}
    template ANY ANY internal.cloudapp.net {{
        match "^(?:[^.]+\.){{4,}}internal\.cloudapp\.net\.$"
        rcode NXDOMAIN
        fallthrough
    }}
    template ANY ANY reddog.microsoft.com {{
        rcode NXDOMAIN
    }}
}}
.:{port} {{
    errors
    bind 127.0.0.2
    hosts {folder}/NodeHosts {{
        ttl 5
        reload 5s
        fallthrough
    }}
    forward . {upstream} {{
        force_tcp
        policy sequential
        max_concurrent 1000
    }}
    cache 3600 {{
        success 9984
        denial 9984
        serve_stale 3600s verify
        servfail 0
    }}
    loop
    nsid localdns-pod
}}
"""
NODE_HOSTS = "192.168.4.4 k8smaster1\n192.168.4.10 k8snode1 k8snode1.example\n"
WWW = {"www.example. A": ["www.example. 300 A 192.0.2.1"]}


@pytest.fixture
def values(tmp_path):
    """The parts of a Corefile that differ in a test."""
    (tmp_path / "NodeHosts").write_text(NODE_HOSTS)
    (tmp_path / "custom").mkdir()
    with Upstream(WWW) as upstream:
        ports = {name: free_port() for name in ("health", "ready", "metrics")}
        yield {"folder": tmp_path, "upstream": upstream.to, "port": 0, **ports}


def records(server, name, qtype="A"):
    return [(str(rr.rdata), rr.ttl) for rr in server.ask(name, qtype).rr]


@pytest.mark.parametrize(
    ("text", "ttl"),
    [(K3S, 30), (KUBESPRAY, 30), (KUBESPRAY_NODELOCALDNS, 30), (AKS, 5)],
    ids=["k3s", "kubespray", "kubespray nodelocaldns", "AKS"],
)
def test_names_of_nodes_and_of_others(values, text, ttl):
    with serve(text.format(**values).replace("lameduck 5s", "lameduck 0s")) as server:
        for _ in range(2):  # from the file, then from the cache
            (node,) = records(server, "k8snode1.")
            assert node[0] == "192.168.4.10"
            assert 0 < node[1] <= 3600
            assert records(server, "www.example.")[0][0] == "192.0.2.1"
        assert node[1] <= ttl
        names = [name for name, _ in records(server, "10.4.168.192.in-addr.arpa.", "PTR")]
        assert sorted(names) == ["k8snode1.", "k8snode1.example."]
        assert server.ask("k8snode1.", "AAAA").header.rcode == 0
        assert server.ask("missing.example.").header.rcode == 3
        exported = http_get(values["metrics"], "/metrics").text
    assert f'coredns_hosts_entries{{hostsfile="{values["folder"]}/NodeHosts"}} 6' in exported


def test_minikube(values):
    with serve(MINIKUBE.format(**values).replace("lameduck 5s", "lameduck 0s")) as server:
        ((address, _),) = records(server, "host.minikube.internal.")
        assert address == "192.168.49.1"
        assert records(server, "www.example.")[0][0] == "192.0.2.1"
        assert server.ask("missing.example.").header.rcode == 3


def test_the_custom_files_of_k3s(values):
    custom = values["folder"] / "custom"
    (custom / "log.override").write_text("log\n")
    (custom / "more.server").write_text(f"corp.example:{values['port']} {{\nwhoami\n}}\n")
    with serve(K3S.format(**values)) as server:
        assert records(server, "k8smaster1.")[0][0] == "192.168.4.4"
        assert len(server.ask("x.corp.example.").ar) == 2


def test_a_custom_file_of_k3s_with_a_second_hosts_is_refused_at_its_place(values):
    """A mistake that users of k3s make: CoreDNS does not say where the other one is."""
    custom = values["folder"] / "custom"
    (custom / "more.override").write_text("hosts {\n  10.0.0.1 a.example\n  fallthrough\n}\n")
    parsed = corefile.parse(K3S.format(**values), "Corefile")
    with pytest.raises(corefile.CorefileError) as caught:
        build(parsed, 0, find())
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.message == "this plugin can only be used once per Server Block"
    assert str(diagnostic.token.location).endswith("more.override:1:1")


def test_both_addresses_of_localdns(values):
    with serve(AKS.format(**values)) as server:
        hosts = {host for host, _ in server.addresses}
        assert hosts == {"127.0.0.1", "127.0.0.2"}
        assert len(server.ask("health-check.localdns.local.").ar) == 2
        assert server.ask("a.b.c.d.internal.cloudapp.net.").header.rcode == 3
        assert server.ask("x.reddog.microsoft.com.").header.rcode == 3


def test_a_new_node_is_served_behind_the_cache(values):
    """Without the file, the name had been denied, and the denial been cached."""
    path = values["folder"] / "NodeHosts"
    with serve(K3S.format(**values)) as server:
        for _ in range(2):
            assert server.ask("k8snode2.").header.rcode == 3
        new = path.with_name("new")
        new.write_text(NODE_HOSTS + "192.168.4.20 k8snode2\n")
        new.rename(path)
        wait_until(lambda: records(server, "k8snode2."))
