"""Caches beside filters: no client gets a reply that the blocks for it would not have given."""

import importlib.util
import itertools
import socket
from pathlib import Path

import dnslib
import pytest

from corepy.dns.names import from_text
from corepy.plugin import Cacheability, CorefileError, Handler, lookup
from corepy.testing import inline, query, serve, with_handlers

SPECIFICATION = importlib.util.spec_from_file_location(
    "split_plugin", Path(__file__).with_name("split_plugin.py")
)
assert SPECIFICATION is not None
assert SPECIFICATION.loader is not None
split_plugin = importlib.util.module_from_spec(SPECIFICATION)
SPECIFICATION.loader.exec_module(split_plugin)

HOME, AWAY = "127.0.0.1", "127.0.0.2"
CLIENTS = [HOME, AWAY]


@pytest.fixture(autouse=True)
def no_calls():
    split_plugin.calls.clear()


class Renamer(Handler):
    """Asks the handlers below for another name, as *rewrite* does."""

    name = "renamer"
    cacheability = Cacheability.SAFE

    async def serve_dns(self, request):
        below = request.derive(name_wire=from_text("target." + request.name))
        reply = await self.next.serve_dns(below)
        wire, end = reply.wire, below.question_end
        answer = request.reply(reply.rcode, [_owned(request, rr) for rr in reply.record.rr])
        assert wire[12:end] == below.question
        answer.deadline, answer.since = reply.deadline, reply.since
        answer.hit_counters, answer.options = reply.hit_counters, reply.options
        return answer


def _owned(request, record):
    return dnslib.RR(request.name, record.rtype, ttl=record.ttl, rdata=record.rdata)


class Alias(Handler):
    """Answers with the server's own reply for a name of another block, or with its rcode as text."""

    name = "alias"
    cacheability = Cacheability.SAFE

    async def serve_dns(self, request):
        found = await lookup(request, from_text("secret.example.org."))
        text = dnslib.TXT(dnslib.RCODE[found.rcode])  # an answer that could be cached
        failed = dnslib.RR(request.name, dnslib.QTYPE.TXT, ttl=60, rdata=text)
        return request.reply(0, [_owned(request, rr) for rr in found.record.rr] or [failed])


def plugins():
    extra = {"split": inline("split", split_plugin.setup)}
    return {**with_handlers(renamer=Renamer, alias=Alias), **extra}


def say(word):
    return f'template IN TXT {{\n answer "{{{{ .Name }}}} 60 IN TXT {word}"\n}}'


def block(zone, *lines, host="127.0.0.1"):
    bind = [f" bind {host}"] if host else []
    return "\n".join((f"{zone} {{", *bind, *lines, "}\n"))


class Client:
    """A client with an address and a UDP socket of its own."""

    def __init__(self, server, source):
        self._server = server
        self._source = source
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.settimeout(60)
        self._sock.bind((source, 0))
        self._sock.connect(("127.0.0.1", server.address[1]))

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._sock.close()

    def send(self, wire):
        self._sock.send(wire)

    def read(self):
        return text_of(self._sock.recv(65535))

    def ask(self, name, *, tcp=False):
        if tcp:
            wire = query(name, "TXT")
            return text_of(self._server.exchange(wire, tcp=True, source=self._source))
        self.send(query(name, "TXT"))
        return self.read()


def text_of(message):
    """Return the text of the answer, or the name of the rcode."""
    reply = dnslib.DNSRecord.parse(message)
    if reply.rr:
        return str(reply.rr[0].rdata).strip('"')
    return dnslib.RCODE[reply.header.rcode]


def entries(server):
    return server.call(lambda: server.packet_entries)


# -- two views of one name


VIEWS = (
    block("example.org", "split in from 127.0.0.2", "cache", say("inside"))
    + block("example.org", "cache", say("outside"))
    + block(".", "cache", say("root"))
)


@pytest.mark.parametrize("tcp", [False, True])
def test_clients_of_two_views_ask_alternately(tcp):
    with serve(VIEWS, plugins=plugins()) as server:
        with Client(server, HOME) as home, Client(server, AWAY) as away:
            for _ in range(4):
                assert home.ask("a.example.org", tcp=tcp) == "outside"
                assert away.ask("a.example.org", tcp=tcp) == "inside"
        assert entries(server) == 0


def test_a_batch_of_queries_of_both_views():
    """They wait in the queue of the socket, so that the server reads them as one batch."""
    wires = [query("a.example.org", "TXT"), query("b.example.net", "TXT")]
    with serve(VIEWS, plugins=plugins()) as server:
        (endpoint,) = server.server.endpoints.values()
        with Client(server, HOME) as home, Client(server, AWAY) as away:
            for _ in range(3):  # the first time for the caches
                server.call(endpoint.listener("udp").pause)
                for wire in wires * 8:
                    for client in (home, away):
                        client.send(wire)
                server.call(endpoint.listener("udp").start)
                for client, expected in ((home, "outside"), (away, "inside")):
                    assert sorted(client.read() for _ in range(16)) == sorted(
                        [expected, "root"] * 8
                    )
        assert entries(server) == 1  # only the name outside of the zone


def test_the_packet_cache_is_on_where_no_filter_could_win():
    with serve(VIEWS, plugins=plugins()) as server, Client(server, HOME) as home:
        for name in ("a.example.net", "org", "example.orga", "xample.org"):
            for _ in range(3):
                assert home.ask(name) == "root"
        assert entries(server) == 4
        for _ in range(3):
            assert home.ask("b.example.org") == "outside"
        assert entries(server) == 4


def test_a_name_for_which_all_filters_reject_some_client():
    """It falls to the root for one client only, so the root's reply must not be repeated."""
    text = block("example.org", "split in from 127.0.0.2", "cache", say("inside"))
    text += block(".", "cache", say("root"))
    with serve(text, plugins=plugins()) as server:
        with Client(server, HOME) as home, Client(server, AWAY) as away:
            for _ in range(3):
                assert home.ask("a.example.org") == "root"
                assert away.ask("a.example.org") == "inside"
                assert home.ask("a.example.net") == away.ask("a.example.net") == "root"
        assert entries(server) == 1


def test_a_filter_that_depends_on_the_query_only():
    text = block(".", "split in name a", "cache", say("one")) + block(".", "cache", say("other"))
    with serve(text, plugins=plugins()) as server:
        with Client(server, HOME) as home, Client(server, AWAY) as away:
            for _ in range(3):
                for client in (home, away):
                    assert (client.ask("a.test"), client.ask("b.test")) == ("one", "other")
        assert entries(server) == 2
        # The filter is not called for a query that the packet cache answers.
        assert len(split_plugin.calls) < 12


def test_a_filter_that_rejects_before_the_one_that_depends_on_the_client():
    text = block(".", "split in name a", "split - from 127.0.0.2", "cache", say("one"))
    text += block(".", "cache", say("other"))
    with serve(text, plugins=plugins()) as server:
        with Client(server, HOME) as home, Client(server, AWAY) as away:
            for _ in range(3):
                assert (home.ask("a.test"), away.ask("a.test")) == ("other", "one")
            assert entries(server) == 0
            for _ in range(3):
                assert home.ask("b.test") == away.ask("b.test") == "other"
        assert entries(server) == 1


def test_a_filter_that_depends_on_the_client_before_one_that_rejects():
    text = block(".", "split in from 127.0.0.2", "split - name a", "cache", say("one"))
    text += block(".", "cache", say("other"))
    with serve(text, plugins=plugins()) as server, Client(server, HOME) as home:
        for name in ("a.test", "b.test"):
            for _ in range(3):
                assert home.ask(name) == "other"
        assert entries(server) == 0


@pytest.mark.parametrize(
    ("condition", "host", "kept"),
    [
        ("family 1", "127.0.0.1", 1),
        ("family 1", "0.0.0.0", 1),
        ("family 1", "", 0),
        ("at 127.0.0.1", "127.0.0.1", 1),
        ("at 127.0.0.1", "0.0.0.0", 0),
        ("at 127.0.0.1", "", 0),
        ("from 127.0.0.1", "127.0.0.1", 0),
    ],
)
def test_filters_that_depend_on_the_socket(condition, host, kept):
    text = block(".", f"split in {condition}", "cache", say("one"), host=host)
    text += block(".", "cache", say("other"), host=host)
    with serve(text, plugins=plugins()) as server:
        for _ in range(3):
            assert text_of(server.exchange(query("a.test", "TXT"))) == "one"
        assert entries(server) == kept


@pytest.mark.parametrize(
    ("cacheability", "host", "kept"),
    [
        (Cacheability.DEPENDS_ON_FAMILY, "127.0.0.1", 1),
        (Cacheability.DEPENDS_ON_FAMILY, "0.0.0.0", 1),
        (Cacheability.DEPENDS_ON_FAMILY, "", 0),
        (Cacheability.DEPENDS_ON_LOCAL_ADDRESS, "127.0.0.1", 1),
        (Cacheability.DEPENDS_ON_LOCAL_ADDRESS, "0.0.0.0", 0),
        (Cacheability.DEPENDS_ON_LOCAL_ADDRESS, "", 0),
    ],
)
def test_handlers_that_depend_on_the_socket(cacheability, host, kept, monkeypatch):
    monkeypatch.setattr(Renamer, "cacheability", cacheability)
    text = block(".", "renamer", "cache", say("one"), host=host)
    with serve(text, plugins=plugins(), order="renamer before log\n") as server:
        for _ in range(3):
            assert text_of(server.exchange(query("a.test", "TXT"))) == "one"
        assert entries(server) == kept


# -- acl, cache, a plugin that renames, and views, in all orders


DENY = "acl {\n block net 127.0.0.2\n}"
ORDERS = [
    order
    for order in itertools.permutations(("acl", "cache", "renamer"))
    if order.index("acl") < order.index("cache")
]


@pytest.mark.parametrize("first", CLIENTS)
@pytest.mark.parametrize("order", ORDERS, ids="-".join)
@pytest.mark.parametrize("view", ["none", "of-the-blocked", "of-the-other", "name"])
def test_a_blocked_client_gets_no_cached_reply(order, view, first):
    """Whoever asks first, over UDP and TCP, and whichever block the client belongs to."""
    lines = {"acl": DENY, "cache": "cache", "renamer": "renamer"}
    body = [lines[name] for name in order]
    split = {
        "none": [],
        "of-the-blocked": ["split v from 127.0.0.2"],
        "of-the-other": ["split v from 127.0.0.1"],
        "name": ["split v name a"],
    }[view]
    text = block(".", *split, *body, say("data")) + (
        block(".", *body, say("data")) if split else ""
    )
    rules = "".join(f"{below} after {above}\n" for above, below in itertools.pairwise(order))
    with (
        serve(text, plugins=plugins(), order=rules) as server,
        Client(server, HOME) as home,
        Client(server, AWAY) as away,
    ):
        clients = {HOME: (home, "data"), AWAY: (away, "REFUSED")}
        turn = [clients[first], *(it for name, it in clients.items() if name != first)]
        for tcp in (False, True) * 3:
            for client, expected in turn:
                assert client.ask("a.test", tcp=tcp) == expected


@pytest.mark.parametrize(
    "order", [it for it in itertools.permutations(("acl", "cache", "renamer")) if it not in ORDERS]
)
def test_a_cache_above_acl_is_refused_beside_a_filter(order):
    rules = "".join(f"{below} after {above}\n" for above, below in itertools.pairwise(order))
    text = block(".", "split v from 127.0.0.1", DENY, "cache", "renamer", say("data"))
    with (
        pytest.raises(CorefileError, match="cache is above acl"),
        serve(text, plugins=plugins(), order=rules),
    ):
        pass


# -- look-ups across blocks


SECRETS = {
    "view": block("example.org", "split in from 127.0.0.1", say("secret")),
    "acl": block("example.org", DENY, say("secret")),
    "alone": block("example.org", "split in from 127.0.0.1", say("secret")),
    "below": block("example.org", "split in from 127.0.0.1", "alias")
    + block("secret.example.org", DENY, say("secret")),
}


@pytest.mark.parametrize("first", CLIENTS)
@pytest.mark.parametrize("secret", SECRETS)
def test_a_reply_made_of_one_that_others_are_denied_is_not_cached(secret, first):
    """The alias is a name of a block without filter and acl, whose cache all clients share."""
    text = SECRETS[secret] + block("test", "cache", "alias")
    text += block("." if secret != "alone" else "other", "cache", say("root"))
    order = "alias after cache\n"
    with (
        serve(text, plugins=plugins(), order=order) as server,
        Client(server, HOME) as home,
        Client(server, AWAY) as away,
    ):
        clients = {HOME: (home, "secret"), AWAY: (away, "root" if secret == "view" else "REFUSED")}
        turn = [clients[first], *(it for name, it in clients.items() if name != first)]
        for client, expected in turn * 3:
            assert client.ask("a.test") == expected
        assert home.ask("b.other") == away.ask("b.other") == "root"


@pytest.mark.parametrize("first", ["tcp", "udp"])
def test_a_reply_made_of_one_for_another_transport_is_not_cached(first):
    """Each socket has a packet cache of its own, but all of them share the cache of the block."""
    text = block("example.org", "split - name secret", "split in proto tcp", say("tcp"))
    text += block("example.org", say("udp")) + block("test", "cache", "alias")
    with serve(text, plugins=plugins(), order="alias after cache\n") as server:
        with Client(server, HOME) as client:
            for transport in (first, "tcp", "udp") * 2:
                assert client.ask("a.test", tcp=transport == "tcp") == transport
        assert entries(server) == 0


def test_a_reply_made_of_one_that_only_the_question_selects_is_cached():
    text = block("example.org", "split in name other", "split - proto tcp", say("in"))
    text += block("example.org", say("out")) + block("test", "cache", "alias")
    with serve(text, plugins=plugins(), order="alias after cache\n") as server:
        with Client(server, HOME) as client:
            for tcp in (False, True, False):
                assert client.ask("a.test", tcp=tcp) == "out"
        assert entries(server) == 2  # one for each socket
        assert [call[:2] for call in split_plugin.calls] == [("name", "other")]
