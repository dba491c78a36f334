"""The answers of *local*, alone and in a server (plugin/local/local_test.go)."""

import logging
from struct import pack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.corefile import parse
from corepy.dns import Request, query
from corepy.dns.constants import TYPES
from corepy.dns.names import from_text, is_subdomain, labels_of, to_text
from corepy.dns.reply_validation import reply_problem
from corepy.plugin import Cacheability
from corepy.server.build.builder import build
from corepy.testing import (
    Recorder,
    Upstream,
    make_request,
    run_chain,
    serve,
    set_up,
    with_handlers,
)
from corepy_local.local import Local
from corepy_local.metrics import REQUESTS

LOCALHOST = from_text("localhost.")
SOA = LOCALHOST + from_text("root.localhost.") + pack("!5I", 1, 0, 0, 0, 604800)
RDATA = {
    "A": b"\x7f\0\0\1",
    "AAAA": bytes(15) + b"\1",
    "SOA": SOA,
    "NS": LOCALHOST,
    "PTR": LOCALHOST,
}
NODATA, DENIED = 0, 3


def request_for(name, qtype="A"):
    """A request with ID 0."""
    return Request.from_wire(query(from_text(name), TYPES[qtype]))


def record(owner, qtype):
    rdata = RDATA[qtype]
    return from_text(owner) + pack("!HHIH", TYPES[qtype], 1, 604800, len(rdata)) + rdata


def answered(name, qtype):
    """The whole reply with one record, owned by the name in its letter case; flags QR and RD."""
    request = request_for(name, qtype)
    return request.reply(answer=[record(name, qtype)]).wire


def denied(name, qtype, apex, rcode=NODATA):
    request = request_for(name, qtype)
    is_authoritative = rcode == NODATA  # or glibc asks again
    soa = record(apex, "SOA")
    return request.reply(rcode, authority=[soa], authoritative=is_authoritative).wire


def ask(name, qtype, handler=None):
    return run_chain(request_for(name, qtype), handler or Local(), Recorder()).wire


@pytest.mark.parametrize(
    ("name", "qtype"),
    [
        # CoreDNS's cases.
        ("localhost.", "A"),
        ("localHOst.", "A"),
        ("localhost.", "AAAA"),
        ("localhost.", "NS"),
        ("localhost.", "SOA"),
        ("a.localhost.", "A"),
        ("a.localhost.", "AAAA"),
        ("1.0.0.127.in-addr.arpa.", "PTR"),
        ("localhost.example.net.", "A"),
        # Our own.
        ("a.b.LOCALHOST.", "AAAA"),
        ("localhost.localhost.", "A"),
        ("localhost.127.in-addr.arpa.", "A"),
        ("0.in-addr.arpa.", "SOA"),
        ("127.IN-addr.arpa.", "NS"),
        ("255.in-addr.arpa.", "NS"),
        ("1.0.0.127.in-ADDR.arpa.", "PTR"),
    ],
)
def test_answers(name, qtype):
    assert ask(name, qtype) == answered(name, qtype)


@pytest.mark.parametrize(
    ("name", "qtype", "apex", "rcode"),
    [
        # CoreDNS's cases.
        ("127.in-addr.arpa.", "A", "127.in-addr.arpa.", NODATA),
        ("localhost.", "MX", "localhost.", NODATA),
        ("a.localhost.", "MX", "a.localhost.", NODATA),
        ("1.0.0.127.in-addr.arpa.", "MX", "127.in-addr.arpa.", NODATA),
        ("2.0.0.127.in-addr.arpa.", "PTR", "127.in-addr.arpa.", DENIED),
        # Our own.
        ("LocalHost.", "ANY", "LocalHost.", NODATA),
        ("a.LocalHost.", "SOA", "a.LocalHost.", NODATA),
        ("localhost.example.net.", "TXT", "localhost.example.net.", NODATA),
        ("0.in-addr.arpa.", "AAAA", "0.in-addr.arpa.", NODATA),
        ("1.0.in-addr.ARPA.", "PTR", "0.in-addr.ARPA.", DENIED),
        ("255.255.255.255.in-addr.arpa.", "PTR", "255.in-addr.arpa.", DENIED),
        ("1.1.0.0.127.in-addr.arpa.", "PTR", "127.in-addr.arpa.", DENIED),
        # Different in CoreDNS, which answers NXDOMAIN (RFC 8020).
        ("0.127.in-addr.arpa.", "PTR", "127.in-addr.arpa.", NODATA),
        ("0.0.127.in-addr.arpa.", "PTR", "127.in-addr.arpa.", NODATA),
        ("0.127.in-addr.arpa.", "SOA", "127.in-addr.arpa.", NODATA),
        ("1.127.in-addr.arpa.", "PTR", "127.in-addr.arpa.", DENIED),
        ("0.0.in-addr.arpa.", "PTR", "0.in-addr.arpa.", DENIED),
    ],
)
def test_denials(name, qtype, apex, rcode):
    assert ask(name, qtype) == denied(name, qtype, apex, rcode)


OTHERS = [
    "example.org.",
    ".",
    "local.",
    "alocalhost.",
    "localhosta.example.",
    "xlocalhost.example.",
    "a.localhost.example.",
    "in-addr.arpa.",
    "1.in-addr.arpa.",
    "10.in-addr.arpa.",
    "1270.in-addr.arpa.",
    "127.in-addr.arpa.example.",
    "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa.",
    "a\\009localhost.",  # one label that ends in the bytes of the zone
]


@pytest.mark.parametrize("name", OTHERS)
def test_other_names_go_on(name):
    below = Recorder()
    request = Request.from_wire(query(from_text(name), 1))
    run_chain(request, Local(), below)
    assert below.requests == [request]


@pytest.mark.parametrize("name", ["localhost.", "a.localhost.", "1.127.in-addr.arpa."])
def test_other_classes_go_on(name):
    below = Recorder()
    run_chain(Request.from_wire(query(from_text(name), 1, 3)), Local(), below)
    assert len(below.requests) == 1
    run_chain(Request.from_wire(query(from_text(name), 1, 255)), Local(), below)
    assert len(below.requests) == 1


def test_without_the_prefix():
    (handler,) = set_up("local {\nlocalhost_prefix off\n}").handlers
    below = Recorder()
    run_chain(make_request("localhost.example.net."), handler, below)
    assert len(below.requests) == 1
    for name in ("localhost.", "a.localhost.", "localhost.localhost."):
        assert ask(name, "A", handler) == answered(name, "A")
    name = "localhost.127.in-addr.arpa."
    assert ask(name, "A", handler) == denied(name, "A", "127.in-addr.arpa.", DENIED)


def test_explains_whether_the_name_is_local():
    for name in ("localhost.", "a.localhost.", "localhost.example.", "9.127.in-addr.arpa."):
        assert Local().explain_state(make_request(name)) == {"state": "local name"}
    for name in ("example.org.", "a.localhost.example."):
        assert Local().explain_state(make_request(name)) == {"state": "not local"}
    assert Local().explain_state(make_request("localhost."), make_request("a.").error(0)) == {}


names = st.lists(
    st.sampled_from([b"localhost", b"LOCALhost", b"\x09localhost", b"0", b"127", b"in-addr", b"a"])
    | st.binary(min_size=1, max_size=12),
    max_size=8,
).map(lambda labels: b"".join(bytes((len(it),)) + it for it in [*labels, b"arpa"][:9]) + b"\0")


@settings(deadline=None)
@given(names, st.sampled_from([1, 28, 12, 6, 2, 255, 43]))
def test_any_name_gets_a_valid_reply_or_goes_on(name, qtype):
    request = Request.from_wire(query(name, qtype))
    below = Recorder()
    reply = run_chain(request, Local(), below)
    assert reply_problem(request, reply) is None
    labels = labels_of(request.name_wire)
    reverse = [from_text(f"{first}.in-addr.arpa.") for first in (0, 127, 255)]
    is_local = (
        labels[0] == b"localhost"
        or labels[-1] == b"localhost"
        or any(is_subdomain(request.name_wire, zone) for zone in reverse)
    )
    assert bool(below.requests) is not is_local


LOCAL = "a.localhost. A", "localhost. AAAA", "9.0.0.127.in-addr.arpa. PTR"


@pytest.mark.parametrize("tcp", [False, True])
def test_served_beside_the_packet_cache(tcp):
    zone = {"example.org. A": ["example.org. 60 IN A 192.0.2.1"]}
    with Upstream(zone) as upstream:
        text = f". {{\nbind 127.0.0.1\nlocal\ncache\nforward . {upstream.to}\n}}"
        (router,) = build(parse(text)).routers.values()
        assert router.routes[0].obstacle is None
        with serve(text) as server:
            for _ in range(4):
                for question in LOCAL:
                    name, qtype = question.split()
                    wire = request_for(name, qtype).wire
                    assert server.exchange(wire, tcp=tcp) == ask(name, qtype)
                assert str(server.ask("example.org", tcp=tcp).rr[0].rdata) == "192.0.2.1"
            assert server.packet_entries == 4
            assert not {text for text, _ in upstream.queries} & set(LOCAL)
            server.reload(text.replace("\nlocal", ""))
            server.ask("a.localhost")
    assert "a.localhost. A" in [text for text, _ in upstream.queries]


def test_the_metric_counts_repetitions_of_the_packet_cache(monkeypatch):
    calls = []

    class Counted(Local):
        def begin_dns(self, request):
            calls.append(request.name)
            return super().begin_dns(request)

    monkeypatch.setattr("corepy_local.local.REPEATED", 3600.0)
    text = ". {\nbind 127.0.0.1\nlocal\ncache\ntemplate ANY ANY\n}"
    before = REQUESTS.value
    with serve(text, plugins=with_handlers(local=Counted)) as server:
        for name in ("a.localhost", "localhost.example", "localhost", "127.in-addr.arpa"):
            for _ in range(5):
                server.ask(name)
        server.reload(text)  # credits all hits
        counted = REQUESTS.value - before
    assert calls == ["a.localhost.", "localhost.example.", "localhost.", "127.in-addr.arpa."]
    assert counted == 10


def test_a_reply_is_repeated_only_while_its_ttl_is_the_same():
    request = make_request("localhost.")
    request.received = 17.25
    reply = run_chain(request, Local())
    assert (reply.since, reply.deadline) == (17.25, 18.25)


def test_debug_logs_every_query(caplog):
    caplog.set_level(logging.DEBUG, "corepy.plugin.local")
    for name in ("A.localhost.", "localhost.", "1.0.0.127.in-addr.arpa."):
        reply = run_chain(make_request(name, peer=("192.0.2.7", 4000)), Local())
        assert (reply.deadline is None) is (name == "A.localhost.")
    assert [it.getMessage() for it in caplog.records] == [
        'Intercepting localhost query for "a.localhost." A, from 192.0.2.7'
    ]


def test_cacheability():
    assert Local().cacheability is Cacheability.SAFE
    assert to_text(LOCALHOST) == "localhost."
