"""The flags that *header* changes, alone and in a server (plugin/header/handler_test.go)."""

import dnslib
import pytest

from corepy.corefile import parse
from corepy.dns import Reply, Request, query
from corepy.dns.constants import FLAG_AA, FLAG_AD, FLAG_CD, FLAG_RA, FLAG_RD
from corepy.dns.edns import Edns, option
from corepy.dns.names import from_text
from corepy.plugin import Cacheability
from corepy.server.build.builder import build
from corepy.testing import Recorder, Upstream, make_request, run_chain, serve, set_up

AA, RA, RD, AD, CD = FLAG_AA, FLAG_RA, FLAG_RD, FLAG_AD, FLAG_CD
QR = 0x8000


def handler_for(*rules):
    (handler,) = set_up("header {\n" + "".join(f"{rule}\n" for rule in rules) + "}").handlers
    return handler


def flags_of(wire):
    return wire[2] << 8 | wire[3]


def change(rules, asked=RD, answered=QR | RD):
    """The flags of the query that is passed on, and those of the reply."""
    below = Recorder()

    def answer(request):
        wire = request.error(0).wire
        return Reply(wire[:2] + answered.to_bytes(2, "big") + wire[4:])

    below._answer = answer
    request = Request.from_wire(query(from_text("example.org"), 1, ident=7, flags=asked))
    reply = run_chain(request, handler_for(*rules), below)
    (passed,) = below.requests
    assert flags_of(passed.wire) == passed.flags
    assert (passed.wire[:2], passed.wire[4:]) == (request.wire[:2], request.wire[4:])
    assert (passed.asked, passed.id) == (request.asked, 7)
    assert request.flags == asked
    assert (reply.wire[:2], reply.wire[4:]) == (b"\0\7", request.error(0).wire[4:])
    return passed.flags, flags_of(reply.wire)


@pytest.mark.parametrize(
    ("rule", "asked", "passed"),
    [
        # CoreDNS's cases.
        ("query set ra", RD, RD | RA),
        ("query set rd", 0, RD),
        ("query clear rd", RD, 0),
        ("query set aa", RD, RD | AA),
        # Our own.
        ("query set rd", RD, RD),
        ("query clear ra aa", RD | RA | AA | CD | AD, RD | CD | AD),
    ],
)
def test_query_rules(rule, asked, passed):
    assert change([rule], asked, QR | asked & RD) == (passed, QR | asked & RD)


@pytest.mark.parametrize(
    ("rule", "answered", "sent"),
    [
        # CoreDNS's cases.
        ("response set ra", QR, QR | RA),
        ("response clear ra", QR | RA, QR),
        ("response set rd", QR, QR | RD),
        ("response set aa", QR, QR | AA),
        # Our own.
        ("response clear aa rd", QR | AA | RD | RA | AD | 3, QR | RA | AD | 3),
        ("response set ra", QR | RA | 5, QR | RA | 5),
    ],
)
def test_response_rules(rule, answered, sent):
    assert change([rule], RD, answered) == (RD, sent)


@pytest.mark.parametrize(
    ("rules", "asked", "answered", "sent"),
    [
        (["query set rd"], 0, QR | RD, QR),  # CoreDNS: QR | RD
        (["query clear rd"], RD, QR | RA, QR | RD | RA),  # CoreDNS: QR | RA
        (["query set rd", "response set rd"], 0, QR | RD, QR | RD),
        (["query clear rd", "response clear rd"], RD, QR, QR),
    ],
)
def test_the_reply_repeats_rd_of_the_client(rules, asked, answered, sent):
    assert change(rules, asked, answered)[1] == sent


def test_a_changed_query_keeps_its_records_and_origin():
    below = Recorder()
    edns = Edns(options=option(10, b"8 octets"))
    request = Request.from_wire(query(from_text("Example.org"), 1, edns=edns))
    request.peer, request.received = ("192.0.2.7", 4000), 2.5
    run_chain(request, handler_for("query clear rd"), below)
    (passed,) = below.requests
    assert (passed.edns, passed.peer, passed.received) == (request.edns, request.peer, 2.5)
    assert passed.metadata is request.metadata
    notify = bytes.fromhex("000721000001000100000000") + from_text("a") + b"\0\6\0\1"
    notify += from_text("a") + bytes.fromhex("0006000100000000001600") + b"\0" + bytes(20)
    request = Request.from_wire(notify)
    run_chain(request, handler_for("query clear rd"), below)
    assert below.requests[1].wire == notify[:2] + b"\x20\0" + notify[4:]


def test_the_changed_reply_needs_no_new_validation():
    request = make_request("example.org")
    reply = run_chain(request, handler_for("response set ra"), Recorder())
    assert reply.validated is reply.wire
    assert reply.validated_for is request.asked


def test_a_dropped_query_stays_dropped():
    below = Recorder(lambda request: request.drop())
    assert run_chain(make_request("a"), handler_for("response set ra"), below).is_dropped


def test_errors_of_the_handlers_below_are_changed():
    """CoreDNS makes the SERVFAIL of an error above its plugins, so *header* does not see it."""
    with serve(". {\nbind 127.0.0.1\nheader {\nresponse set ra\n}\n}") as server:
        assert flags_of(server.exchange(query(from_text("a"), 1))) == QR | RD | RA | 2


def test_cacheability():
    assert handler_for("query set rd").cacheability is Cacheability.SAFE


ZONE = {"example.org. A": ["example.org. 60 IN A 192.0.2.1"]}


def flags_served(server, tcp, flags):
    wire = query(from_text("example.org"), 1, flags=flags)
    reply = server.exchange(wire, tcp=tcp)
    assert [str(rr.rdata) for rr in dnslib.DNSRecord.parse(reply).rr] == ["192.0.2.1"]
    return flags_of(reply)


@pytest.mark.parametrize("tcp", [False, True])
def test_served_above_forward(tcp):
    """*forward* returns a `Pending`; the upstream gets the changed query."""
    received = []

    def answer(asked, _proto):
        if str(asked.q.qname) == "example.org.":
            received.append(asked.header.rd)
        reply = asked.reply(ra=0, aa=1)
        reply.add_answer(*dnslib.RR.fromZone(ZONE["example.org. A"][0]))
        return reply

    text = ". {\nbind 127.0.0.1\nheader {\nquery clear rd\nresponse set ra\n}\nforward . %s\n}"
    with Upstream(answer) as upstream, serve(text % upstream.to) as server:
        assert flags_served(server, tcp, RD) == QR | AA | RD | RA
        assert flags_served(server, tcp, 0) == QR | AA | RA
    assert received == [0, 0]


@pytest.mark.parametrize("tcp", [False, True])
def test_served_below_the_caches(tcp):
    """The packet cache is on, and repeats the flags that *cache* keeps."""
    with Upstream(ZONE) as upstream:
        text = (
            ". {\nbind 127.0.0.1\nheader {\nquery set rd\nresponse set ra\n}\ncache\n"
            f"forward . {upstream.to}\n}}"
        )
        (router,) = build(parse(text)).routers.values()
        assert router.routes[0].obstacle is None
        with serve(text) as server:
            for flags in (RD, 0, RD | CD):
                served = [flags_served(server, tcp, flags) & (RA | RD | CD) for _ in range(4)]
                assert served == [RA | flags] * 4
            assert server.packet_entries == 3
            server.reload(text.replace("set ra", "clear ra"))
            assert not flags_served(server, tcp, RD) & RA
