"""*kubernetes* below *dnssec*, with *cache* and *autopath* above: unbound validates its replies."""

import pytest

from corepy.testing import ask, helper_module, serve
from corepy.testing.command import wait_until
from corepy.testing.validators import unbound
from corepy.testing.zone_keys import write_key

api_server = helper_module(__file__, "kubernetes_api_server")
HTTP = [("http", "TCP", 80)]
SVC = "default.svc.cluster.local"
COREFILE = """\
. {{
    bind 127.0.0.1
    autopath @kubernetes
    cache
    dnssec cluster.local {{
        key file {folder}/K
        denial {denial}
    }}
    kubernetes cluster.local {{
        endpoint {api.url}
        pods verified
    }}
}}
"""
FOUND = [
    f"web.{SVC} A", f"WEB.{SVC} A", f"dual.{SVC} AAAA", f"db.{SVC} A", f"db.{SVC} SRV", f"db-0.db.{SVC} A",
    f"10-1-0-2.db.{SVC} A", f"_http._tcp.web.{SVC} SRV", f"_http._tcp.web.{SVC} A", f"_http._tcp.db.{SVC} SRV",
    f"alias.{SVC} A", f"alias.{SVC} AAAA", "cluster.local SOA", "cluster.local DNSKEY",
    "dns-version.cluster.local TXT", "127-0-0-1.default.pod.cluster.local A",
]  # fmt: skip
NO_DATA = [
    f"web.{SVC} AAAA", f"web.{SVC} TXT", f"web.{SVC} DS", f"db.{SVC} AAAA", f"_tcp.web.{SVC} A",
    f"{SVC} A", "svc.cluster.local A", "cluster.local A", "cluster.local NS",
    "ns.dns.cluster.local A",  # the server has only a loopback address
]  # fmt: skip
UNKNOWN = [
    f"nothing.{SVC} A", f"a.b.nothing.{SVC} AAAA", f"nothing.{SVC} DS", f"_no._tcp.web.{SVC} SRV",
    "x.other.svc.cluster.local A", "10-9-9-9.default.pod.cluster.local A", "www.cluster.local A",
    # a validator sets DO and CD, so autopath does not search
    f"www.example.com.{SVC} A", f"web.default.{SVC} A",
]  # fmt: skip


@pytest.fixture(scope="module")
def api():
    with api_server.ThreadedAPI() as api:
        api.put("namespaces", api_server.namespace("default"))
        for name, addresses in (
            ("web", ["10.96.0.5"]),
            ("dual", ["10.96.0.6", "fd00::6"]),
            ("db", []),
        ):
            api.put("services", api_server.service(name, addresses=addresses, ports=HTTP))
        endpoints = [
            api_server.endpoint("10.1.0.1", hostname="db-0"),
            api_server.endpoint("10.1.0.2"),
        ]
        api.put("endpointslices", api_server.endpoint_slice("db-x", "db", endpoints, HTTP))
        for name, target in (("alias", "web"), ("dangling", "gone")):
            target = f"{target}.{SVC}"
            alias = api_server.service(name, type="ExternalName", externalName=target)
            api.put("services", alias)
        api.put("pods", api_server.pod("client", addresses=["127.0.0.1"]))
        yield api


@pytest.mark.parametrize("denial", ["nsec", "nsec3"])
def test_replies_for_a_cluster_are_valid(tmp_path, api, denial):
    write_key(tmp_path, "cluster.local", "K")
    record = (tmp_path / "K.key").read_text().splitlines()[-1]
    with (
        serve(COREFILE.format(folder=tmp_path, denial=denial, api=api)) as server,
        unbound(tmp_path, server.address, record) as validator,
    ):
        for question in [*UNKNOWN, *NO_DATA, *FOUND, *UNKNOWN]:
            reply = ask(validator, *question.split(), do=True, edns=4096, timeout=30)
            log = (tmp_path / "log").read_text()
            is_unknown = denial == "nsec3" and question in UNKNOWN
            assert reply.header.rcode == (3 if is_unknown else 0), (question, log)
            assert reply.header.ad, (question, log)
            assert bool(reply.rr) == (question in FOUND), question


def test_a_change_of_the_cluster_changes_signed_replies(tmp_path, api):
    """At once: neither the packet cache nor *dnssec* keeps an old reply."""
    write_key(tmp_path, "cluster.local", "K")
    corefile = COREFILE.replace("    autopath @kubernetes\n    cache\n", "")
    with serve(corefile.format(folder=tmp_path, denial="nsec3", api=api)) as server:

        def found():
            reply = server.ask(f"new.{SVC}", do=True, edns=4096)
            assert any(it.rtype == 46 for it in reply.rr + reply.auth)
            return [str(it.rdata) for it in reply.rr if it.rtype == 1] or reply.header.rcode

        for address in ("10.96.0.8", "10.96.0.9"):
            api.put("services", api_server.service("new", addresses=[address], ports=HTTP))
            wait_until(lambda: found() == [address], 60)  # noqa: B023 - read in this turn
        api.delete("services", "default", "new")
        wait_until(lambda: found() == 3, 60)
