"""The handler: which queries it forwards, and what clients get; with servers made by grpcio, too."""

import asyncio
import concurrent.futures
from types import SimpleNamespace
from typing import Any, cast

import dnslib
import grpc
import pytest

from corepy.dns import Reply
from corepy.net.dns_packet import pack
from corepy.plugin import Pending, Wakeups
from corepy.testing import link, make_request, serve, set_up
from corepy.testing.certificates import Authority
from corepy.testing.chain import Recorder
from corepy_grpc import handler as handler_module
from corepy_grpc import metrics
from corepy_grpc.handler import GRPC, query_body
from corepy_grpc.policies import Random, RoundRobin, Sequential
from corepy_grpc.upstream import Target, UpstreamError

CONTEXT = None


class Upstream:
    """An upstream that fails or returns a reply; it notes the queries and their times."""

    address = "192.0.2.1:53"
    target = Target("192.0.2.1", 53)

    def __init__(self, result):
        self.result = result
        self.asked = []

    async def ask(self, wire, seconds):
        self.asked.append((wire, seconds))
        await asyncio.sleep(0)
        if isinstance(self.result, str):
            raise UpstreamError(self.result)
        return self.result(wire) if callable(self.result) else self.result

    def close(self):
        pass


def reply_with(rcode=0, options=b""):
    def make(wire):
        record = dnslib.DNSRecord.parse(wire).reply(ra=1)
        record.header.rcode = rcode
        record.ar = []
        reply = Reply(bytes(record.pack()))
        reply.options = options
        return reply

    return make


def wrong(wire):
    return reply_with()(b"\0\0" + make_request("other.example").wire[2:])


class Chain:
    """The handler above a recorder, with upstreams of the test."""

    def __init__(self, *results, options="", has_next=True):
        text = (
            f"grpc . {' '.join(['192.0.2.1'] * len(results))} {{\npolicy sequential\n{options}\n}}"
        )
        (self.handler,) = set_up(text).handlers
        assert isinstance(self.handler, GRPC)
        self.observers: list[Any] = []
        block = SimpleNamespace(of_kind=lambda kind: self.observers)
        self.handler._config = cast("Any", SimpleNamespace(handlers=block))
        self.upstreams = [Upstream(result) for result in results]
        self.handler._upstreams = cast("Any", self.upstreams)
        self.below = Recorder(lambda request: request.error(0, "below"))
        self.top = link([self.handler, self.below] if has_next else [self.handler])

    def ask(self, *requests):
        async def run():
            await self.handler.before_listen(CONTEXT)
            return await asyncio.gather(*(self.top.serve_dns(request) for request in requests))

        return asyncio.run(run())

    @property
    def counts(self):
        return [len(upstream.asked) for upstream in self.upstreams]


@pytest.mark.parametrize(
    ("results", "options", "rcode", "is_below"),
    [
        ([reply_with()], "", 0, False),
        ([reply_with(3)], "", 3, False),
        ([None], "", 3, False),
        ([wrong], "", 1, False),
        (["refused"], "", 2, False),
        (["refused", reply_with()], "", 0, False),
        (["refused", "refused"], "", 2, False),
        ([reply_with(3)], "fallthrough", 0, True),
        ([None], "fallthrough", 0, True),
        (["refused"], "fallthrough", 0, True),
        ([wrong], "fallthrough", 1, False),
        ([reply_with(2)], "fallthrough", 2, False),
        ([reply_with(3)], "fallthrough example.org", 0, True),
        ([reply_with(3)], "fallthrough example.net", 3, False),
        (["refused"], "fallthrough example.net", 2, False),
        ([reply_with()], "except example.org", 0, True),
        ([reply_with()], "except example.net", 0, False),
    ],
)
def test_replies(results, options, rcode, is_below):
    chain = Chain(*results, options=options)
    (reply,) = chain.ask(make_request("www.example.org"))
    assert (reply.rcode, len(chain.below.requests)) == (rcode, is_below)


@pytest.mark.parametrize("result", [reply_with(3), "refused"])
def test_nothing_falls_through_to_the_end_of_the_chain(result):
    (reply,) = Chain(result, options="fallthrough", has_next=False).ask(make_request("a.example"))
    assert reply.rcode == (2 if result == "refused" else 3)


def test_the_reason_names_each_upstream():
    (reply,) = Chain("a: refused", "b: i/o timeout").ask(make_request("a.example"))
    assert reply.error == "a: refused; b: i/o timeout"


def test_each_upstream_has_a_share_of_the_time(monkeypatch):
    monkeypatch.setattr(handler_module, "monotonic", lambda: 1000.0)
    chain = Chain("no", "no", "no", "no")
    chain.ask(make_request("a.example"))
    assert [upstream.asked[0][1] for upstream in chain.upstreams] == [1.25, 5 / 3, 2.5, 5.0]


@pytest.mark.parametrize(
    ("question", "rcode"), [({"qtype": "AXFR"}, 5), ({"qtype": "IXFR"}, 5), ({"opcode": 4}, 4)]
)
def test_transfers_and_notify_are_refused(question, rcode):
    chain = Chain(reply_with())
    (reply,) = chain.ask(make_request("a.example", **question))
    assert (reply.rcode, chain.counts) == (rcode, [0])


def test_identical_queries_share_an_exchange():
    """The letter case and hop-by-hop options of a client do not make a query another one."""
    before = metrics.SHARED.value
    chain = Chain(reply_with())
    names = "a.example", "A.example", "a.EXAMPLE"
    replies = chain.ask(*(make_request(name) for name in names))
    assert chain.counts == [1]
    assert [dnslib.DNSRecord.parse(it.wire).q.qname.label[0] for it in replies] == [
        b"a",
        b"A",
        b"a",
    ]
    assert metrics.SHARED.value == before + 2
    chain.ask(
        make_request("a.example"), make_request("a.example", "AAAA"), make_request("b.example")
    )
    assert chain.counts == [4]
    chain.ask(make_request("a.example", edns=1232), make_request("a.example", edns=4096))
    assert chain.counts == [5]


def test_the_query_is_that_of_the_client_without_its_hop():
    plain = make_request("WWW.example", ad=1, cd=1)
    assert query_body(plain)[:2] == b"\1\x30"
    assert b"www" in query_body(plain)
    assert len(query_body(make_request("www.example", edns=4096))) == len(query_body(plain)) + 11


def test_more_queries_than_may_wait(monkeypatch):
    """One client gets three quarters of the places."""
    monkeypatch.setattr(handler_module, "MOST_WAITING", 8)
    chain = Chain(reply_with())
    replies = chain.ask(*(make_request(f"{i}.example") for i in range(8)))
    assert sorted(reply.rcode for reply in replies) == [0] * 6 + [2] * 2
    assert all(reply.is_momentary for reply in replies if reply.rcode)
    assert (chain.handler._waiting, chain.handler._shares.held) == (0, {})


class Observer:
    name = "observer"
    call_label = "observed"

    def __init__(self, *, fails=False):
        self.seen = []
        self.fails = fails

    def observe_attempt(self, request, attempt):
        self.seen.append((attempt.upstream, attempt.protocol, attempt.error))
        if self.fails:
            raise ValueError("injected")


@pytest.mark.parametrize("fails", [False, True])
def test_attempts_are_reported_to_observers(fails):
    """For the queries that they have selected; a fault of theirs costs nothing."""
    chain = Chain("no", reply_with())
    unix = Chain(reply_with())
    unix.upstreams[0].target = Target("/run/g.sock", 0)
    observer = Observer(fails=fails)
    selected, other = make_request("a.example"), make_request("a.example")
    selected.metadata["observed"], other.metadata["other"] = "yes", "yes"
    for each in (chain, unix):
        each.observers = [observer]
        assert [reply.rcode for reply in each.ask(selected, other)] == [0, 0]
    address = ("192.0.2.1", 53)
    assert observer.seen == [(address, "grpc", "no"), (address, "grpc", "")]


def test_a_client_that_leaves_does_not_end_the_exchange():
    chain = Chain(reply_with())

    async def run():
        first, second = (
            asyncio.ensure_future(chain.top.serve_dns(make_request("a.example"))) for _ in range(2)
        )
        await asyncio.sleep(0)
        first.cancel()
        return (await second).rcode

    assert asyncio.run(run()) == 0
    assert chain.counts == [1]


def test_policies():
    upstreams = ["a", "b", "c"]
    assert {tuple(Random()(upstreams)) for _ in range(500)} >= {("a", "b", "c"), ("c", "b", "a")}
    assert Random()(["a"]) == ["a"]
    turns = RoundRobin()
    assert [list(turns(upstreams)) for _ in range(3)] == [list("bca"), list("cab"), list("abc")]
    assert Sequential()(upstreams) == upstreams


def test_explain_and_status():
    chain = Chain(reply_with(), options="except example.net")
    (handler,) = set_up("grpc example.org 192.0.2.1 unix:///g").handlers
    request = make_request("a.example.org")
    assert handler.explain_state(request)["upstreams"] == "192.0.2.1:53, unix:///g"
    assert handler.queries_upstream(request)
    assert chain.handler.explain_state(make_request("example.net")) == {"state": "not forwarded"}
    assert [it["state"] for it in handler.status()["upstreams"]] == ["up", "up"]
    assert handler.status()["problems"] == []


def test_status_without_an_upstream_that_is_up(tmp_path):
    async def run():
        (handler,) = set_up(f"grpc . unix://{tmp_path}/missing").handlers
        assert (await handler.serve_dns(make_request("a.example"))).rcode == 2
        return handler.status()["problems"]

    assert asyncio.run(run()) == ["all upstreams for . are down"]


class GRPCIOServer:
    """A server made with grpcio, which answers A queries for names but missing.example."""

    def __init__(self, credentials=None):
        self.queries = []
        self._pool = concurrent.futures.ThreadPoolExecutor(4)
        self._server = grpc.server(self._pool)
        handlers = {"Query": grpc.unary_unary_rpc_method_handler(self._query)}
        generic = grpc.method_handlers_generic_handler("coredns.dns.DnsService", handlers)
        self._server.add_generic_rpc_handlers([generic])
        if credentials is None:
            self.port = self._server.add_insecure_port("127.0.0.1:0")
        else:
            self.port = self._server.add_secure_port("127.0.0.1:0", credentials)
        self._server.start()

    def _query(self, packet, context):
        wire = packet[3:] if packet[1] > 127 else packet[2:]
        query = dnslib.DNSRecord.parse(wire)
        self.queries.append(str(query.q.qname))
        if query.q.qname.matchSuffix("missing.example"):
            context.abort(grpc.StatusCode.NOT_FOUND, "no such name")
        reply = query.reply()
        for number in range(400 if query.q.qname.matchSuffix("large.example") else 1):
            reply.add_answer(
                dnslib.RR(query.q.qname, ttl=60, rdata=dnslib.A(f"192.0.2.{number % 256}"))
            )
        return pack(bytes(reply.pack()))[5:]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.stop(None).wait()
        self._pool.shutdown()


@pytest.mark.parametrize("is_secure", [False, True])
def test_a_server_made_with_grpcio(tmp_path, is_secure):
    credentials, options = None, ""
    if is_secure:
        files = Authority().issue(tmp_path, "dns.example")
        pair = files.key.read_bytes(), files.certificate.read_bytes()
        credentials = grpc.ssl_server_credentials([pair])
        options = f"tls {files.authority}\ntls_servername dns.example"
    requests = metrics.REQUESTS.labels("x").value
    with GRPCIOServer(credentials) as upstream:
        address = f"127.0.0.1:{upstream.port}"
        text = f".:0 {{\ngrpc . {address} {{\n{options}\n}}\n}}"
        with serve(text) as server, concurrent.futures.ThreadPoolExecutor(8) as pool:
            names = [f"n{i}.example" for i in range(40)]
            assert all(reply.rr for reply in pool.map(server.ask, names))
            assert server.ask("missing.example").header.rcode == 3
            assert len(server.ask("large.example", tcp=True).rr) == 400
            (handler,) = server.plugins(GRPC)
            (state,) = handler.status()["upstreams"]
    assert sorted(upstream.queries) == sorted(
        [f"{name}." for name in names] + ["missing.example.", "large.example."]
    )
    assert (state["queries"], state["failures"]) == (42, 0)
    assert metrics.REQUESTS.labels(address).value == 42
    assert metrics.RESPONSES.labels("NXDOMAIN", address).value == 1
    assert requests == 0


def test_pending_is_awaited_below():
    """A handler below may answer in a callback."""
    chain = Chain(None, options="fallthrough")

    async def run():
        wakeups = Wakeups(asyncio.get_running_loop())
        request = make_request("a.example")
        pending = Pending(wakeups, lambda _: request.error(0))
        vars(chain.below)["serve_dns"] = lambda _: pending
        await chain.handler.before_listen(CONTEXT)
        asyncio.get_running_loop().call_later(0, pending.wake)
        return (await chain.top.serve_dns(request)).rcode

    assert asyncio.run(run()) == 0
