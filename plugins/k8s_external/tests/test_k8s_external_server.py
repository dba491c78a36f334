"""*k8s_external* above *kubernetes* and *transfer*, in a server with an API server."""

import subprocess
from pathlib import Path

import pytest

from corepy.testing import helper_module, serve
from corepy.testing.command import wait_until

_KUBERNETES = Path(__file__).parents[2] / "kubernetes" / "tests" / "x.py"
api_server = helper_module(str(_KUBERNETES), "kubernetes_api_server")
HTTP = [("http", "TCP", 80)]

TEXT = """
. {{
    bind 127.0.0.1
    transfer example.org {{
        to *
    }}
    cache
    kubernetes cluster.local {{
        endpoint {api}
    }}
    k8s_external example.org 192.0.2.0/24 {{
        headless
    }}
}}
"""


@pytest.fixture(scope="module")
def api():
    with api_server.ThreadedAPI() as api:
        api.put("namespaces", api_server.namespace("default"))
        web = api_server.service(
            "web", addresses=["10.96.0.5"], ports=HTTP, externalIPs=["192.0.2.1"]
        )
        api.put("services", web)
        api.put("services", api_server.service("db", ports=HTTP, clusterIP="None"))
        pods = [api_server.endpoint("10.1.0.1", hostname="db-0"), api_server.endpoint("10.1.0.2")]
        api.put("endpointslices", api_server.endpoint_slice("db-x", "db", pods, HTTP))
        yield api


@pytest.fixture(scope="module")
def server(api):
    with serve(TEXT.format(api=api.url)) as server:
        wait_until(lambda: server.ask("web.default.example.org").header.rcode == 0)
        yield server


def answer(server, name, qtype="A"):
    reply = server.ask(name, qtype)
    return sorted(str(rr.rdata) for rr in reply.rr) or reply.header.rcode


def test_services_for_clients_outside(server):
    assert answer(server, "web.default.example.org") == ["192.0.2.1"]
    assert answer(server, "db.default.example.org") == ["10.1.0.1", "10.1.0.2"]
    assert answer(server, "db-0.db.default.example.org") == ["10.1.0.1"]
    srv = ["0 100 80 web.default.example.org."]
    assert answer(server, "web.default.example.org", "SRV") == srv
    assert answer(server, "_http._tcp.web.default.example.org", "SRV") == srv
    assert answer(server, "1.2.0.192.in-addr.arpa", "PTR") == ["web.default.example.org."]
    assert answer(server, "2.2.0.192.in-addr.arpa", "PTR") == 3
    assert answer(server, "example.org", "NS") == ["ns1.dns.example.org."]
    assert answer(server, "web.default.svc.cluster.local") == ["10.96.0.5"]
    assert answer(server, "default.example.org") == 0


def test_a_change_passes_all_caches(api, server):
    serial = answer(server, "example.org", "SOA")
    assert answer(server, "new.default.example.org") == 3
    new = api_server.service("new", addresses=["10.96.0.6"], ports=HTTP, externalIPs=["192.0.2.9"])
    api.put("services", new)
    wait_until(lambda: answer(server, "new.default.example.org") == ["192.0.2.9"])
    wait_until(lambda: answer(server, "9.2.0.192.in-addr.arpa", "PTR") != 3)
    assert answer(server, "example.org", "SOA") >= serial
    api.delete("services", "default", "new")
    wait_until(lambda: answer(server, "new.default.example.org") == 3)


def test_dig_transfers_the_zone(server):
    host, port = server.address
    command = ["dig", f"@{host}", "-p", str(port), "example.org", "AXFR", "+noall", "+answer"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    records = {" ".join(line.split()) for line in output.splitlines()}
    endpoint = "10-1-0-2.db.default.example.org."
    assert records >= {
        "example.org. 5 IN NS ns1.dns.example.org.",
        "web.default.example.org. 5 IN A 192.0.2.1",
        "_http._tcp.web.default.example.org. 5 IN SRV 0 100 80 web.default.example.org.",
        "db-0.db.default.example.org. 5 IN A 10.1.0.1",
        f"{endpoint} 5 IN A 10.1.0.2",
        "db.default.example.org. 5 IN A 10.1.0.2",
        f"_http._tcp.db.default.example.org. 5 IN SRV 0 50 80 {endpoint}",
    }
