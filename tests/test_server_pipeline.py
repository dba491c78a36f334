"""From the bytes of a query to those of its reply, with a runner of the test: no socket, no loop."""

import ipaddress
from types import SimpleNamespace

import pytest

from corepy.dns import ANONYMOUS, Identity, RequestContext, finish
from corepy.dns.constants import TYPE_A
from corepy.dns.records import rr
from corepy.plugin import BlockConfig, Handler, ListenerConfig, ObservingHandler, ProxyPolicy
from corepy.server.listen import packet_cache
from corepy.server.listen.packet_cache import SWITCH, MemoryPool
from corepy.server.listen.pipeline import QueryPipeline
from corepy.server.listen.router import ROOT, Router, ZoneRoute
from corepy.testing import query

pytestmark = pytest.mark.pure_form("has a runner that is no ChainRunner")

NOW = 1000.0
PEER, LOCAL = ("192.0.2.1", 1053), ("127.0.0.1", 53)
UNROUTED = RequestContext("udp", "udp", "dns://:53", family=1)


class Runner:
    """Answers with what a test says, at once or later."""

    def __init__(self, answer):
        self.answer = answer
        self.requests, self.delivered = [], []

    def start(self, chain, request):
        self.requests.append((chain, request))
        return self.answer(request)

    def deliver(self, request, reply):
        self.delivered.append((request, reply))


class Observer(ObservingHandler):
    """Notes who has answered, and does to the reply what a test says."""

    name = "observer"

    def __init__(self, change=lambda reply: None):
        self.change, self.seen = change, []

    def observe(self, request, reply):
        self.seen.append((request.name, reply.rcode, reply.answered_by))
        self.change(reply)


class Answers(Handler):
    name = "answers"


def router_of(*observers, obstacle=None, dropped=None):
    entry = Answers()
    route = ZoneRoute(".", entry, obstacle, entry, observers)
    return Router({ROOT: route}, any_class=False, dropped=dropped, echoed_options=frozenset((7,)))


@pytest.fixture
def pipeline(monkeypatch):
    loop = SimpleNamespace(call_later=lambda *_: None)
    monkeypatch.setattr(packet_cache, "get_running_loop", lambda: loop)
    made = QueryPipeline(UNROUTED, MemoryPool(1 << 20))
    made.swap(router_of(), ListenerConfig())
    return made


def answered(request, deadline=None):
    reply = request.reply(answer=[rr(request.name_wire, TYPE_A, 60, bytes(4))])
    reply.deadline = deadline
    return reply


def kept(request):
    return answered(request, NOW + 60)


def begin(pipeline, runner, wire=None, identity=ANONYMOUS):
    wire = query("a.test.", id=7) if wire is None else wire
    return pipeline.begin(wire, NOW, PEER, LOCAL, runner, identity)


def begun(pipeline, identity=ANONYMOUS, answer=lambda _: None):
    """Begin a query whose chain waits; return its request."""
    runner = Runner(answer)
    assert begin(pipeline, runner, identity=identity) is None
    ((chain, request),) = runner.requests
    assert type(chain) is Answers
    return request


def test_what_a_chain_knows_about_its_query(pipeline):
    request = begun(pipeline)
    assert (request.received, request.peer, request.local) == (NOW, PEER, LOCAL)
    assert (request.client, request.identity) == (PEER, ANONYMOUS)
    context = request.context
    assert (context.zone, context.family, context.echoed_options) == (".", 1, {7})
    assert (context.router, context.route) == (pipeline.router, pipeline.router.routes[0])
    assert (context.uses_deadlines, pipeline.label) == (True, "dns://:53")


@pytest.mark.parametrize("client", [None, ("198.51.100.1", 5)])
def test_the_client_of_a_connection_that_a_proxy_relays(pipeline, client):
    identity = Identity(client=client)
    request = begun(pipeline, identity)
    assert (request.peer, request.client) == (PEER, client or PEER)
    assert request.identity is identity


@pytest.mark.parametrize(("uses_headers", "family"), [(False, 1), (True, 0)])
def test_the_family_of_a_socket_behind_a_proxy_is_unknown(pipeline, uses_headers, family):
    config = BlockConfig([])
    if uses_headers:
        config.set(ProxyPolicy((ipaddress.ip_network("192.0.2.0/24"),)))
    pipeline.swap(router_of(), config)
    assert begun(pipeline).context.family == family
    pipeline.swap(router_of(), ListenerConfig())
    assert begun(pipeline).context.family == 1


def test_a_reply_is_not_answered_and_nonsense_is_refused(pipeline):
    runner = Runner(answered)
    wire = query("a.test.", id=7)
    assert begin(pipeline, runner, wire[:2] + b"\x81" + wire[3:]) == b""
    assert begin(pipeline, runner, wire[:-1]) == wire[:2] + b"\x81\x01" + bytes(8)
    assert runner.requests == []


def test_a_series_is_delivered(pipeline):
    series = []

    def answer(request):
        reply = request.error(0)
        reply.series = SimpleNamespace(is_ended=False, size=1000)
        series.append(reply)
        return reply

    runner = Runner(answer)
    assert begin(pipeline, runner) is None
    ((_, request),) = runner.requests
    assert runner.delivered == [(request, series[0])]
    refused = pipeline.complete(request, series[0])
    assert refused == finish(request, request.error(5))
    series[0].series.is_ended = True
    assert pipeline.complete(request, series[0]) == b""
    rcodes = [number for number, count in enumerate(pipeline.traffic.rcodes) for _ in range(count)]
    assert (rcodes, pipeline.traffic.waited) == ([0, 5], 2)


@pytest.mark.parametrize("is_hook_broken", [False, True])
def test_the_hook_for_queries_without_a_block(pipeline, is_hook_broken, caplog):
    calls = []

    def dropped(*, request, reply):
        calls.append((request.name, reply.rcode, request.context.server, request.context.route))
        if is_hook_broken:
            raise SystemExit(3)

    wire = query("a.test.", id=7)
    refused = wire[:2] + b"\x81\x05" + wire[4:]
    pipeline.swap(Router({}, any_class=False, dropped=None), ListenerConfig())
    assert begin(pipeline, Runner(answered), wire) == refused
    for routes in ({}, {ROOT: ZoneRoute(".", None)}):
        pipeline.swap(Router(routes, any_class=False, dropped=dropped), ListenerConfig())
        assert begin(pipeline, Runner(answered), wire) == refused
    assert calls == [("a.test.", 5, "dns://:53", None)] * 2
    assert caplog.text.count("the hook dropped failed") == 2 * is_hook_broken


@pytest.mark.parametrize(
    ("change", "is_fault"),
    [
        (lambda reply: None, False),
        (lambda reply: setattr(reply, "wire", bytes(bytearray(reply.wire))), True),
        (lambda reply: setattr(reply, "hit_counters", []), True),
        (lambda reply: setattr(reply, "hit_counters", (1,)), False),
        (lambda reply: reply.nothing, True),
    ],
)
@pytest.mark.parametrize("by", [None, "hosts"])
def test_observers_see_a_reply_that_they_may_not_change(pipeline, change, is_fault, by, caplog):
    first, second = Observer(change), Observer()
    pipeline.swap(router_of(first, second), ListenerConfig())
    request = begun(pipeline)
    reply = answered(request)
    reply.answered_by = by
    sent = pipeline.complete(request, reply)
    assert first.seen == [("a.test.", 0, by or "answers")]
    assert second.seen == ([] if is_fault else first.seen)
    assert sent == finish(request, request.error(2) if is_fault else answered(request))
    assert ("changed a reply that it only observes" in caplog.text) is (
        is_fault and change.__code__.co_names != ("nothing",)
    )


def test_a_dropped_query_is_observed_and_gets_no_reply(pipeline):
    observer = Observer()
    pipeline.swap(router_of(observer), ListenerConfig())
    request = begun(pipeline)
    assert pipeline.complete(request, request.drop()) == b""
    assert len(observer.seen) == 1


def test_a_reply_that_cannot_be_sent(pipeline, caplog):
    request = begun(pipeline)
    reply = answered(request)
    reply.wire = None
    assert pipeline.complete(request, reply) == finish(request, request.error(2))
    assert len(caplog.records) == 1


@pytest.mark.parametrize("part", ["context", "identity"])
def test_a_request_of_which_a_plugin_has_replaced_a_part(pipeline, part):
    request = begun(pipeline)
    reply = answered(request)
    setattr(request, part, None)
    assert pipeline.complete(request, reply) == finish(request, request.error(2))


class Signs:
    """Signs with a mark."""

    reserved = 4

    def applies_to(self, message):
        return True

    def sign(self, message):
        return message + b"mark"


def test_replies_are_signed_where_the_query_was(pipeline):
    request = begun(pipeline, Identity(signer=Signs()))
    assert pipeline.complete(request, answered(request))[-4:] == b"mark"
    broken = answered(request)
    broken.wire = None
    assert pipeline.complete(request, broken)[-4:] == b"mark"
    without = begun(pipeline, Identity())
    assert pipeline.complete(without, answered(without))[-4:] == bytes(4)
    pipeline.swap(Router({}, any_class=False, dropped=None), ListenerConfig())
    assert begin(pipeline, Runner(answered), identity=Identity(signer=Signs()))[-4:] == b"mark"


# -- what the packet cache gets


def entries(pipeline):
    return len(pipeline.packets.entries)


def test_a_reply_with_a_deadline_is_kept(pipeline):
    assert begin(pipeline, Runner(answered)) is not None
    assert entries(pipeline) == 0
    sent = begin(pipeline, Runner(kept))
    (entry,) = pipeline.packets.entries.values()
    assert entry.body == sent[2:]
    pipeline.swap(router_of(), ListenerConfig())
    assert entries(pipeline) == 0


def test_a_reply_of_the_configuration_before_is_sent_and_not_kept(pipeline):
    request = begun(pipeline)
    pipeline.swap(router_of(), ListenerConfig())
    assert pipeline.complete(request, kept(request)) == finish(request, answered(request))
    assert entries(pipeline) == 0


def test_a_reply_of_a_block_with_an_obstacle_is_not_kept(pipeline):
    pipeline.swap(router_of(obstacle="acl"), ListenerConfig())
    assert begin(pipeline, Runner(kept)) is not None
    assert entries(pipeline) == 0


def test_without_the_packet_cache_nothing_is_kept(pipeline, monkeypatch):
    monkeypatch.setenv(SWITCH, "off")
    made = QueryPipeline(UNROUTED, MemoryPool(1 << 20))
    made.swap(router_of(), ListenerConfig())
    assert begin(made, Runner(kept)) is not None
    assert entries(made) == 0
