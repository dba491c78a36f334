"""The answers of *chaos*, alone and in a server."""

import socket

import dnslib
import pytest

from corepy.dns import Request, query
from corepy.dns.constants import CLASS_CH, CLASS_IN, TYPES
from corepy.dns.names import from_text
from corepy.dns.records import rr
from corepy.plugin import Cacheability
from corepy.testing import Recorder, Upstream, refusal, run_chain, serve, set_up

HOST = socket.gethostname()
CLASS_HS = 4


def question(name, qtype="TXT", qclass=CLASS_CH, **header):
    return query(from_text(name), TYPES[qtype], qclass, **header)


def expected_reply(name, *texts):
    """The whole reply: RD copied, no AA, TTL 0, class CH."""
    request = Request.from_wire(question(name, ident=0))
    owner = from_text(name)
    records = [
        rr(owner, TYPES["TXT"], 0, bytes((len(text),)) + text.encode(), CLASS_CH) for text in texts
    ]
    return request.reply(answer=records).wire


def ask(name, qtype="TXT", qclass=CLASS_CH, text="chaos v2 a", below=None):
    (handler,) = set_up(text).handlers
    return run_chain(Request.from_wire(question(name, qtype, qclass)), handler, below or Recorder())


def asked(upstream):
    """The queries that the upstream got, without those of *forward*'s health checks."""
    return [text for text, _ in upstream.queries if not text.startswith(". ")]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("version.bind", "v2"),
        ("version.server", "v2"),
        ("hostname.bind", HOST),
        ("id.server", HOST),
        ("authors.bind", "a"),
        ("VERSION.Bind", "v2"),
    ],
)
def test_reply(name, text):
    wire = ask(name).wire
    assert wire == expected_reply(name, text)
    assert wire[2:4] == b"\x81\0"  # QR and RD


@pytest.mark.parametrize(
    ("name", "qtype", "qclass"),
    [
        ("version.bind", "A", CLASS_CH),
        ("version.bind", "ANY", CLASS_CH),
        ("authors.bind", "SRV", CLASS_CH),
        ("version.bind", "TXT", CLASS_IN),
        ("version.bind", "TXT", CLASS_HS),
        ("version.bind", "TXT", 255),
        ("example.org", "TXT", CLASS_CH),
        ("a.version.bind", "TXT", CLASS_CH),
        ("bind", "TXT", CLASS_CH),
        (".", "TXT", CLASS_CH),
    ],
)
def test_other_queries_go_on(name, qtype, qclass):
    below = Recorder()
    ask(name, qtype, qclass, below=below)
    assert len(below.requests) == 1


def test_authors_come_in_random_order_and_each_once():
    names = [f"author-{number}" for number in range(6)]
    text = f"chaos v2 {' '.join(names)} author-3"
    orders = set()
    for _ in range(40):
        record = dnslib.DNSRecord.parse(ask("authors.bind", text=text).wire)
        orders.add(tuple(each.rdata.data[0].decode() for each in record.rr))
    assert {tuple(sorted(order)) for order in orders} == {tuple(names)}
    assert len(orders) > 1


def test_a_host_name_that_cannot_be_read_is_localhost(monkeypatch):
    def fail():
        raise OSError("no name")

    monkeypatch.setattr(socket, "gethostname", fail)
    assert ask("id.server").wire == expected_reply("id.server", "localhost")


def test_a_long_host_name_is_cut(monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "h" * 300)
    assert ask("id.server").wire == expected_reply("id.server", "h" * 255)


def test_alone_in_its_block_other_queries_get_servfail():
    with serve("bind {\nbind 127.0.0.1\nchaos v2\n}") as server:
        assert server.exchange(question("version.bind")) == expected_reply("version.bind", "v2")
        reply = dnslib.DNSRecord.parse(server.exchange(question("a.bind")))
    assert reply.header.rcode == 2


@pytest.mark.parametrize("tcp", [False, True])
def test_classes_are_apart_and_the_packet_cache_is_on(tcp):
    """CH, IN and HS queries for one name, over and over: each gets the answer of its class."""
    zone = {"version.bind. TXT": ['version.bind. 60 IN TXT "upstream"']}
    with Upstream(zone) as upstream:
        block = f". {{\nbind 127.0.0.1\nchaos v2 a b c d e f\ncache\nforward . {upstream.to}\n}}"
        with serve(block) as server:
            for _ in range(4):
                chaos = server.exchange(question("version.bind"), tcp=tcp)
                assert chaos == expected_reply("version.bind", "v2")
                inside = dnslib.DNSRecord.parse(
                    server.exchange(question("version.bind", qclass=CLASS_IN), tcp=tcp)
                )
                assert [(rr.rclass, str(rr.rdata)) for rr in inside.rr] == [(1, '"upstream"')]
            assert server.packet_entries == 1  # the reply of class IN
            orders = {server.exchange(question("authors.bind"), tcp=tcp) for _ in range(40)}
            assert len(orders) > 1
            assert server.packet_entries == 1
    assert asked(upstream) == ["version.bind. TXT"]


def test_classes_share_no_entry_of_cache_below():
    """Another class passes through *chaos*; *cache* and the packet cache keep it apart from IN."""

    def answer(received, _proto):
        reply = received.reply()
        qname, qclass = received.q.qname, received.q.qclass
        text = dnslib.TXT(f"class {qclass}")
        reply.add_answer(dnslib.RR(qname, dnslib.QTYPE.TXT, qclass, 60, text))
        return reply

    with Upstream(answer) as upstream:
        block = f". {{\nbind 127.0.0.1\nchaos v2\ncache\nforward . {upstream.to}\n}}"
        with serve(block) as server:
            for _ in range(3):
                for qclass in (CLASS_IN, CLASS_CH, CLASS_HS):
                    wire = server.exchange(question("a.test", qclass=qclass))
                    (record,) = dnslib.DNSRecord.parse(wire).rr
                    assert (record.rclass, str(record.rdata)) == (qclass, f'"class {qclass}"')
    assert asked(upstream) == ["a.test. TXT"] * 3


def test_opens_the_other_classes_until_a_reload_without_it():
    with serve(". {\nbind 127.0.0.1\nchaos v2\nwhoami\n}") as server:
        assert server.exchange(question("version.bind")) == expected_reply("version.bind", "v2")
        server.reload(". {\nbind 127.0.0.1\nchaos v3\nwhoami\n}")
        assert server.exchange(question("version.bind")) == expected_reply("version.bind", "v3")
        server.reload(". {\nbind 127.0.0.1\nwhoami\n}")
        refused = server.exchange(question("version.bind"))
    assert refused == Request.from_wire(question("version.bind")).error(5).wire


def test_directive():
    (handler,) = set_up("chaos").handlers
    assert handler.cacheability is Cacheability.SAFE
    assert handler.any_class
    assert refusal("chaos {\nx\n}").token is not None
