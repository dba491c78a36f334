"""OpenShift's default Corefile, written by hand.

Without *kubernetes* where it runs, because no cluster is there.
"""

import socket

import dnslib

from corepy import corefile
from corepy.dns import query
from corepy.dns.names import from_text
from corepy.server.build.builder import build
from corepy.testing import Upstream, http_get, serve
from corepy.testing.upstream import free_port

COREFILE = """
.:{port} {{
    bufsize 1232
    errors
    log . {{
        class error
    }}
    health {health} {{
        lameduck 20s
    }}
    ready {ready}
    {kubernetes}
    prometheus {metrics}
    forward . {upstream} {{
        policy sequential
    }}
    cache 900 {{
        success 9984 900
        denial 9984 30
    }}
    reload
}}
hostname.bind:{port} {{
    chaos
}}
"""
KUBERNETES = """kubernetes cluster.local in-addr.arpa ip6.arpa {
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
    }"""
CH_TXT = query(from_text("hostname.bind"), 16, 3)


def test_the_defaults_are_valid(tmp_path, monkeypatch):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    resolv = tmp_path / "resolv.conf"
    resolv.write_text("nameserver 192.0.2.53\nnameserver 192.0.2.54\n")
    text = COREFILE.format(
        port=5353,
        health="",
        ready="",
        metrics="127.0.0.1:9153",
        upstream=resolv,
        kubernetes=KUBERNETES,
    )
    generation = build(corefile.parse(text), checking=True)
    (router,) = generation.routers.values()
    routes = {route.zone: route for route in router.routes}
    (warning,) = generation.warnings
    assert "does not run in a cluster" in warning.message
    assert router.any_class
    assert sorted(routes) == [".", "hostname.bind."]
    assert routes["."].obstacle is None  # the packet cache is on


def test_runs():
    zone = {"www.example.org. A": ["www.example.org. 60 IN A 192.0.2.1"]}
    health, ready, metrics = (f"127.0.0.1:{free_port()}" for _ in range(3))
    with Upstream(zone) as upstream:
        text = COREFILE.format(
            port=0,
            health=health,
            ready=ready,
            metrics=metrics,
            upstream=upstream.to,
            kubernetes="",
        ).replace("lameduck 20s", "lameduck 0s")
        with serve(text, still=True) as server:
            for _ in range(3):
                (record,) = server.ask("www.example.org").rr
                assert str(record.rdata) == "192.0.2.1"
                (host,) = dnslib.DNSRecord.parse(server.exchange(CH_TXT)).rr
                assert (str(host.rname), host.ttl, host.rclass) == ("hostname.bind.", 0, 3)
                assert host.rdata.data == [socket.gethostname().encode()]
            assert server.packet_entries == 1
            port = int(metrics.rpartition(":")[2])
            page = http_get(port, "/metrics").text
            assert http_get(int(ready.rpartition(":")[2]), "/ready").text == "OK"
    assert len([name for name, _ in upstream.queries if name == "www.example.org. A"]) == 1
    assert 'coredns_dns_requests_total{family="1",proto="udp"' in page
