"""*kubernetes* in whole servers, with an API server and beside the plugins of a cluster's Corefile.

The Corefile is the one that kubeadm installs, with the plugins that depend on the cluster added.
"""

import subprocess
import sys

import pytest

from corepy.corefile import CorefileError
from corepy.testing import Upstream, controller_for, helper_module, make_request, serve
from corepy.testing.command import wait_until
from corepy_kubernetes.kubernetes import Kubernetes

api_server = helper_module(__file__, "kubernetes_api_server")
HTTP = [("http", "TCP", 80)]
ZONE = {"www.example.com. A": ["www.example.com. 60 IN A 192.0.2.1"]}

KUBEADM = """
. {
    bind 127.0.0.1
    errors
    metadata
    log . "{name} {/kubernetes/client-pod-name} {/kubernetes/service}"
    ENDPOINTS
    kubernetes cluster.local in-addr.arpa ip6.arpa {
       API
       pods POD_MODE
       fallthrough in-addr.arpa ip6.arpa
       ttl 30
    }
    forward . UPSTREAM {
       max_concurrent 1000
    }
    cache 30
    loadbalance
    minimal
}
"""


def corefile(api, upstream, *, more="", mode="verified"):
    text = KUBEADM.replace("API", f"endpoint {api.url}").replace("UPSTREAM", upstream.to)
    return text.replace("ENDPOINTS", more).replace("POD_MODE", mode)


@pytest.fixture(scope="module")
def api():
    with api_server.ThreadedAPI() as api:
        api.put("namespaces", api_server.namespace("default"))
        api.put("services", api_server.service("web", addresses=["10.96.0.5"], ports=HTTP))
        api.put("services", api_server.service("db", ports=HTTP))
        endpoints = [
            api_server.endpoint("10.1.0.1", hostname="db-0"),
            api_server.endpoint("10.1.0.2"),
        ]
        away = api_server.endpoint("10.1.0.3", ready=False)
        api.put("endpointslices", api_server.endpoint_slice("db-x", "db", [*endpoints, away], HTTP))
        outside = api_server.service("out", type="ExternalName", externalName="www.example.com")
        api.put("services", outside)
        inside = api_server.service(
            "alias", type="ExternalName", externalName="web.default.svc.cluster.local"
        )
        api.put("services", inside)
        for name, target in (("a", "b"), ("b", "a")):
            loop = f"{target}.default.svc.cluster.local"
            api.put("services", api_server.service(name, type="ExternalName", externalName=loop))
        api.put("pods", api_server.pod("client", addresses=["127.0.0.1"]))
        yield api


@pytest.fixture(scope="module")
def upstream():
    with Upstream(ZONE) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def server(api, upstream):
    more = "autopath @kubernetes\n    transfer {\n        to *\n    }"
    with serve(corefile(api, upstream, more=more)) as server:
        yield server


def answer(server, name, qtype="A", **question):
    reply = server.ask(name, qtype, **question)
    return [f"{rr.rname} {rr.rdata}" for rr in reply.rr] or reply.header.rcode


SVC = "default.svc.cluster.local."


@pytest.mark.parametrize(
    ("name", "qtype", "expected"),
    [
        (f"web.{SVC}", "A", [f"web.{SVC} 10.96.0.5"]),
        (f"_http._tcp.web.{SVC}", "SRV", [f"_http._tcp.web.{SVC} 0 100 80 web.{SVC}"]),
        (f"db-0.db.{SVC}", "A", [f"db-0.db.{SVC} 10.1.0.1"]),
        (f"10-1-0-3.db.{SVC}", "A", 3),
        (f"nothing.{SVC}", "A", 3),
        (f"web.{SVC}", "AAAA", 0),
        ("5.0.96.10.in-addr.arpa.", "PTR", [f"5.0.96.10.in-addr.arpa. web.{SVC}"]),
        ("2.0.1.10.in-addr.arpa.", "PTR", [f"2.0.1.10.in-addr.arpa. 10-1-0-2.db.{SVC}"]),
        ("127-0-0-1.default.pod.cluster.local.", "A", ["127-0-0-1.default.pod.cluster.local. 127.0.0.1"]),
        (f"out.{SVC}", "A", [f"out.{SVC} www.example.com.", "www.example.com. 192.0.2.1"]),
        (f"alias.{SVC}", "A", [f"alias.{SVC} web.{SVC}", f"web.{SVC} 10.96.0.5"]),
        (f"alias.{SVC}", "AAAA", [f"alias.{SVC} web.{SVC}"]),
        ("www.example.com.", "A", ["www.example.com. 192.0.2.1"]),
        # autopath @kubernetes
        (f"www.example.com.{SVC}", "A", [f"www.example.com.{SVC} www.example.com.", "www.example.com. 192.0.2.1"]),
        (f"web.default.{SVC}", "A", [f"web.default.{SVC} web.{SVC}", f"web.{SVC} 10.96.0.5"]),
    ],
)  # fmt: skip
def test_a_pod_asks(server, name, qtype, expected):
    for _ in range(2):  # the second reply comes from a cache
        assert answer(server, name, qtype) == expected
    assert answer(server, name, qtype, tcp=True) == expected


def test_all_endpoints_of_a_headless_service(server):
    found = {line.split()[1] for line in answer(server, f"db.{SVC}")}
    assert found == {"10.1.0.1", "10.1.0.2"}


def test_aliases_in_a_circle_end(server):
    reply = server.ask(f"a.{SVC}")
    found = {f"{rr.rname} {rr.rdata}" for rr in reply.rr}
    assert found == {f"a.{SVC} b.{SVC}", f"b.{SVC} a.{SVC}"}
    assert len(reply.rr) == 2


def test_a_zone_transfer(server):
    """By dig, which checks the form of the messages."""
    host, port = server.address
    command = ["dig", f"@{host}", "-p", str(port), "+noall", "+answer", "cluster.local.", "AXFR"]
    output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    records = [line.split() for line in output.splitlines() if line]
    assert records[0][3] == records[-1][3] == "SOA"
    assert ["web.default.svc.cluster.local.", "30", "IN", "A", "10.96.0.5"] in records


def test_metadata_in_the_log(server, capfd):
    server.ask(f"web.{SVC}")
    shown = []

    def is_logged():
        shown.append(capfd.readouterr().out)
        return f"web.{SVC} client web" in "".join(shown)

    wait_until(is_logged)


def test_a_change_is_answered_although_a_cache_has_the_name(server, api):
    name = f"moved.{SVC}"
    assert answer(server, name) == 3
    api.put("services", api_server.service("moved", addresses=["10.96.0.7"], ports=HTTP))
    wait_until(lambda: answer(server, name) == [f"{name} 10.96.0.7"])
    api.put("services", api_server.service("moved", addresses=["10.96.0.8"], ports=HTTP))
    wait_until(lambda: answer(server, name) == [f"{name} 10.96.0.8"])
    assert answer(server, "8.0.96.10.in-addr.arpa.", "PTR") != 3
    api.delete("services", "default", "moved")
    wait_until(lambda: answer(server, name) == 3)


def test_ready_and_status(server):
    (handler,) = server.plugins(Kubernetes)
    assert handler.ready()
    status = handler.status()
    assert status["zones"] == ["cluster.local.", "in-addr.arpa.", "ip6.arpa."]
    assert status["endpointslices"] == 1
    assert status["problems"] == []
    assert handler.explain_state(make_request("web." + SVC))["state"] == "has targets"
    assert handler.explain_state(make_request("x." + SVC))["state"] == "no name"
    assert handler.explain_state(make_request("alias." + SVC))["state"] == "alias"
    assert handler.explain_state(make_request("a.b.cluster.local."))["state"].startswith(
        "not a name"
    )
    assert handler.explain_state(make_request("5.0.96.10.in-addr.arpa."))["names"] == 1
    assert (
        handler.explain_state(make_request("example.org."))["state"]
        == "the name is outside its zones"
    )


def test_an_api_that_is_away_at_the_start(upstream, caplog):
    """SERVFAIL rather than denials; names that may be others' are passed on."""
    with api_server.ThreadedAPI() as gone:
        text = corefile(gone, upstream)
    text = text.replace("ttl 30", "startup_timeout 10ms")
    with serve(text) as server:
        assert answer(server, f"web.{SVC}") == 2
        assert answer(server, "www.example.com.") == ["www.example.com. 192.0.2.1"]
        (handler,) = server.plugins(Kubernetes)
        assert not handler.ready()
    assert "starting server with unsynced Kubernetes API" in caplog.text


def test_a_reload_keeps_the_objects(upstream):
    """The API is that of this server alone, since the requests of others would count."""
    with api_server.ThreadedAPI() as api:
        api.put("namespaces", api_server.namespace("default"))
        api.put("services", api_server.service("web", addresses=["10.96.0.5"], ports=HTTP))
        text = corefile(api, upstream, mode="disabled")
        with serve(text) as server:
            assert answer(server, f"web.{SVC}") == [f"web.{SVC} 10.96.0.5"]
            api.watched("services", "endpointslices", "namespaces")
            asked = len(api.requests)
            server.reload(text.replace("ttl 30", "ttl 7"))
            reply = server.ask(f"web.{SVC}")
            assert [rr.ttl for rr in reply.rr] == [7]
            assert len(api.requests) == asked


def outside(*, checking):
    """The setup on a host that is in no cluster."""
    controller = controller_for("kubernetes cluster.local in-addr.arpa ip6.arpa {\nttl 30\n}")
    controller.checking = checking
    sys.modules["corepy_kubernetes.setup"].setup(controller)
    return controller.warnings


def test_outside_of_a_cluster_a_check_warns_and_a_start_is_refused(monkeypatch):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    (warning,) = outside(checking=True)
    with pytest.raises(CorefileError) as caught:
        outside(checking=False)
    (error,) = caught.value.diagnostics
    for diagnostic in (warning, error):
        assert "does not run in a cluster" in diagnostic.message
        assert "endpoint or kubeconfig" in diagnostic.hint
        assert diagnostic.token.text == "kubernetes"
