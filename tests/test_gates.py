"""Gates: limits per client that apply before the packet cache answers, without turning it off."""

import socket
import struct

import pytest

from corepy.net.batch import NAME_SIZE, SLOTS, Batch
from corepy.net.client_prefix import ClientPrefix
from corepy.net.connection_limit import client_number
from corepy.net.own_connections import connected
from corepy.net.plain import PlainBatch
from corepy.net.sockets import Address, open_udp
from corepy.plugin import (
    Cacheability,
    Denial,
    FastHandler,
    GatingHandler,
    Handler,
    apply_step,
    denied_reply,
)
from corepy.server.build.routes import gates_of
from corepy.server.listen.router import Router, ZoneRoute
from corepy.server.listen.status_query import status_query
from corepy.testing import make_request, query, serve, with_handlers

ANSWER = 'template IN A . {\n answer "{{ .Name }} 60 IN A 192.0.2.1"\n}'
LIMITED = "127.0.0.9"
NUMBER = client_number((LIMITED, 0))


class PeerGate:
    """Puts one client over its limit, always; records what it is asked."""

    def __init__(self, denial):
        self.denial = denial
        self.asked = []
        self.denied = []
        self.hits = 0

    def over_limit(self, clients, now):
        self.asked += clients
        return [index for index, client in enumerate(clients) if client == NUMBER]

    def deny(self, peer, server):
        self.denied.append((client_number(peer), server.partition("://")[0]))
        return self.denial

    def count_hits(self, times):
        self.hits += times


class Gated(FastHandler, GatingHandler):
    """As *ratelimit*, with another gate."""

    name = "gated"
    cacheability = Cacheability.OBSERVES
    denial = Denial.DROP

    def __init__(self):
        self.gate = PeerGate(self.denial)
        self.gated = []

    def begin_dns(self, request):
        self.gated.append(request.context.is_gated)
        if not request.context.is_gated and request.context.network == "udp":
            if self.gate.over_limit([client_number(request.client)], request.received):
                denial = self.gate.deny(request.client, "")
                assert denial is not None
                return denied_reply(request, denial)
            return apply_step(self.next.begin_dns(request), self.attach, request)
        return self.next.begin_dns(request)

    def attach(self, request, reply):
        if reply.deadline is not None:
            reply.hit_counters += (self.gate,)
        return reply


def gated_server(denial=Denial.REFUSE, *, shared=True):
    """A server with a gate; at another block of the same address there is none if not `shared`."""
    kind = type("Gated", (Gated,), {"denial": denial})
    text = f". {{\n gated\n cache\n {ANSWER}\n}}\n"
    if not shared:
        text += f"other.test {{\n {ANSWER}\n}}\n"
    return serve(text, plugins=with_handlers(gated=kind))


@pytest.mark.parametrize("shared", [True, False], ids=["listener", "block"])
@pytest.mark.parametrize("denial", [Denial.REFUSE, Denial.TRUNCATE], ids=lambda it: it.name)
def test_a_denied_client_gets_a_short_reply_whether_or_not_the_packet_cache_has_one(denial, shared):
    with gated_server(denial, shared=shared) as server:
        (handler,) = server.plugins(Gated)
        for times in range(3):  # from the chain, from the packet cache, again
            assert str(server.ask("www.test.").a.rdata) == "192.0.2.1"
            denied = server.ask("www.test.", source=LIMITED, edns=1232)
            expected = (5, 0) if denial is Denial.REFUSE else (0, 1)
            assert (denied.header.rcode, denied.header.tc) == expected
            assert (denied.rr, len(denied.questions), len(denied.ar)) == ([], 1, 1)
            assert handler.gate.denied == [(NUMBER, handler.gate.denied[0][1])] * (times + 1)
        assert len(handler.gated) < len(handler.gate.asked)  # the packet cache has answered
        assert set(handler.gated) == {shared}
        assert len(server.ask("www.test.", source=LIMITED, tcp=True).rr) == 1


@pytest.mark.parametrize("shared", [True, False], ids=["listener", "block"])
def test_a_dropped_query_gets_no_reply_and_costs_the_others_none(shared):
    """The queries of both clients wait in the socket's queue together."""
    with gated_server(Denial.DROP, shared=shared) as server:
        server.ask("www.test.")
        (handler,) = server.plugins(Gated)
        queries = [query("www.test."), query("new.test.")]
        clients = [socket.socket(type=socket.SOCK_DGRAM) for _ in range(2)]
        clients[0].bind((LIMITED, 0))

        def send():
            for wire in queries:
                for client in clients:
                    client.sendto(wire, server.address)

        server.call(send)
        clients[1].settimeout(60)
        replies = {clients[1].recv(512)[:2] for _ in queries}
        assert replies == {wire[:2] for wire in queries}
        # All datagrams before this one were processed.
        assert server.ask("www.test.").rr
        assert handler.gate.asked.count(NUMBER) == 2
        with pytest.raises(BlockingIOError):
            clients[0].recv(512, socket.MSG_DONTWAIT)
        for client in clients:
            client.close()


def test_queries_of_another_block_are_not_asked_about():
    with gated_server(shared=False) as server:
        for _ in range(2):
            assert server.ask("www.other.test.", source=LIMITED).header.rcode == 0
        assert server.plugins(Gated)[0].gate.asked == []


def test_a_gate_that_fails_admits_all():
    class FailingGate(PeerGate):
        def over_limit(self, clients, now):
            return 1 / 0

    class Failing(Gated):
        def __init__(self):
            super().__init__()
            self.gate = FailingGate(self.denial)

    text = f". {{\n gated\n cache\n {ANSWER}\n}}\n"
    with serve(text, plugins=with_handlers(gated=Failing)) as server:
        assert server.ask("www.test.", source=LIMITED).header.rcode == 0


def test_denials_without_a_question_or_with_another_opcode_are_drops():
    with gated_server() as server:
        endpoint = next(iter(server.server.endpoints.values()))
        pipeline = endpoint.listener("udp").pipeline
        for wire in (b"", bytes(12), b"\0\1\x10\0" + query("www.test.")[4:]):
            assert server.call(pipeline.deny, wire, 0.0, (LIMITED, 0), Denial.REFUSE) == b""
        wire = query("www.test.")
        assert server.call(pipeline.deny, wire, 0.0, (LIMITED, 0), Denial.DROP) == b""


@pytest.mark.parametrize("shared", [True, False], ids=["listener", "block"])
@pytest.mark.parametrize("denial", [Denial.REFUSE, Denial.DROP], ids=lambda it: it.name)
def test_denied_queries_count_as_traffic(denial, shared):
    """Four from the denied client, of which a batch contains one or more, and two from another."""
    with gated_server(denial, shared=shared) as server:
        traffic = server.server.traffic
        server.ask("www.test.")
        with socket.socket(type=socket.SOCK_DGRAM) as client:
            client.bind((LIMITED, 0))
            for _ in range(4):
                client.sendto(query("www.test."), server.address)
            server.ask("www.test.")
        is_dropped = denial is Denial.DROP
        assert (traffic.unanswered, traffic.replies()[5]) == ((4, 0) if is_dropped else (0, 4))
        counts = {item.key: item.estimate for item in traffic.top.window.clients.items()}
        assert counts[socket.inet_aton(LIMITED)] == 4


def test_a_denial_is_not_cached():
    request = make_request("www.test.")
    assert all(denied_reply(request, it).is_momentary for it in (Denial.REFUSE, Denial.TRUNCATE))
    assert denied_reply(request, Denial.DROP).is_dropped


def handlers(*kinds):
    """Handlers by letters: g a gate, u UNSAFE, s SAFE."""
    made = []
    for kind in kinds:
        handler = GatingHandler() if kind == "g" else Handler()
        handler.cacheability = Cacheability.UNSAFE if kind == "u" else Cacheability.SAFE
        handler.gate = kind
        made.append(handler)
    return made


@pytest.mark.parametrize(
    ("chain", "count"), [("", 0), ("s", 0), ("g", 1), ("sgug", 1), ("ug", 0), ("gg", 2)]
)
def test_a_gate_below_a_handler_that_may_change_the_client_is_asked_by_its_handler(chain, count):
    assert gates_of(handlers(*chain)) == ("g",) * count


@pytest.mark.parametrize(
    ("gates", "others", "common", "hits"),
    [
        ([(), ()], False, (), False),
        ([("a",), ("a",)], False, ("a",), False),
        ([("a",), ("b",)], False, (), True),
        ([("a",), ()], False, (), True),
        ([("a",), ("a",)], True, ("a",), True),
        ([(), ()], True, (), True),
    ],
)
def test_a_listener_asks_the_gates_of_all_its_blocks(gates, others, common, hits):
    zones = {b"\1a\0": gates[0], b"\0": gates[1]}
    routes = {
        zone: ZoneRoute("", None, gates=its, has_hit_gates=others) for zone, its in zones.items()
    }
    router = Router(routes, any_class=False, dropped=None)
    assert (router.gates, bool(router.has_hit_gates)) == (common, hits)


def sockaddr(address):
    """The bytes of a socket address, with IPv4 addresses in both forms."""
    if ":" in address:
        packed = socket.inet_pton(socket.AF_INET6, address)
        return struct.pack("=H6x16sI", socket.AF_INET6, packed, 0)
    return struct.pack("=H2x4s8x", socket.AF_INET, socket.inet_aton(address))


@pytest.mark.parametrize(
    "addresses",
    [
        ["192.0.2.1", "192.0.2.2", "10.0.0.1", "0.0.0.0", "255.255.255.255"],
        ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "fe80::1"],
        ["::ffff:192.0.2.1", "2001:db8::1", "::1", "::", "::ffff:10.0.0.1"],
    ],
    ids=["ipv4", "ipv6", "both"],
)
def test_the_clients_of_a_batch_are_numbers_made_without_copies(addresses):
    batch = Batch()
    for slot, address in enumerate(addresses):
        raw, start = sockaddr(address), slot * NAME_SIZE
        batch._names[start : start + len(raw)] = raw
    numbers = batch.clients(len(addresses))
    assert numbers == [client_number(sockaddr(address)) for address in addresses]
    assert numbers == [client_number((address, 53)) for address in addresses]


@pytest.mark.parametrize("kind", [Batch, PlainBatch])
def test_the_clients_of_received_datagrams(kind):
    batch = kind()
    with open_udp(Address("", 0)) as sock, socket.socket(type=socket.SOCK_DGRAM) as client:
        client.bind((LIMITED, 0))
        client.sendto(b"x", ("127.0.0.1", sock.getsockname()[1]))
        sock.setblocking(True)
        sock.recv(1, socket.MSG_PEEK)
        sock.setblocking(False)
        assert batch.receive(sock) == 1
        assert batch.clients(1) == [NUMBER]
    assert SLOTS > 1


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("2001:db8::1", "32.1.13.184", False),  # the same first four bytes
        ("::1", "127.0.0.1", False),
    ],
)
def test_which_addresses_are_one_client(first, second, same):
    assert (client_number((first, 1)) == client_number((second, 2))) is same


@pytest.mark.parametrize(
    ("ipv4", "ipv6", "first", "second", "same"),
    [
        (24, 56, "192.0.2.1", "192.0.2.254", True),
        (24, 56, "192.0.2.1", "192.0.3.1", False),
        (25, 56, "192.0.2.1", "192.0.2.128", False),
        (8, 56, "192.0.2.1", "192.255.2.1", True),
        (24, 56, "2001:db8:0:1::1", "2001:db8:0:ff::1", True),
        (24, 56, "2001:db8:0:1::1", "2001:db8:0:100::1", False),
        (24, 1, "2001:db8::1", "3fff::1", True),
        (32, 64, "192.0.2.1", "192.0.2.2", False),
    ],
)
def test_prefixes(ipv4, ipv6, first, second, same):
    prefix = ClientPrefix(ipv4, ipv6)
    one, other = (prefix.of(client_number((address, 0))) for address in (first, second))
    assert (one == other) is same
    assert prefix.is_whole is ((ipv4, ipv6) == (32, 64))


def test_the_probes_of_a_supervisor_are_never_denied():
    """They come from another process; a worker that does not reply would be killed."""
    with gated_server(Denial.DROP) as server:
        wire = status_query()
        reply = server.exchange(wire, source=LIMITED)
        assert (reply[:2], len(reply)) == (wire[:2], len(wire))
        assert server.plugins(Gated)[0].gate.asked[-1:] == [NUMBER]


def test_the_server_is_never_denied_its_own_queries():
    with gated_server(Denial.DROP) as server:
        host, port = server.address
        with socket.socket(type=socket.SOCK_DGRAM) as client:
            client.bind((LIMITED, 0))
            client.settimeout(60)
            with connected(client, (host, port)):
                client.send(query("www.test."))
                assert client.recv(512)
