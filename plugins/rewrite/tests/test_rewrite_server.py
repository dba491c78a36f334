"""Rules in a running server: odd upstreams, the packet cache, classes, transfers, reload."""

import socket

import dnslib
import pytest

from corepy.dns import Reply
from corepy.dns.names import from_text
from corepy.dns.presentation import read_record
from corepy.testing import Recorder, Upstream, query, serve, with_handlers
from corepy.testing.behaviours import group
from corepy.testing.client import read_frame
from corepy.testing.crossing import describe
from corepy.testing.wire_message import parse


def test_odd_replies_are_those_of_forward_with_the_name_of_the_client():
    """Only AD differs, since changed records are not authentic."""
    with (
        Upstream("good") as upstream,
        serve(
            f"client.test {{\nrewrite name host.client.test host.example\nforward . {upstream.to}\n}}\n"
            f"example {{\nforward . {upstream.to}\n}}",
            still=True,
        ) as server,
    ):
        for behaviour in sorted(group("contents")):
            upstream.behave(behaviour)
            shown = []
            for name in ("host.client.test.", "host.example."):
                message = parse(server.exchange(query(name, edns=1232, do=True)))
                assert message.question == (from_text(name), 1, 1)
                message.question = None
                lines = describe(message, from_text(name))  # names relative to that of the client
                shown.append([line.replace(" ad", "") for line in lines])
            assert shown[0] == shown[1], behaviour


RULES = r"""
rewrite continue name suffix .client.test .example answer auto
rewrite continue name regex ^(.*)-x\.test\.$ {1}.example answer name ^(.*)\.example\.$ {1}-x.test
rewrite continue rcode gone.example NXDOMAIN NOERROR
rewrite continue class CH IN
rewrite continue type SPF TXT
rewrite continue edns0 local unset 65001
rewrite ttl suffix .example 600-3600
"""
ZONE = {
    "mail.example. MX": [
        "mail.example. 60 MX 1 host.example.",
        "mail.example. 60 MX 2 other.test.",
    ],
    "www.example. A": ["www.example. 60 CNAME host.example.", "host.example. 60 A 192.0.2.1"],
    "www.example. TXT": ["www.example. 60 TXT x"],
}


@pytest.mark.parametrize(
    ("name", "qtype", "qclass", "expected"),
    [
        (
            *("mail.client.test.", 15, 1),
            ["mail.client.test. MX 1 host.client.test.", "mail.client.test. MX 2 other.test."],
        ),
        (
            *("www.client.test.", 1, 1),
            ["www.client.test. CNAME host.client.test.", "host.client.test. A 192.0.2.1"],
        ),
        ("www-x.test.", 1, 1, ["www-x.test. CNAME host.example.", "host-x.test. A 192.0.2.1"]),
        ("www.client.test.", 99, 1, ['www.client.test. TXT "x"']),
        (
            "www.client.test.",
            1,
            3,
            ["www.client.test. CNAME host.client.test.", "host.client.test. A 192.0.2.1"],
        ),
        ("gone.client.test.", 1, 1, []),
    ],
)
def test_the_packet_cache_repeats_rewritten_replies(chain, name, qtype, qclass, expected):
    question = dnslib.DNSRecord(q=dnslib.DNSQuestion(name, qtype, qclass))
    before, shown = chain.packet_entries, []
    for ident in (7, 8, 9, 10):  # from the upstream, from *cache*, and from the packet cache
        question.header.id = ident
        wire = chain.exchange(bytes(question.pack()))
        assert wire[:2] == ident.to_bytes(2, "big")
        record = dnslib.DNSRecord.parse(wire)
        assert (str(record.q.qname), record.q.qtype, record.q.qclass) == (name, qtype, qclass)
        assert record.header.rcode == 0
        shown.append([f"{rr.rname} {dnslib.QTYPE[rr.rtype]} {rr.rdata}" for rr in record.rr])
        assert {rr.ttl for rr in record.rr} <= {600}
    assert shown == [expected] * 4
    assert chain.packet_entries == before + 1
    # in another case, which the packet cache does not answer
    other = dnslib.DNSRecord(q=dnslib.DNSQuestion(name.upper(), qtype, qclass))
    record = dnslib.DNSRecord.parse(chain.exchange(bytes(other.pack())))
    assert str(record.q.qname) == name.upper()
    assert [str(rr.rname).lower() for rr in record.rr] == [text.split()[0] for text in expected]


@pytest.fixture(scope="module")
def chain():
    with (
        Upstream(ZONE) as upstream,
        serve(f". {{\n{RULES}\ncache\nforward . {upstream.to}\n}}", still=True) as server,
    ):
        yield server


def test_classes_of_queries_reach_the_rules():
    text = ". {\n rewrite class CH IN\n hello\n}"
    question = dnslib.DNSRecord(q=dnslib.DNSQuestion("a.example", 16, 3))
    with serve(text, plugins=with_handlers(hello=lambda: Recorder(txt))) as server:
        record = dnslib.DNSRecord.parse(server.exchange(bytes(question.pack())))
        assert (record.header.rcode, record.q.qclass, len(record.rr)) == (0, 3, 1)
    with serve(
        ". {\n rewrite name a b\n hello\n}", plugins=with_handlers(hello=Recorder)
    ) as server:
        assert dnslib.DNSRecord.parse(server.exchange(bytes(question.pack()))).header.rcode == 5


def txt(asked):
    assert asked.qclass == 1
    return asked.reply(0, [read_record("a.example. 60 TXT x", 60).wire])


@pytest.mark.parametrize("is_async", [False, True])
def test_the_messages_of_a_transfer_are_rewritten(is_async):
    ended: list[Reply] = []

    def now(asked):
        for number in range(2):
            yield asked.reply(0, [read_record(f"x{number}.b.example. 60 A 192.0.2.1", 60).wire])

    async def later(asked):
        for message in now(asked):
            yield message

    def transfer(asked):
        reply = asked.reply_series((later if is_async else now)(asked))
        reply.series.on_end(ended.append)
        return reply

    text = ". {\n rewrite name a.example b.example\n hello\n}"
    asked = query("a.example", "AXFR")
    with (
        serve(text, plugins=with_handlers(hello=lambda: Recorder(transfer))) as server,
        socket.create_connection(server.address) as sock,
    ):
        sock.sendall(len(asked).to_bytes(2, "big") + asked)
        for number in range(2):
            record = dnslib.DNSRecord.parse(read_frame(sock))
            assert [str(rr.rname) for rr in record.rr] == [f"x{number}.a.example."]
            assert str(record.q.qname) == "a.example."
    assert len(ended) == 1


def test_a_reload_replaces_the_rules():
    text = ". {{\n rewrite name a.example {}\n hello\n}}"
    plugins = with_handlers(hello=lambda: Recorder(named))
    with serve(text.format("b.example"), plugins=plugins) as server:
        assert str(server.ask("a.example", "TXT").rr[0].rdata) == '"b.example."'
        server.reload(text.format("c.example"))
        assert str(server.ask("a.example", "TXT").rr[0].rdata) == '"c.example."'


def named(asked):
    """Answer with the name that was asked, as a text, which no rule changes back."""
    return asked.reply(0, [read_record(f'{asked.name} 60 TXT "{asked.name}"', 60).wire])
