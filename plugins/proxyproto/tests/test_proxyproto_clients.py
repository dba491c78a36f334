"""Everything that depends on the client goes by the address in the header, and replies to the proxy."""

import asyncio
import socket
from types import SimpleNamespace

import pytest

from corepy.dns.address import host_port
from corepy.plugin import ObservingHandler
from corepy.testing import Upstream, helper_module, serve, with_handlers
from corepy.testing.command import wait_until

helpers = helper_module(__file__, "proxy_headers")
Proxy, ask, answers = helpers.Proxy, helpers.ask, helpers.answers
version_1, version_2 = helpers.version_1, helpers.version_2
CLIENT, OTHER = helpers.CLIENT, helpers.OTHER
STREAM, DATAGRAM = helpers.STREAM, helpers.DATAGRAM
NEVER = 10**9  # processes that share a rate, so that a token takes decades

ANSWER = 'template IN A {{\n answer "{{{{ .Name }}}} 60 IN A {}"\n}}'
ONE, ANOTHER = ANSWER.format("192.0.2.1"), ANSWER.format("192.0.2.2")
BLOCKS = {
    "acl.test": f"acl {{\n allow net {CLIENT}/32\n block\n}}\n{ONE}",
    "cached.test": f"acl {{\n allow net {CLIENT}/32\n block\n}}\ncache\n{ONE}",
    "rate.test": f"ratelimit 1 {{\n action refused\n}}\ncache\n{ONE}",
    "rrl.test": f"rrl {{\n responses-per-second 0.001\n slip-ratio 1\n}}\ncache\n{ONE}",
    "view.test": f"view inner {{\n expr client_ip() == '{CLIENT}'\n}}\ncache\n{ONE}",
    "whoami.test": "whoami",
    "zone.test": f"transfer {{\n to {CLIENT}\n}}\nfile {{zone}}",
}
ZONE = "@ 60 SOA ns root 1 60 60 60 60\n@ 60 NS ns\nns 60 A 192.0.2.1\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    zone = tmp_path_factory.mktemp("zone") / "zone.test"
    zone.write_text(ZONE)
    text = "".join(
        f"{name} {{\nbind 127.0.0.1\nproxyproto\n{body.replace('{zone}', str(zone))}\n}}\n"
        for name, body in (*BLOCKS.items(), ("view.test", f"cache\n{ANOTHER}"))
    )
    with serve(text) as it:
        for handler in it.server.generation.plugins.get_plugins():
            if type(handler).__name__ == "RateLimit":
                it.call(handler.gate.rates.divide, NEVER)
        yield it


def both(server, kind, name, **question):
    """The replies to two clients, then to the first one again."""
    return [
        ask(server.address, version_2(client, kind), kind, name, **question)
        for client in (CLIENT, OTHER, CLIENT)
    ]


@pytest.mark.parametrize("kind", [DATAGRAM, STREAM], ids=["UDP", "TCP"])
@pytest.mark.parametrize("name", ["acl.test.", "cached.test."])
def test_acl(server, name, kind):
    """Also if a cache could answer the blocked client."""
    assert [reply.header.rcode for reply in both(server, kind, name)] == [0, 5, 0]


@pytest.mark.parametrize("kind", [DATAGRAM, STREAM], ids=["UDP", "TCP"])
def test_view(server, kind):
    found = [answers(reply) for reply in both(server, kind, "view.test.")]
    assert found == [["192.0.2.1"], ["192.0.2.2"], ["192.0.2.1"]]


def test_ratelimit(server):
    assert [it.header.rcode for it in both(server, DATAGRAM, "rate.test.")] == [0, 0, 5]


def test_rrl(server):
    assert [it.header.tc for it in both(server, DATAGRAM, "rrl.test.")] == [0, 0, 1]


def test_whoami(server):
    for kind in (DATAGRAM, STREAM):
        header = version_2(kind=kind, port=4001)
        reply = ask(server.address, header, kind, "whoami.test.")
        assert [str(record.rdata) for record in reply.ar] == [CLIENT, "0 0 4001 ."]


def test_transfer(server):
    first, other, _ = both(server, STREAM, "zone.test.", qtype="AXFR")
    assert (first.header.rcode, len(first.rr), other.header.rcode) == (0, 4, 5)


def test_limits_on_connections(server):
    ((_, tcp),) = (it.listeners for it in server.server.endpoints.values())
    with Proxy(server.address, STREAM, version_1(OTHER)) as proxy:
        proxy.ask("acl.test.")
        # The connections of tests before this one may still be open.
        wait_until(lambda: server.call(lambda: set(tcp._limit._taken)) == {socket.inet_aton(OTHER)})


def test_tail(server):
    watchers = server.server.traffic.watchers
    server.call(watchers.add, "one", {"client": OTHER})
    for kind in (DATAGRAM, STREAM):
        both(server, kind, "acl.test.")
    polling = asyncio.run_coroutine_threadsafe(watchers.poll("one", 0), server._loop)
    assert {it["client"] for it in polling.result(60)["events"]} == {OTHER}
    server.call(watchers.remove, "one")


class Watches(ObservingHandler):
    """Records the clients, and the peers of the queries that the packet cache does not answer."""

    name = "watches"
    listens_to_hits = True

    def __init__(self):
        self.seen = []
        self.peers = []

    def observe(self, request, reply):
        self.seen.append(request.remote)
        self.peers.append(host_port(request.peer)[0])
        if reply.deadline is not None:
            reply.hit_counters += (self,)

    def on_hit(self, ident, client, received):
        self.seen.append(host_port(client))

    def count_hits(self, times):
        pass


def test_the_packet_cache_and_observers(capsys, tmp_path):
    """*log*, *dnstap* and observers see the client of each repetition."""
    text = (
        ".:0 {\nbind 127.0.0.1\nproxyproto\nwatches\n"
        f"dnstap {tmp_path / 'socket'}\nlog . {{remote}}:{{port}}\ncache\n{ONE}\n}}\n"
    )
    tapped: list[bytes] = []
    clients = [(CLIENT, 4001), (OTHER, 4002), (CLIENT, 4003)]
    with serve(text, plugins=with_handlers(watches=Watches)) as server:
        (watches,) = server.plugins(Watches)
        take_messages(server, tapped)
        for kind in (DATAGRAM, STREAM):
            for client, port in clients:
                header = version_2(client, kind, port=port)
                assert answers(ask(server.address, header, kind)) == ["192.0.2.1"]
    assert watches.seen == clients * 2
    assert len(watches.peers) < len(watches.seen)  # the packet cache has answered the others
    assert set(watches.peers) == {"127.0.0.1"}
    logged = [line.split()[-1] for line in capsys.readouterr().out.splitlines() if ":40" in line]
    assert logged == [f"{client}:{port}" for client, port in clients] * 2
    assert [client_in(it) for it in tapped] == [client for client, _ in clients for _ in "QR"] * 2


def take_messages(server, tapped):
    """Append the address fields of *dnstap*'s messages to `tapped` instead of sending them."""
    for handler in server.server.generation.plugins.get_plugins():
        if type(handler).__name__ == "Dnstap":
            handler.output = SimpleNamespace(is_taking=True, close=handler.output.close)
            handler.send = lambda message, extra: tapped.append(message[1])


def client_in(fields):
    (found,) = (it for it in (CLIENT, OTHER, "127.0.0.1") if socket.inet_aton(it) in fields)
    return found


def test_a_pending_reply_goes_to_the_proxy():
    """The chain waits, so the reply is sent in a later turn."""
    with Upstream({"www.example. A": ["www.example. 60 IN A 192.0.2.9"]}) as upstream:
        text = f". {{\nbind 127.0.0.1\nproxyproto\nforward . {upstream.to}\n}}\n"
        with serve(text) as server:
            assert answers(ask(server.address, version_2())) == ["192.0.2.9"]
