"""What a tap gets: a handler of another plugin that records the messages to and from upstreams."""

import time

from corepy.plugin import Cacheability, FastHandler
from corepy.plugin.protocols import TapKind
from corepy.testing import Upstream, serve, with_handlers
from corepy_forward.handler import Forward
from corepy_forward.pool import Pool
from corepy_forward.tapping import TappedPool

QUERY, RESPONSE = TapKind.FORWARDER_QUERY, TapKind.FORWARDER_RESPONSE
ANSWERS = {"example.org. A": ["example.org. 60 IN A 192.0.2.1"]}


class Tap(FastHandler):
    name = "tap"
    cacheability = Cacheability.SAFE

    def __init__(self):
        self.tapped = []

    def begin_dns(self, request):
        return self.next.begin_dns(request)

    def tap_message(self, request, message):
        self.tapped.append((request, message))


def serve_tapped(upstream, *options):
    text = f". {{\ntap\nforward . {upstream} {{\n" + "\n".join(options) + "\n}\n}"
    return serve(text, plugins=with_handlers(tap=Tap))


def tapped(server):
    (tap,) = server.plugins(Tap)
    return tap.tapped


def kinds(server):
    return [(message.kind, message.protocol) for _, message in tapped(server)]


def test_a_query_and_its_response():
    before = time.time()
    with Upstream(ANSWERS) as upstream, serve_tapped(upstream.to) as server:
        reply = server.ask("example.org.", id=5)
        (request, query), (same, response) = tapped(server)
        port = int(upstream.to.rpartition(":")[2])
        assert kinds(server) == [(QUERY, "udp"), (RESPONSE, "udp")]
    assert request is same
    assert (request.id, request.name) == (5, "example.org.")
    assert query.upstream == response.upstream == ("127.0.0.1", port)
    assert query.local == response.local
    assert query.local[0] == "127.0.0.1"
    assert query.wire[:2] == response.wire[:2]
    assert response.wire.endswith(reply.pack()[-4:]) or b"\xc0\0\2\1" in response.wire
    assert query.query_time is None
    assert before <= query.time <= response.time <= time.time()
    assert before <= response.query_time <= response.time


def test_a_tap_that_fails_costs_no_query(caplog, monkeypatch):
    def fail(self, request, message):
        raise LookupError("a mistake")

    monkeypatch.setattr(Tap, "tap_message", fail)
    with Upstream(ANSWERS) as upstream, serve_tapped(upstream.to) as server:
        assert str(server.ask("example.org.").rr[0].rdata) == "192.0.2.1"
    assert caplog.text.count("failed to tap a message: LookupError: a mistake") == 2


def test_a_truncated_reply_and_the_query_over_tcp():
    with Upstream("truncates") as upstream, serve_tapped(upstream.to, "force_tcp") as server:
        server.ask("example.org.")
        local = [message.local for _, message in tapped(server)]
        assert kinds(server) == [(QUERY, "tcp"), (RESPONSE, "tcp")]
    # Before the connection is established, the address of this server is not known.
    assert local[0] in (None, local[1])
    assert local[1][0] == "127.0.0.1"


def test_a_connection_that_is_there_already():
    with Upstream(ANSWERS) as upstream, serve_tapped(upstream.to, "force_tcp") as server:
        for _ in range(2):
            server.ask("example.org.")
        local = [message.local for _, message in tapped(server)]
    assert local[1] == local[2] == local[3]


def test_clients_that_wait_for_one_exchange_cause_one_message():
    with Upstream(ANSWERS) as upstream, serve_tapped(upstream.to) as server:
        (tap,) = server.plugins(Tap)
        (forward,) = server.plugins(Forward)
        assert type(forward.pool) is TappedPool
        for ident in (1, 2):
            server.ask("example.org.", id=ident)
        assert [request.id for request, _ in tap.tapped] == [1, 1, 2, 2]


def test_health_checks_are_not_tapped():
    with Upstream(ANSWERS) as upstream, serve_tapped(upstream.to) as server:
        while not upstream.queries:
            time.sleep(0)
        assert tapped(server) == []


def test_without_a_tap_the_usual_classes_are_used():
    with (
        Upstream(ANSWERS) as upstream,
        serve(f". {{\nforward . {upstream.to}\n}}") as server,
    ):
        (forward,) = server.plugins(Forward)
        assert type(forward.pool) is Pool
