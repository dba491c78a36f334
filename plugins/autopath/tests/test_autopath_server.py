"""*autopath* in whole servers, beside other plugins (CoreDNS: test/*autopath_test.go)."""

import time

import dnslib
import pytest

from corepy.corefile import parse
from corepy.server.build.builder import build
from corepy.testing import Upstream, query, reply_of, serve
from corepy_autopath.metrics import SUCCESSES

ZONE = {
    "www.example.com. A": ["www.example.com. 60 IN A 192.0.2.1"],
    "www.example.com. AAAA": [],
    "db.svc.local. A": ["db.svc.local. 60 IN A 192.0.2.2"],
    "google.com. A": ["google.com. 60 IN A 192.0.2.3"],
}


@pytest.fixture
def resolv_conf(tmp_path):
    path = tmp_path / "resolv.conf"
    path.write_text("search ns.svc.local svc.local local\n")
    return path


@pytest.fixture
def upstream():
    with Upstream(ZONE) as upstream:
        yield upstream


def asked(upstream):
    """The questions that the upstream has got, without the probe of *forward*."""
    return [text for text, _ in upstream.queries if text != ". NS"]


def corefile(path, upstream, more=""):
    return f". {{\nbind 127.0.0.1\nautopath {path}\ncache\nforward . {upstream.to}\n{more}}}"


def answer(server, name, qtype="A", **question):
    reply = server.ask(name, qtype, **question)
    return [f"{rr.rname} {rr.rdata}" for rr in reply.rr]


@pytest.mark.parametrize("tcp", [False, True])
def test_a_pod(resolv_conf, upstream, tcp):
    """The queries of a pod with ndots:5: one instead of four."""
    with serve(corefile(resolv_conf, upstream)) as server:
        name = "www.example.com.ns.svc.local."
        found = [f"{name} www.example.com.", "www.example.com. 192.0.2.1"]
        assert answer(server, name, tcp=tcp) == found
        assert answer(server, name, "AAAA", tcp=tcp) == found[:1]
        assert answer(server, "db.ns.svc.local.", tcp=tcp) == [
            "db.ns.svc.local. db.svc.local.", "db.svc.local. 192.0.2.2"
        ]  # fmt: skip
        reply = server.ask("gone.ns.svc.local.", tcp=tcp)
        assert (reply.header.rcode, reply.rr) == (3, [])


def test_the_packet_cache(resolv_conf, upstream):
    """Repetitions are answered without the chain, and counted; the metric counts them, too."""
    text = corefile(resolv_conf, upstream)
    (router,) = build(parse(text)).routers.values()
    assert router.routes[0].obstacle is None
    wire = query("www.example.com.ns.svc.local.", id=7)
    with serve(text) as server:
        (endpoint,) = server.server.endpoints.values()
        value = SUCCESSES.labels(endpoint.label)
        before = value.value  # an earlier server may have had this port
        replies = [server.exchange(wire) for _ in range(6)]
        assert server.packet_entries == 1
        assert len({len(reply) for reply in replies}) == 1
        assert len({reply[:12] for reply in replies[1:]}) == 1  # cache sets AA
        assert len(set(asked(upstream))) == 4
        server.reload(text + "\n")
        assert server.packet_entries == 0
        assert value.value - before == 6
        assert answer(server, "www.example.com.ns.svc.local.")


def test_the_packet_cache_repeats_a_reply_as_long_as_the_denials_hold(resolv_conf):
    """The records of the reply alone would be valid for longer."""

    def behaviour(question, _):
        name = str(question.q.qname)
        if name.endswith(".local."):
            soa = "local. 3600 IN SOA ns.local. host.local. 1 3600 1200 604800 300"
            return reply_of(question, authority=[soa], rcode=3)
        return reply_of(question, [f"{name} 3000 IN A 192.0.2.1"])

    wire = query("www.example.com.ns.svc.local.", id=7)
    with Upstream(behaviour) as upstream, serve(corefile(resolv_conf, upstream)) as server:
        (endpoint,) = server.server.endpoints.values()
        for _ in range(3):
            alias, address = dnslib.DNSRecord.parse(server.exchange(wire)).rr
            assert alias.ttl <= 300
            assert 2000 < address.ttl <= 3000
        packets = endpoint.listener("udp").pipeline.packets
        _, seconds = server.call(lambda: packets.view(wire, time.monotonic()))
        assert 0 < seconds <= 300


def test_another_file(resolv_conf, upstream):
    text = corefile(resolv_conf, upstream)
    with serve(text) as server:
        assert answer(server, "db.ns.svc.local.")
        resolv_conf.write_text("search other.local svc.local\n")
        server.reload(text)
        assert answer(server, "db.ns.svc.local.") == []
        assert answer(server, "db.other.local.") == [
            "db.other.local. db.svc.local.", "db.svc.local. 192.0.2.2"
        ]  # fmt: skip


def test_the_search_path_of_a_plugin(upstream):
    """CoreDNS: TestLookupAutoPathErratic."""
    text = f". {{\nerratic\nautopath @erratic\ncache\nforward . {upstream.to}\n}}"
    (router,) = build(parse(text)).routers.values()
    assert router.routes[0].obstacle == "autopath"
    with serve(text) as server:
        assert answer(server, "google.com.a.example.org.") == [
            "google.com.a.example.org. google.com.", "google.com. 192.0.2.3"
        ]  # fmt: skip
        assert answer(server, "google.com.") == ["google.com. 192.0.2.3"]
    assert asked(upstream) == [
        "google.com.a.example.org. A", "google.com.b.example.org. A", "google.com. A"
    ]  # fmt: skip


def test_a_plugin_that_is_not_there(upstream):
    """CoreDNS: TestAutoPathErraticNotLoaded."""
    with serve(f". {{\nautopath @erratic\nforward . {upstream.to}\n}}") as server:
        assert server.ask("google.com.a.example.org.").header.rcode == 3
    assert asked(upstream) == ["google.com.a.example.org. A"]


@pytest.mark.parametrize("name", ["secret.protected.example.", "secret.public.example."])
def test_acl(tmp_path, name):
    """CoreDNS: TestACLAuthorizesAutopathExpandedName."""
    path = tmp_path / "resolv.conf"
    path.write_text("search public.example protected.example\n")
    text = f""". {{
        acl protected.example. {{
            block
        }}
        autopath {path}
        hosts {{
            192.0.2.123 secret.protected.example
        }}
    }}"""
    with serve(text) as server:
        reply = server.ask(name)
    assert (reply.header.rcode, reply.rr) == (5, [])


def test_an_upstream_that_refuses(resolv_conf, upstream):
    """REFUSED ends the search: it costs one failure, not one for each domain."""
    upstream.behave("refused")
    with serve(corefile(resolv_conf, upstream)) as server:
        assert server.ask("db.ns.svc.local.").header.rcode == 5
    assert set(asked(upstream)) == {"db.ns.svc.local. A"}
