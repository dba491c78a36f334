"""The answers of *any*, and what its directive takes (plugin/any/any_test.go, setup_test.go)."""

import pytest

from corepy.corefile import parse
from corepy.dns import Request, query
from corepy.dns.names import from_text
from corepy.dns.records import rr
from corepy.plugin import Cacheability
from corepy.server.build.builder import build
from corepy.testing import Recorder, Upstream, refusal, run_chain, serve, set_up, with_handlers
from corepy_any.any import AnyHandler

HINFO = b"\x0dANY obsoleted\x0cSee RFC 8482"
ANY, CLASS_CH, CLASS_ANY = 255, 3, 255


def expected_reply(wire, rclass=1):
    """The whole reply, in the letter case of the question; the flags are QR and RD."""
    request = Request.from_wire(wire)
    return request.reply(answer=[rr(request.question[:-4], 13, 8482, HINFO, rclass)]).wire


@pytest.mark.parametrize("text", ["any", "any\nany"])
def test_accepted(text):
    (handler,) = set_up(text).handlers
    assert isinstance(handler, AnyHandler)
    assert handler.cacheability is Cacheability.SAFE


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "any example.org",
            "Corefile:2:5: wrong argument count or unexpected line ending after 'example.org'",
        ),
        ("any { foo }", "Corefile:2:5: unexpected token '{', expecting an argument"),
        ("any {\n}", "Corefile:2:5: unexpected token '{', expecting an argument"),
    ],
)
def test_refused(text, message):
    assert str(refusal(text)) == message


@pytest.mark.parametrize("name", ["example.org", "eXample.ORG", ".", "a." * 127])
def test_reply(name):
    wire = query(from_text(name), ANY)
    assert run_chain(Request.from_wire(wire), AnyHandler()).wire == expected_reply(wire)


@pytest.mark.parametrize(("qclass", "rclass"), [(CLASS_CH, CLASS_CH), (CLASS_ANY, 1)])
def test_class(qclass, rclass):
    wire = query(from_text("example.org"), ANY, qclass)
    reply = run_chain(Request.from_wire(wire), AnyHandler())
    assert reply.wire == expected_reply(wire, rclass)


@pytest.mark.parametrize("qtype", [1, 28, 15, 16, 5, 251, 254, 256])
def test_other_types_go_on(qtype):
    below = Recorder()
    run_chain(Request.from_wire(query(from_text("example.org"), qtype)), AnyHandler(), below)
    assert len(below.requests) == 1


@pytest.mark.parametrize("tcp", [False, True])
def test_served_beside_the_packet_cache(tcp):
    zone = {"example.org. A": ["example.org. 60 IN A 192.0.2.1"]}
    asked = query(from_text("example.org"), ANY)
    with Upstream(zone) as upstream:
        text = f". {{\nbind 127.0.0.1\nany\ncache\nforward . {upstream.to}\n}}"
        (router,) = build(parse(text)).routers.values()
        assert router.routes[0].obstacle is None
        with serve(text) as server:
            for _ in range(5):
                assert server.exchange(asked, tcp=tcp) == expected_reply(asked)
                assert str(server.ask("example.org", tcp=tcp).rr[0].rdata) == "192.0.2.1"
            assert server.packet_entries == 2
            server.reload(text.replace("any", "minimal"))
            assert server.packet_entries == 0
            assert server.exchange(asked, tcp=tcp) != expected_reply(asked)
    assert "example.org. ANY" in [text for text, _ in upstream.queries]


def test_the_packet_cache_answers_repetitions(monkeypatch):
    calls = []

    class Counted(AnyHandler):
        def begin_dns(self, request):
            calls.append(request.qtype)
            return super().begin_dns(request)

    monkeypatch.setattr("corepy_any.any.REPEATED", 3600.0)
    asked = query(from_text("example.org"), ANY)
    text = ". {\nbind 127.0.0.1\nany\ncache\ntemplate ANY ANY\n}"
    with serve(text, plugins=with_handlers(any=Counted)) as server:
        replies = [server.exchange(asked) for _ in range(3)]
    assert calls == [ANY]
    assert replies[0] == expected_reply(asked)
    ttl = replies[0].index(HINFO) - 6  # the packet cache has lowered it in the meantime
    assert {reply[:ttl] + bytes(4) + reply[ttl + 4 :] for reply in replies} == {
        replies[0][:ttl] + bytes(4) + replies[0][ttl + 4 :]
    }
