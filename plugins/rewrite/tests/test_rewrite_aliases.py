"""Rules for the targets of aliases: the table of plugin/rewrite/cname_target_test.go, and loops."""

import dnslib
import pytest

from corepy.dns import Reply
from corepy.dns.presentation import read_record
from corepy.testing import (
    Recorder,
    Upstream,
    make_request,
    run_chain,
    serve,
    set_up,
    with_handlers,
)

RULES = (
    "exact def.example.com xyz.example.com",
    "prefix chat.openai.com bard.google.com",
    "suffix uvw. xyz.",
    "substring efgh zzzz.www",
    r"regex (.*)\.web\.(.*)\.site\. {1}.webapp.{2}.org.",
    "exact music.truncated.spotify.com. music.truncated.spotify.com.",
    "suffix prod. staging.",
)
ZONE = {
    "abc.example.com. A": [
        "abc.example.com. 5 CNAME def.example.com.",
        "def.example.com. 5 A 1.2.3.4",
    ],
    "abc.example.com. AAAA": [
        "abc.example.com. 5 CNAME Def.Example.com.",
        "def.example.com. 5 AAAA ::1",
    ],
    "xyz.example.com. A": ["xyz.example.com. 3600 A 3.4.5.6"],
    "xyz.example.com. AAAA": ["xyz.example.com. 3600 AAAA 3a01:7e00::f03c:91ff:fe79:234c"],
    "chat.openai.com. A": [
        "chat.openai.com. 20 CNAME chat.openai.com.cdn.cloudflare.net.",
        "chat.openai.com.cdn.cloudflare.net. 30 A 23.2.1.2",
        "chat.openai.com.cdn.cloudflare.net. 30 A 24.6.0.8",
    ],
    "bard.google.com.cdn.cloudflare.net. A": ["bard.google.com.cdn.cloudflare.net. 1800 A 9.7.2.1"],
    "coredns.io. A": ["coredns.io. 100 CNAME www.hosting.uvw.", "www.hosting.uvw. 200 A 7.2.3.4"],
    "www.hosting.xyz. A": ["www.hosting.xyz. 500 A 20.30.40.50"],
    "core.dns.rocks. A": [
        "core.dns.rocks. 200 CNAME abcd.efgh.pqrst.",
        "abcd.efgh.pqrst. 100 A 200.30.45.67",
    ],
    "abcd.zzzz.www.pqrst. A": [
        "abcd.zzzz.www.pqrst. 120 A 101.20.5.1",
        "abcd.zzzz.www.pqrst. 120 A 101.20.5.2",
    ],
    "order.service.eu. A": [
        "order.service.eu. 200 CNAME orders.web.eu.site.",
        "orders.web.eu.site. 50 A 10.10.15.1",
    ],
    "orders.webapp.eu.org. A": ["orders.webapp.eu.org. 120 A 20.0.0.9"],
    "cname-chain.org. A": [
        "cname-chain.org. 200 CNAME intermediate-1.com.",
        "intermediate-1.com. 200 CNAME intermediate-2.prod.",
        "intermediate-2.prod. 200 CNAME final.prod.net.",
        "final.prod.net. 120 A 1.2.3.4",
    ],
    "intermediate-2.staging. A": [
        "intermediate-2.staging. 200 CNAME final.staging.net.",
        "final.staging.net. 120 A 5.6.7.8",
    ],
    "plain.example. A": ["plain.example. 60 A 192.0.2.1"],
    "other.example. A": [
        "other.example. 60 CNAME x.other.example.",
        "x.other.example. 60 A 192.0.2.2",
    ],
    "gone.example. CNAME": ["gone.example. 60 CNAME nowhere.uvw."],
    "gone.example. A": ["gone.example. 60 CNAME nowhere.uvw.", "nowhere.uvw. 60 A 192.0.2.3"],
    "cdn.test. A": ["cdn.test. 60 CNAME my.cdn.test.", "my.cdn.test. 60 A 192.0.2.4"],
    "escaped.example. A": ["escaped.example. 60 CNAME aname.test.", "aname.test. 60 A 192.0.2.5"],
    "long.example. A": [f"long.example. 60 CNAME {'a' * 62}.long.test."],
}


def behave(question, _proto):
    """Answer from the zone; NXDOMAIN with a SOA for other names."""
    reply = question.reply(ra=1)
    reply.rr.clear()
    key = f"{question.q.qname} {dnslib.QTYPE[question.q.qtype]}".lower()
    records = next((found for name, found in ZONE.items() if name.lower() == key), None)
    if records is None:
        reply.header.rcode = 3
        reply.add_auth(*dnslib.RR.fromZone(". 60 SOA ns.test. host.test. 1 2 3 4 5"))
    for text in records or ():
        reply.add_answer(*dnslib.RR.fromZone(text))
    return reply


@pytest.fixture(scope="module")
def server():
    rules = "\n".join(f"rewrite continue cname {rule}" for rule in RULES)
    rules += "\nrewrite continue cname exact my.cdn.test cdn.test"
    rules += f"\nrewrite continue cname substring .long {'b' * 10}.long"
    rules += "\nrewrite cname \\097name.test xyz.example.com"
    with (
        Upstream(behave) as upstream,
        serve(f". {{\n{rules}\ncache\nforward . {upstream.to}\n}}", still=True) as server,
    ):
        yield server


@pytest.mark.parametrize(
    ("name", "qtype", "expected"),
    [
        ("abc.example.com", "A", [("CNAME", "xyz.example.com."), ("A", "3.4.5.6")]),
        (
            *("abc.example.com", "AAAA"),
            [("CNAME", "xyz.example.com."), ("AAAA", "3a01:7e00::f03c:91ff:fe79:234c")],
        ),
        (
            *("chat.openai.com", "A"),
            [("CNAME", "bard.google.com.cdn.cloudflare.net."), ("A", "9.7.2.1")],
        ),
        ("coredns.io", "A", [("CNAME", "www.hosting.xyz."), ("A", "20.30.40.50")]),
        (
            *("core.dns.rocks", "A"),
            [("CNAME", "abcd.zzzz.www.pqrst."), ("A", "101.20.5.1"), ("A", "101.20.5.2")],
        ),
        ("order.service.eu", "A", [("CNAME", "orders.webapp.eu.org."), ("A", "20.0.0.9")]),
        (
            *("cname-chain.org", "A"),
            [
                ("CNAME", "intermediate-1.com."),
                ("CNAME", "intermediate-2.staging."),
                ("CNAME", "final.staging.net."),
                ("A", "5.6.7.8"),
            ],
        ),
        ("plain.example", "A", [("A", "192.0.2.1")]),
        ("escaped.example", "A", [("CNAME", "xyz.example.com."), ("A", "3.4.5.6")]),
        ("other.example", "A", [("CNAME", "x.other.example."), ("A", "192.0.2.2")]),
    ],
)
def test_targets(server, name, qtype, expected):
    for _ in range(2):
        record = server.ask(name, qtype)
        found = [(dnslib.QTYPE[rr.rtype], str(rr.rdata)) for rr in record.rr]
        assert (record.header.rcode, found) == (0, expected)
        assert str(record.q.qname) == f"{name}."


def test_a_replaced_target_keeps_a_reply_out_of_the_packet_cache(server):
    before = server.packet_entries
    for name, added in (("coredns.io", 0), ("other.example", 1)):
        for _ in range(3):
            server.ask(name, do=True)
        assert server.packet_entries == before + added


def test_a_target_that_does_not_exist(server):
    """The rcode and the SOA are those of the last name (RFC 6604); CoreDNS keeps the old ones."""
    record = server.ask("gone.example")
    assert record.header.rcode == 3
    assert [str(rr.rdata) for rr in record.rr] == ["nowhere.xyz."]
    assert [rr.rtype for rr in record.auth] == [6]


def test_a_query_for_aliases_causes_no_look_up(server):
    """CoreDNS looks up the new target."""
    record = server.ask("gone.example", "CNAME")
    assert (record.header.rcode, [str(rr.rdata) for rr in record.rr]) == (0, ["nowhere.xyz."])
    assert not record.auth


def test_a_loop_ends(server):
    """CoreDNS never ends it (coredns-faults 1)."""
    assert server.ask("cdn.test").header.rcode == 2
    assert server.ask("plain.example").header.rcode == 0


def test_rules_that_lead_to_each_other_cause_few_look_ups():
    def answer(asked):
        targets = ("a.loop.", "b.loop.", "c.loop.")
        texts = [f"{asked.name} 60 CNAME {target}" for target in targets]
        return asked.reply(answer=[read_record(text, 60).wire for text in texts])

    pairs = ("a.loop b.loop", "b.loop c.loop", "c.loop a.loop")
    rules = "\n".join(f"rewrite continue cname {pair}" for pair in pairs)
    plugins = with_handlers(hello=lambda: Recorder(answer))
    with serve(f". {{\n{rules}\nhello\n}}", plugins=plugins) as server:
        assert server.ask("x.loop").header.rcode == 2
        (recorder,) = server.plugins(Recorder)
        assert 8 < len(recorder.requests) <= 17


def test_a_target_that_is_no_name(server):
    assert server.ask("long.example").header.rcode == 2


def test_without_a_server_there_is_no_look_up():
    (handler,) = set_up("rewrite cname bad.target good.target").handlers

    def alias(asked):
        return asked.reply(answer=dnslib.RR.fromZone("bad.test 60 CNAME bad.target."))

    reply = run_chain(make_request("bad.test"), handler, Recorder(alias))
    assert (reply.rcode, str(reply.record.q.qname)) == (2, "bad.test.")
    assert "too many look-ups" in (reply.error or "")


def test_other_rules_apply_to_the_records_of_the_new_target():
    rules = "rewrite continue ttl suffix example.com 7\nrewrite continue name a.example abc.example.com\n"
    rules += "rewrite cname def.example.com plain.example"
    with (
        Upstream(behave) as upstream,
        serve(f". {{\n{rules}\nforward . {upstream.to}\n}}", still=True) as server,
    ):
        record = server.ask("a.example")
        assert [(str(rr.rname), rr.ttl, str(rr.rdata)) for rr in record.rr] == [
            ("a.example.", 5, "plain.example."),
            ("plain.example.", 60, "192.0.2.1"),
        ]
        record = server.ask("abc.example.com")
        assert [rr.ttl for rr in record.rr] == [7, 7]


def test_a_truncated_reply_of_the_new_target():
    def answer(asked):
        record = dnslib.DNSRecord.parse(asked.wire)
        reply = behave(record, "udp")
        reply.header.tc = str(record.q.qname) == "xyz.example.com."
        return Reply.from_wire(bytes(reply.pack()))

    text = ". {\nrewrite cname def.example.com xyz.example.com\nhello\n}"
    with serve(text, plugins=with_handlers(hello=lambda: Recorder(answer))) as server:
        record = server.ask("abc.example.com")
        assert (record.header.tc, record.header.a) == (1, 2)
