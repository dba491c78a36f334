"""Replies of forgers: how few queries they can hit, and what a hit would have to know besides."""

import asyncio
import random
import socket
import struct
import threading
from functools import partial

import dnslib
import pytest

from corepy.dns import Reply
from corepy.dns.edns import option, parse_options
from corepy.testing import Upstream
from corepy.testing import serve as serve_with_timers
from corepy.testing.command import wait_until
from corepy.testing.knot import knot
from corepy.testing.netns import isolated
from corepy_forward import forgery as forgery_module
from corepy_forward import udp as udp_module
from corepy_forward.asking import LARGE_SIZE, MOST_QUERIES
from corepy_forward.failures import HealthProbe
from corepy_forward.forgery import MOST_GUESSES, REMEMBERED, Cookies, Guesses
from corepy_forward.handler import Forward
from corepy_forward.pool import Pool
from corepy_forward.settings import Settings
from corepy_forward.targets import Target
from corepy_forward.udp import USES

serve = partial(serve_with_timers, still=True)  # nothing becomes late, however busy the machine

COOKIE = 10
PATIENT = "max_fails 0\nread_timeout 30s"


def corefile(to, options=PATIENT):
    return f".:0 {{\nforward . {to} {{\n{options}\n}}\n}}"


def good(query, _proto=""):
    reply = query.reply(ra=1, aa=0)
    reply.add_answer(*dnslib.RR.fromZone(f"{query.q.qname} 60 IN A 192.0.2.7"))
    return reply


def forged(query, ident=None):
    """Return an answer that only a forger gives."""
    reply = query.reply(ra=1, aa=0)
    if ident is not None:
        reply.header.id = ident
    reply.add_answer(*dnslib.RR.fromZone(f"{query.q.qname} 86400 IN A 6.6.6.6"))
    return bytes(reply.pack())


def addresses(reply):
    return [str(rr.rdata) for rr in reply.rr]


def variant(number):
    """Return a query for one name that differs from others in EDNS, as a client can make it."""
    query = dnslib.DNSRecord.question("victim.example").pack()
    options = option(65001, struct.pack("!I", number))
    opt = struct.pack("!BHHIH", 0, 41, 1232, 0, len(options)) + options
    return struct.pack("!H", number & 0xFFFF) + bytes(query[2:11]) + b"\1" + bytes(query[12:]) + opt


def queries_of_crowd(server):
    """Return how many queries of the only crowd are in flight to the only upstream."""
    (forward,) = server.plugins(Forward)

    def count():
        (crowd,) = forward.pool.crowds.values()
        return crowd.queries_at(forward.pool.upstreams[0])

    return server.call(count)


class Silent:
    """An upstream that answers nothing; `sock` is its socket, `address` where it listens."""

    def __enter__(self):
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self.sock.bind(("127.0.0.1", 0))
        self.sock.settimeout(20)
        host, port = self.sock.getsockname()
        self.to = f"{host}:{port}"
        return self

    def __exit__(self, *exc):
        self.sock.close()


def local_ports():
    with open("/proc/sys/net/ipv4/ip_local_port_range") as file:
        low, high = map(int, file.read().split())
    return low, high


@isolated
def test_queries_for_one_name_that_differ_in_options_and_a_blind_forger(in_flight):
    """The attack that succeeded within seconds: 1,650 queries in flight were as many chances.

    The forged datagrams go to all ports, of which other tests have some.
    """
    with Silent() as upstream, serve(corefile(upstream.to)) as server:
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        with client:
            client.connect(server.address)
            for number in range(2000):
                client.send(variant(number))
                if number % 50 == 49:
                    wait_until(lambda sent=number: in_flight(server)[1] > sent - 50)
                    assert in_flight(server)[0] <= MOST_QUERIES
            query = dnslib.DNSRecord.parse(upstream.sock.recv(512))
            low, high = local_ports()
            dice = random.Random()
            reply = forged(query)
            for _ in range(50_000):
                upstream.sock.sendto(
                    dice.randbytes(2) + reply[2:], ("127.0.0.1", dice.randint(low, high))
                )
            assert in_flight(server)[0] <= MOST_QUERIES
            client.setblocking(False)
            while True:
                try:
                    assert b"\6\6\6\6" not in client.recv(4096)
                except BlockingIOError:
                    break


VARIANTS = [
    {"edns": 1232},
    {"edns": 1232, "do": True},
    {"cd": 1},
    {"ad": 1},
    {"rd": 0},
    {"rd": 0, "cd": 1},
    {"edns": 1232, "do": True, "cd": 1},
    {"cd": 1, "ad": 1},
    {"tcp": True},
    {"tcp": True, "edns": 1232, "do": True},
]


def test_all_that_differ_are_answered_a_few_at_a_time(in_flight):
    gate, most, now, lock = threading.Event(), 0, 0, threading.Lock()

    def behave(query, proto):
        nonlocal most, now
        with lock:
            now += 1
            most = max(most, now)
        gate.wait(60)
        with lock:
            now -= 1
        return good(query, proto)

    with Upstream(behave) as upstream, serve(corefile(upstream.to)) as server:
        replies = []

        def ask(options):
            replies.append(server.ask("example.org", **options))

        threads = [threading.Thread(target=ask, args=(options,)) for options in VARIANTS * 2]
        for thread in threads:
            thread.start()
        wait_until(lambda: in_flight(server)[1] == len(threads))
        gate.set()
        for thread in threads:
            thread.join(20)
        assert [addresses(reply) for reply in replies] == [["192.0.2.7"]] * len(threads)
        assert most <= MOST_QUERIES
        (forward,) = server.plugins(Forward)
        assert server.call(lambda: (forward.pool.flights, forward.pool.crowds)) == ({}, {})


@pytest.mark.parametrize("most", [2, MOST_QUERIES])
def test_a_client_over_tcp_does_not_share_what_others_are_to_ask_again_over_tcp(most, in_flight):
    """It joins a crowd that began over TCP, in which a client over UDP asks the same as it does.

    When the crowd has all its queries in flight, the client cannot go on to UDP before others end.
    """
    gate = threading.Event()

    def behave(query, proto):
        if proto == "tcp":
            return None
        gate.wait(60)
        reply = good(query)
        if not query.ar or query.ar[0].rclass < LARGE_SIZE:
            reply.header.tc = 1
            reply.rr.clear()
        return reply

    with Upstream(behave) as upstream, serve_with_timers(corefile(upstream.to)) as server:
        replies = {}

        def ask(name, options):
            replies[name] = server.ask("example.org", **options)

        clients = [
            ("first", {"tcp": True}),
            ("udp", {"edns": 1232, "do": True}),
            ("tcp", {"edns": 1232, "do": True, "tcp": True}),
        ]
        threads = []
        for number, client in enumerate(clients, 1):
            threads.append(threading.Thread(target=ask, args=client))
            threads[-1].start()
            wait_until(lambda number=number: in_flight(server)[1] == number)
        wait_until(lambda: queries_of_crowd(server) >= most)
        gate.set()
        for thread in threads:
            thread.join(20)
        assert {name: reply.header.tc for name, reply in replies.items()} == {
            "first": 0,
            "udp": 1,
            "tcp": 0,
        }
        assert addresses(replies["tcp"]) == ["192.0.2.7"]


def test_who_waits_in_vain_is_told_and_nothing_is_left():
    with (
        Silent() as upstream,
        serve_with_timers(corefile(upstream.to, "max_fails 0\nread_timeout 4s")) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        client.settimeout(20)
        client.connect(server.address)
        for number in range(40):
            client.send(variant(number))
        replies = [Reply.from_wire(client.recv(4096)) for _ in range(40)]
        assert {reply.rcode for reply in replies} == {2}
        (forward,) = server.plugins(Forward)
        assert server.call(lambda: (forward.pool.flights, forward.pool.crowds)) == ({}, {})


def test_a_server_stops_while_many_wait_for_one_name(in_flight):
    with (
        Silent() as upstream,
        serve(corefile(upstream.to)) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        client.connect(server.address)
        for number in range(100):
            client.send(variant(number))
        wait_until(lambda: in_flight(server)[1] == 100)
        (forward,) = server.plugins(Forward)
        server.call(forward.pool.close)
        assert not forward.pool.flights


def question(number):
    return b"\6%06d\0\0\1\0\1" % number


def load_per_port(queries, at_once=100):
    """Ask a silent upstream so much; return how many queries wait at each port."""

    async def run():
        with Silent() as upstream:
            pool = Pool(Settings(max_fails=0), [Target(*upstream.sock.getsockname())])
            for first in range(0, queries, at_once):
                for number in range(first, first + at_once):
                    asked = question(number)
                    pool.begin(asked, b"\1\0\0\1\0\0\0\0\0\0" + asked, for_tcp=False)
                await asyncio.sleep(0)
            loads = [len(sock.pending) for sock in pool.upstreams[0]._udp._open]
            pool.close()
            return loads

    return asyncio.run(run())


def test_a_port_carries_few_queries_however_many_wait():
    assert max(load_per_port(10_000)) <= USES


def test_where_sockets_are_few_all_carry_the_same(monkeypatch):
    monkeypatch.setattr(udp_module, "MOST_SOCKETS", 16)
    loads = load_per_port(2_000)
    assert len(loads) == 16
    assert max(loads) <= 2_000 // 16 + 2 * USES


class Forged:
    """An upstream whose answer over UDP comes too late: a forger sends `messages(query)` first,
    which know port and ID. Over TCP it answers if `tcp`.
    """

    def __init__(self, messages, tcp=True):
        self._messages = messages
        self._tcp = tcp

    def __call__(self, query, proto):
        if proto == "tcp":
            return good(query) if self._tcp else None
        return self._messages(query)


def wrong_idents(number):
    def messages(query):
        ident = query.header.id
        guesses = (forged(query, (ident + i) & 0xFFFF) for i in range(1, number + 1))
        return [*guesses, forged(query)]

    return messages


def wrong_questions(number):
    def messages(query):
        other = dnslib.DNSRecord.question("other.example")
        other.header.id = query.header.id
        return [*[forged(other)] * number, forged(query)]

    return messages


@pytest.mark.parametrize("guess", [wrong_idents, wrong_questions])
def test_after_a_hundred_wrong_replies_the_right_one_comes_too_late(guess):
    with (
        Upstream(Forged(guess(MOST_GUESSES))) as upstream,
        serve(corefile(upstream.to)) as server,
    ):
        assert addresses(server.ask("victim.example")) == ["192.0.2.7"]
        assert [proto for _, proto in upstream.queries] == ["udp", "tcp"]


def test_a_question_that_is_guessed_at_stays_on_tcp(monkeypatch):
    """Guesses for it add up over ports and exchanges."""
    monkeypatch.setattr(forgery_module, "MOST_GUESSES", 12)
    with (
        Upstream(lambda q, p: [*wrong_idents(5)(q)[:-1], bytes(good(q).pack())]) as upstream,
        serve(corefile(upstream.to)) as server,
    ):
        for _ in range(4):
            assert server.ask("victim.example").rr
        assert [proto for _, proto in upstream.queries][-1] == "tcp"
        assert server.ask("other.example").rr
        assert upstream.queries[-1] == ("other.example. A", "udp")


class Probe(HealthProbe):
    """A health check that is told of guesses and goes on waiting."""

    def __init__(self, upstream):
        super().__init__(upstream, lambda: False)
        self.told: asyncio.Queue[object] = asyncio.Queue()

    def guessed(self, attempt):
        self.told.put_nowait(attempt)


def test_each_hundred_wrong_replies_to_one_port_count():
    """A probe goes on waiting there, and queries of clients may join it after the first hundred."""

    async def run():
        with Silent() as upstream:
            pool = Pool(Settings(), [Target(*upstream.sock.getsockname())])
            probe = Probe(pool.upstreams[0])
            attempt = pool.upstreams[0].probe(probe, over_tcp=False)
            port = attempt.link.sock.getsockname()
            ident = bytes(each ^ 0xFF for each in attempt.ident)
            async with asyncio.timeout(20):
                for _ in range(2):
                    for _ in range(MOST_GUESSES):
                        upstream.sock.sendto(ident + bytes(10), port)
                    assert await probe.told.get() is attempt
            pool.close()

    asyncio.run(run())


def test_counting_guesses():
    guesses, now = Guesses(), 1000.0
    results = [guesses.count(b"victim", now) for _ in range(MOST_GUESSES + 5)]
    assert results.index(True) == MOST_GUESSES - 1
    assert results.count(True) == 1
    assert guesses.are_many(b"victim", now)
    assert not guesses.are_many(b"other", now)
    assert not guesses.are_many(b"victim", now + REMEMBERED)
    guesses.tidy(now + REMEMBERED)
    assert not guesses
    for number in range(5000):
        guesses.count(b"%d" % number, now)
    assert len(guesses._counts) <= 1024


def cookie_of(query):
    """Return the cookie of a query, None without one."""
    for each in query.ar[0].rdata if query.ar else ():
        if each.code == COOKIE:
            return bytes(each.data)
    return None


class WithCookies:
    """An upstream with cookies; `forger` is what gets in before it from the second query on."""

    def __init__(self, forger=None, demands=False):
        self.seen = []
        self._forger = forger
        self._demands = demands

    def __call__(self, query, proto):
        cookie = cookie_of(query)
        self.seen.append((proto, cookie))
        reply = good(query)
        if cookie is not None:
            server = b"server%02d" % (len(self.seen) % 100)
            data = dnslib.EDNSOption(COOKIE, cookie[:8] + server)
            bad = self._demands and len(cookie) == 8 and proto == "udp"
            reply.add_ar(dnslib.EDNS0(opts=[data], ext_rcode=1 if bad else 0))
            if bad:
                reply.rr.clear()
                reply.header.rcode = 7
        if self._forger is not None and len(self.seen) > 1 and proto == "udp":
            return [self._forger(query), bytes(reply.pack())]
        return reply


def test_a_cookie_is_sent_kept_and_returned():
    behave = WithCookies()
    with Upstream(behave) as upstream, serve(corefile(upstream.to)) as server:
        for name in ("a.example", "b.example", "c.example"):
            assert server.ask(name).rr
        assert server.ask("d.example", tcp=True).rr
        (first, second, third, fourth) = [cookie for _, cookie in behave.seen]
        assert len(first) == 8
        assert second == first + b"server01"
        assert third == first + b"server02"
        assert fourth is None  # over TCP there is no need
        assert [proto for proto, _ in behave.seen] == ["udp", "udp", "udp", "tcp"]


def other_cookie(query):
    reply = dnslib.DNSRecord.parse(forged(query))
    reply.add_ar(dnslib.EDNS0(opts=[dnslib.EDNSOption(COOKIE, bytes(16))]))
    return bytes(reply.pack())


@pytest.mark.parametrize("forger", [forged, other_cookie])
def test_a_forger_without_the_cookie(forger):
    """It has guessed port and ID."""
    behave = WithCookies(forger)
    with Upstream(behave) as upstream, serve(corefile(upstream.to)) as server:
        for name in ("a.example", "b.example", "c.example"):
            assert addresses(server.ask(name, edns=1232, do=True)) == ["192.0.2.7"]
        (forward,) = server.plugins(Forward)
        assert forward.pool.upstreams[0].cookies.is_expected


def test_cookies_off():
    behave = WithCookies()
    options = f"{PATIENT}\ncookies off"
    with Upstream(behave) as upstream, serve(corefile(upstream.to, options)) as server:
        assert server.ask("a.example").rr
        assert behave.seen == [("udp", None)]


def test_an_upstream_that_wants_its_own_cookie():
    """BADCOOKIE, RFC 7873 section 5.2.3."""
    behave = WithCookies(demands=True)
    with Upstream(behave) as upstream, serve(corefile(upstream.to)) as server:
        for name in ("a.example", "b.example"):
            assert server.ask(name).rr
        assert [len(cookie) for _, cookie in behave.seen] == [8, 16, 16]


def test_an_upstream_that_is_never_content():
    """BADCOOKIE always: over TCP it answers (RFC 7873 section 5.3)."""

    def behave(query, proto):
        cookie = cookie_of(query)
        if proto == "tcp":
            return good(query)
        reply = query.reply()
        reply.header.rcode = 7
        data = dnslib.EDNSOption(COOKIE, cookie[:8] + b"12345678")
        reply.add_ar(dnslib.EDNS0(opts=[data], ext_rcode=1))
        return reply

    with Upstream(behave) as upstream, serve(corefile(upstream.to)) as server:
        assert server.ask("a.example").rr
        assert [proto for _, proto in upstream.queries] == ["udp", "udp", "tcp"]


@pytest.mark.parametrize("options", [{}, {"edns": 1232}], ids=["plain", "EDNS"])
def test_an_upstream_that_refuses_every_cookie_gets_none_any_more(options):
    """BADCOOKIE over TCP, too, and no cookie of its own."""
    seen = []

    def behave(query, proto):
        cookie = cookie_of(query)
        seen.append((proto, cookie is not None))
        reply = query.reply()
        if cookie is None:
            return good(query)
        reply.header.rcode = 7
        reply.add_ar(dnslib.EDNS0(ext_rcode=1))
        return reply

    with Upstream(behave) as upstream, serve(corefile(upstream.to)) as server:
        assert server.ask("a.example", **options).rr
        assert seen[:3] == [("udp", True), ("udp", True), ("tcp", True)]
        assert seen[3:] == [("udp", False)]
        assert server.ask("b.example", **options).rr
        assert seen[4:] == [("udp", False)]


@pytest.mark.parametrize("options", ["cookies off", "force_tcp", ""])
@pytest.mark.parametrize("others", [0, 1])
def test_an_upstream_that_finds_a_cookie_bad_that_it_was_not_sent(options, others):
    """BADCOOKIE is about this hop (RFC 7873 section 5.2.3): no client is told of it."""

    def behave(query, _):
        reply = query.reply()
        reply.header.rcode = 7
        reply.add_ar(dnslib.EDNS0(ext_rcode=1))
        return reply

    with Upstream(behave) as bad, Upstream(good) as other:
        to = f"{bad.to} {other.to}" if others else bad.to
        text = corefile(to, f"policy sequential\n{PATIENT}\n{options}")
        with serve(text) as server:
            for edns in (None, 1232):
                reply = server.ask("a.example", edns=edns)
                if others:
                    assert addresses(reply) == ["192.0.2.7"]
                    continue
                assert (reply.header.rcode, reply.rr) == (2, [])
                if edns:
                    assert b"no upstream sent a usable answer" in reply.ar[0].rdata[0].data
                    assert reply.ar[0].ttl >> 24 == 0
            assert len(bad.queries) <= 16


@pytest.mark.parametrize(
    ("sent", "taken"),
    [
        (b"12345678", True),  # as before
        (b"87654321", True),  # a new one
        (b"", True),  # an echo
        (b"1234567", True),  # not as it has to be, but ours
        (None, False),
    ],
)
@pytest.mark.parametrize("is_known", [True, False])
def test_what_is_taken_for_our_cookie(sent, taken, is_known):
    cookies = Cookies(is_enabled=True, now=0.0)
    if is_known:
        assert cookies.learn(option(COOKIE, cookies.option[4:12] + b"12345678"), 1.0)
    ours = b"" if sent is None else option(COOKIE, cookies.option[4:12] + sent)
    opt = b"\0\0\x29\4\xd0\0\0\0\0" + len(ours).to_bytes(2, "big")
    rest = b"\0\7\x80\0\0\1\0\0\0\0\0\1\1a\0\0\1\0\1"
    assert (cookies.take(rest + opt + ours) is not None) == taken


def test_no_reply_has_our_cookie_for_nothing_while_none_is_sent():
    cookies = Cookies(is_enabled=True, now=0.0)
    cookies.refused(1.0)
    assert cookies.option == b""
    opt = b"\0\0\x29\4\xd0\0\0\0\0\0\0"
    assert cookies.take(b"\0\7\x80\0\0\1\0\0\0\0\0\1\1a\0\0\1\0\1" + opt) is None


class Mixed:
    """Servers behind one address of which the first only has cookies."""

    def __init__(self, tcp):
        self._first = WithCookies()
        self._tcp = tcp
        self._count = 0

    def __call__(self, query, proto):
        self._count += 1
        if self._count == 1:
            return self._first(query, proto)
        return None if proto == "tcp" and not self._tcp else good(query)


@pytest.mark.parametrize("tcp", [True, False])
def test_servers_behind_one_address_only_some_of_which_have_cookies(tcp):
    options = "max_fails 0\nread_timeout 1s"
    with (
        Upstream(Mixed(tcp)) as upstream,
        serve_with_timers(corefile(upstream.to, options)) as server,
    ):
        for name in ("a.example", "b.example", "c.example", "d.example"):
            assert server.ask(name).rr
        before = len(upstream.queries)
        assert server.ask("e.example").rr
        assert upstream.queries[before:] == [("e.example. A", "udp")]


def test_an_echo_of_the_cookie_obliges_to_nothing():
    """CoreDNS sends the client's options back if the reply is from its cache."""
    count = 0

    def behave(query, _proto):
        nonlocal count
        count += 1
        reply = good(query)
        if count == 1:
            reply.add_ar(dnslib.EDNS0(opts=[dnslib.EDNSOption(COOKIE, cookie_of(query))]))
        return reply

    with Upstream(behave) as upstream, serve(corefile(upstream.to)) as server:
        for name in ("a.example", "b.example", "c.example"):
            assert server.ask(name).rr
        assert {proto for _, proto in upstream.queries} == {"udp"}


@pytest.mark.parametrize("rcode", [1, 4, 16])
def test_an_upstream_that_refuses_cookies_is_asked_with_edns(rcode):
    seen = []

    def behave(query, proto):
        seen.append((bool(query.ar), cookie_of(query) is not None))
        if seen[-1][1]:
            reply = query.reply()
            reply.header.rcode = rcode & 15
            if rcode > 15:
                reply.add_ar(dnslib.EDNS0(ext_rcode=rcode >> 4))
            return reply
        return good(query, proto)

    with Upstream(behave) as upstream, serve(corefile(upstream.to)) as server:
        assert server.ask("a.example", edns=1232, do=True).rr
        assert server.ask("b.example", edns=1232, do=True).rr
    assert seen == [(True, True), (True, False), (True, False)]


ZONE = """\
$TTL 60
@ SOA ns admin 1 2 3 4 5
@ NS ns
ns A 192.0.2.1
* A 192.0.2.7
"""


def test_a_real_server_with_cookies():
    with (
        knot(ZONE, "example.", modules=["mod-cookies"]) as address,
        serve(corefile("{}:{}".format(*address))) as server,
    ):
        for name in ("a.example", "b.example", "nothing.ns.example"):
            assert server.ask(name).header.rcode == (3 if "nothing" in name else 0)
        (forward,) = server.plugins(Forward)
        (upstream,) = forward.pool.upstreams
        assert upstream.cookies.is_expected
        assert len(upstream.cookies.option) == 4 + 8 + 16
        reply = Reply.from_wire(server.exchange(variant(1)))
        assert parse_options(reply.options) == []


RANDOM_CASE = f"{PATIENT}\nrandom_case"
LONG = "a-long-name-with-enough-letters.example"


def test_random_case():
    seen = []

    def behave(query, proto):
        seen.append(str(query.q.qname))
        return good(query, proto)

    with (
        Upstream(behave) as upstream,
        serve(corefile(upstream.to, RANDOM_CASE)) as server,
    ):
        for name in (LONG, "b." + LONG):
            reply = server.ask(name)
            assert str(reply.q.qname) == f"{name}."
            assert reply.rr
        assert all(name != name.lower() for name in seen)
        assert [proto for _, proto in upstream.queries] == ["udp", "udp"]


def in_lower_case(query):
    name = dnslib.DNSLabel(str(query.q.qname).lower())
    query.questions[0].qname = name
    return query


def test_random_case_keeps_a_forger_out_who_does_not_know_it():
    behave = Forged(lambda query: forged(in_lower_case(query)))
    with Upstream(behave) as upstream, serve(corefile(upstream.to, RANDOM_CASE)) as server:
        assert addresses(server.ask(LONG)) == ["192.0.2.7"]


@pytest.mark.parametrize("tcp", [True, False])
def test_random_case_and_an_upstream_that_does_not_keep_it(tcp):
    def behave(query, proto):
        return None if proto == "tcp" and not tcp else good(in_lower_case(query))

    options = "max_fails 0\nread_timeout 1s\nrandom_case"
    with Upstream(behave) as upstream, serve_with_timers(corefile(upstream.to, options)) as server:
        for name in (LONG, "b." + LONG):
            assert server.ask(name).rr
        before = len(upstream.queries)
        assert server.ask("c." + LONG).rr
        assert [proto for _, proto in upstream.queries[before:]] == ["udp"]


def test_an_upstream_that_refuses_every_cookie_is_asked_without():
    def refuses(query, _proto):
        cookie = cookie_of(query)
        if cookie is None:
            return good(query)
        reply = query.reply(ra=1, aa=0)
        reply.header.rcode = 7
        options = [dnslib.EDNSOption(COOKIE, cookie[:8] + bytes(8))]
        reply.add_ar(dnslib.EDNS0(udp_len=1232, ext_rcode=1, opts=options))
        return reply

    with Upstream(refuses) as upstream, serve(corefile(upstream.to)) as server:
        for number in range(3):
            for edns in (0, 1232):
                reply = server.ask(f"{edns}-{number}.example", edns=edns)
                assert (reply.header.rcode, addresses(reply)) == (0, ["192.0.2.7"])
