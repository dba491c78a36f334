"""The packet cache: what it keeps, what it must not, and that nobody can tell its answers from the chain's."""

import asyncio
import os
import socket
import struct
import threading
import time
import tracemalloc
from typing import Any

import dnslib
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corepy.dns import Request, finish, names, records
from corepy.net.arena import SEGMENT
from corepy.plugin import Cacheability, Handler
from corepy.server.listen.packet_cache import SWITCH, MemoryPool, PacketCache
from corepy.server.listen.udp import BACKLOG, OVERFLOWS
from corepy.testing import Upstream, query, serve, with_handlers
from corepy.testing.client import read_frame
from corepy.testing.command import wait_until


class DeadlineSetter(Handler):
    """Answers with a counter and says that the answer holds for a while; counts what is repeated."""

    name = "keeper"
    cacheability = Cacheability.SETS_DEADLINE

    def __init__(self, seconds=60.0, ttl=60):
        self.seconds, self.ttl = seconds, ttl
        self.calls = self.credited = 0
        self.held, self.go_on = threading.Event(), threading.Event()

    def count_hits(self, times):
        self.credited += times

    async def serve_dns(self, request):
        self.calls += 1
        if request.name.startswith("hold."):
            self.held.set()
            self.go_on.wait(60)  # and the whole event loop with it
        records = dnslib.RR.fromZone(f'{request.qname} {self.ttl} TXT "{self.calls}"')
        reply = request.reply(answer=records)
        reply.since = request.received
        reply.deadline = request.received + self.seconds
        reply.hit_counters = (self,)
        return reply


class Above(Handler):
    """Stands above the keeper; what it is is set in the test."""

    name = "above"

    async def serve_dns(self, request):
        return await self.next.serve_dns(request)


class Seen(DeadlineSetter):
    name = "seen"
    listens_to_hits = True

    def __init__(self):
        super().__init__()
        self.seen_queries = []

    def on_hit(self, ident, peer, received):
        self.seen_queries.append((ident, peer))


@pytest.fixture
def keeper():
    return DeadlineSetter()


@pytest.fixture
def server(keeper):
    with serve(". {\nkeeper\n}", plugins=with_handlers(keeper=lambda: keeper)) as running:
        yield running


def ask_twice(server, tcp=False, change=None, **question):
    wire = query("example.org.", **question)
    if change:
        wire = change(wire)
    return [server.exchange(os.urandom(2) + wire[2:], tcp=tcp) for _ in range(2)]


@pytest.mark.parametrize("tcp", [False, True])
def test_the_same_bytes_are_answered_without_the_chain(server, keeper, tcp):
    first, second = ask_twice(server, tcp)
    assert keeper.calls == 1
    assert first[2:] == second[2:]
    assert first[:2] != second[:2]


@pytest.mark.parametrize(
    "question",
    [
        {"edns": 1232},
        {"do": True},
        {"cd": 1},
        {"ad": 1},
        {"rd": 0},
        {"qtype": "AAAA"},
        {"edns": 512},
    ],
)
def test_another_question_is_another_entry(server, keeper, question):
    ask_twice(server)
    ask_twice(server, **question)
    assert keeper.calls == 2


def test_udp_and_tcp_are_apart(server, keeper):
    ask_twice(server)
    ask_twice(server, tcp=True)
    assert keeper.calls == 2


def with_capitals(wire):
    return wire.replace(b"example", b"eXample")


def with_cookie(wire):
    return (
        wire[:11]
        + b"\1"
        + wire[12:]
        + bytes.fromhex("00 0029 04d0 00000000 000c 000a 0008 0102030405060708")
    )


def notify(wire):
    return wire[:2] + b"\x20" + wire[3:]


@pytest.mark.parametrize("change", [with_capitals, with_cookie, notify])
def test_unusual_queries_always_go_down_the_chain(server, keeper, change):
    ask_twice(server, change=change)
    assert keeper.calls == 2


@pytest.mark.parametrize(
    ("cacheability", "calls"),
    [
        (Cacheability.SAFE, 1),
        (Cacheability.OBSERVES, 1),
        (Cacheability.SETS_DEADLINE, 1),
        (Cacheability.UNSAFE, 2),
    ],
)
def test_what_stands_above_decides(keeper, cacheability, calls):
    above = Above()
    above.cacheability = cacheability
    order = {"above": lambda: above, "keeper": lambda: keeper}
    plugins = with_handlers(**order)
    vars(plugins["above"].entry_point.load())["before"] = ("keeper",)
    with serve(". {\nabove\nkeeper\n}", plugins=plugins) as server:
        ask_twice(server)
    assert keeper.calls == calls


def test_what_stands_below_does_not_matter(keeper):
    plugins = with_handlers(above=Above, keeper=lambda: keeper)
    vars(plugins["above"].entry_point.load())["after"] = ("keeper",)
    with serve(". {\nabove\nkeeper\n}", plugins=plugins) as server:
        ask_twice(server)
    assert keeper.calls == 1


@pytest.mark.parametrize(
    ("value", "calls"),
    [
        ("off", 2),
        ("OFF", 2),
        ("Off", 2),
        ("on", 1),
        ("", 1),
        ("perhaps", 1),
        ("0", 1),
        (None, 1),
    ],
)
def test_it_can_be_switched_off(keeper, monkeypatch, value, calls):
    if value is None:
        monkeypatch.delenv(SWITCH, raising=False)
    else:
        monkeypatch.setenv(SWITCH, value)
    with serve(". {\nkeeper\n}", plugins=with_handlers(keeper=lambda: keeper)) as server:
        ask_twice(server)
    assert keeper.calls == calls


def test_a_deadline_ends_it():
    keeper, asked = DeadlineSetter(seconds=0.3), 0
    with serve(". {\nkeeper\n}", plugins=with_handlers(keeper=lambda: keeper)) as server:
        while keeper.calls < 3 or asked <= keeper.calls:
            ask_twice(server)
            asked += 2
    assert asked > keeper.calls


def test_ttls_count_down(server, keeper):
    def ttl(answer):
        return dnslib.DNSRecord.parse(answer).rr[0].ttl

    began = time.monotonic()
    first = ttl(ask_twice(server)[1])
    assert 60 - (time.monotonic() - began) - 1 < first <= 60
    wait_until(lambda: ttl(ask_twice(server)[0]) < first)
    lowered = ttl(ask_twice(server)[0])
    assert 60 - (time.monotonic() - began) - 1 < lowered < first
    assert keeper.calls == 1


def test_hits_are_credited(server, keeper):
    ask_twice(server)
    ask_twice(server)
    ask_twice(server, tcp=True)
    wait_until(lambda: keeper.credited >= 4)
    assert keeper.credited == 4


def test_hits_are_credited_when_the_server_stops(keeper):
    with serve(". {\nkeeper\n}", plugins=with_handlers(keeper=lambda: keeper)) as server:
        ask_twice(server)
    assert keeper.credited == 1


@pytest.mark.parametrize("tcp", [False, True])
def test_witnesses_see_each_query(tcp):
    seen = Seen()
    with serve(". {\nseen\n}", plugins=with_handlers(seen=lambda: seen)) as server:
        answers = ask_twice(server, tcp)
    assert [ident for ident, _ in seen.seen_queries] == [answers[1][:2]]


@pytest.mark.parametrize("tcp", [False, True])
def test_a_listener_that_asks_for_the_reply_gets_what_is_sent(tcp):
    class Asking(Seen):
        def on_hit(self, ident, peer, received):
            return lambda body: self.seen_queries.append(ident + body)

    seen = Asking()
    with serve(". {\nseen\n}", plugins=with_handlers(seen=lambda: seen)) as server:
        answers = ask_twice(server, tcp)
    assert seen.seen_queries == answers[1:]


def test_a_reload_empties_it():
    keepers = []

    def make():
        keepers.append(DeadlineSetter())
        return keepers[-1]

    with serve(". {\nkeeper\n}", plugins=with_handlers(keeper=make)) as server:
        ask_twice(server)
        server.reload(". {\nkeeper\n}")
        ask_twice(server)
    assert [keeper.calls for keeper in keepers] == [1, 1]


def test_zones_and_addresses_are_apart():
    text = "example.org:0 {\nbind 127.0.0.1 127.0.0.2\nkeeper\n}\nexample.org:0 {\nbind 127.0.0.3\nkeeper\n}"
    keepers = []

    def make():
        keepers.append(DeadlineSetter())
        return keepers[-1]

    with serve(text, plugins=with_handlers(keeper=make)) as server:
        wire = query("example.org.")
        for address in server.addresses * 2:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.settimeout(30)
                client.connect(address)
                client.send(wire)
                client.recv(999)
    assert sorted(keeper.calls for keeper in keepers) == [1, 2]


def test_mixed_batches_answer_each_its_own(server, keeper):
    """Known and unknown questions in one burst, from one socket."""
    names_asked = [f"n{i % 7}.example.org." for i in range(300)]
    server.exchange(query("n0.example.org.", "TXT"))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        client.settimeout(30)
        client.connect(server.address)
        wires = [
            struct.pack("!H", i) + query(name, "TXT")[2:] for i, name in enumerate(names_asked)
        ]
        for wire in wires:
            client.send(wire)
        got = {}
        for _ in wires:
            answer = client.recv(999)
            got[struct.unpack("!H", answer[:2])[0]] = answer
    for i, name in enumerate(names_asked):
        assert names.from_text(name) in got[i]
    assert keeper.calls == 7


def test_pipelined_tcp_queries_come_from_it(server, keeper):
    wire = query("example.org.")
    with socket.create_connection(server.address) as client:
        client.settimeout(30)
        client.sendall((struct.pack("!H", len(wire)) + wire) * 50)
        assert {read_frame(client)[:2] for _ in range(50)} == {wire[:2]}
    assert keeper.calls == 1


# With the packet cache and without it: the same answers.

LABELS = st.sampled_from(["www", "a", "big", "nx", "cname", "empty", "fail"])
QUESTIONS = st.fixed_dictionaries(
    {"label": LABELS, "qtype": st.sampled_from(["A", "AAAA", "TXT", "DS"])},
    optional={
        "edns": st.sampled_from([400, 512, 1232, 4096]),
        "do": st.booleans(),
        "cd": st.sampled_from([0, 1]),
        "ad": st.sampled_from([0, 1]),
        "rd": st.sampled_from([0, 1]),
        "capitals": st.booleans(),
        "tcp": st.booleans(),
    },
)
DIRECTIVES = st.lists(
    st.sampled_from(
        ["errors", "log", "cache 30", "cache 30 example.org", "cache {\nprefetch 1 1m 90%\n}"]
    ),
    max_size=3,
    unique_by=lambda line: line.split()[0],
)


def behave(asked, proto):
    name = str(asked.q.qname)
    reply = asked.reply(ra=1, aa=0)
    label = name.lower().partition(".")[0]
    if label == "nx":
        reply.header.rcode = dnslib.RCODE.NXDOMAIN
        reply.add_auth(*dnslib.RR.fromZone("example.org. 300 IN SOA ns. admin. 1 2 3 4 60"))
    elif label == "empty":
        reply.add_auth(*dnslib.RR.fromZone("example.org. 300 IN SOA ns. admin. 1 2 3 4 60"))
    elif label == "fail":
        reply.header.rcode = dnslib.RCODE.SERVFAIL
    elif label == "cname":
        reply.add_answer(*dnslib.RR.fromZone(f"{name} 50 CNAME www.example.org."))
    else:
        count = 30 if label == "big" else 1
        for i in range(count):
            reply.add_answer(
                dnslib.RR(name, dnslib.QTYPE.TXT, ttl=60, rdata=dnslib.TXT(f"{i} of {label}"))
            )
    return reply


def normal(answer):
    """An answer without its ID, and its TTLs by themselves."""
    record = dnslib.DNSRecord.parse(answer)
    record.header.id = 0
    ttls = []
    for section in (record.rr, record.auth, record.ar):
        for rr in section:
            if rr.rtype != dnslib.QTYPE.OPT:
                ttls.append(rr.ttl)
                rr.ttl = 0
    return str(record), ttls


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.tuples(st.sampled_from(["example.org", "."]), DIRECTIVES),
        min_size=1,
        max_size=2,
        unique_by=lambda b: b[0],
    ),
    st.lists(QUESTIONS, min_size=20, max_size=40),
)
def test_nobody_can_tell(blocks, questions):
    with Upstream(behave) as upstream:
        text = "\n".join(
            f"{zone} {{\n" + "\n".join([*lines, f"forward . {upstream.to}"]) + "\n}"
            for zone, lines in blocks
        )
        os.environ[SWITCH] = "off"
        with serve(text) as without:
            del os.environ[SWITCH]
            with serve(text) as server:
                began = time.monotonic()
                for question in questions + questions:
                    question = dict(question)
                    name = f"{question.pop('label')}.example.org."
                    if question.pop("capitals", False):
                        name = name.replace("e", "E")
                    tcp = question.pop("tcp", False)
                    wire = query(name, question.pop("qtype"), **question)
                    for _ in range(2):
                        plain, plain_ttls = normal(without.exchange(wire, tcp=tcp))
                        cached, cached_ttls = normal(server.exchange(wire, tcp=tcp))
                        assert cached == plain
                        assert len(cached_ttls) == len(plain_ttls)
                        # The two fetched them at different times; a second more for rounding.
                        most = time.monotonic() - began + 1
                        assert all(
                            abs(a - b) <= most for a, b in zip(cached_ttls, plain_ttls, strict=True)
                        )


def test_entries_take_the_memory_that_is_accounted():
    async def measure():
        memory_pool = MemoryPool(1 << 30)
        packets = PacketCache(memory_pool)
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            for number in range(5000):
                request = Request.from_wire(query(f"n{number}.example.org.", edns=1232))
                request.received = 100.0
                record = records.rr(request.name_wire, 1, 60, bytes(4))
                reply = request.reply(answer=[record])
                reply.deadline, reply.since = 160.0 + number, 99.5 + number / 1e6
                reply.hit_counters = (object(),)
                packets.admit(request, reply, finish(request, reply))
            for entry in packets.entries.values():
                entry.age(101.7)
            chunks = sum(entry.chunk.size for entry in packets.entries.values())
            segments = -(-chunks // SEGMENT) * SEGMENT  # which are not traced
            return tracemalloc.get_traced_memory()[0] - before + segments, memory_pool.used
        finally:
            tracemalloc.stop()

    taken, accounted = asyncio.run(measure())
    assert 0.8 * accounted < taken < 1.1 * accounted


def test_a_full_room_makes_the_oldest_go():
    async def fill():
        packets = PacketCache(MemoryPool(20_000))
        for number in range(200):
            request = Request.from_wire(query(f"n{number}.example.org."))
            request.received = 1.0
            reply = request.error(0)
            reply.deadline = 60.0
            packets.admit(request, reply, finish(request, reply))
        return packets

    packets = asyncio.run(fill())
    kept = [names.to_text(key[10:]) for key in packets.entries]
    assert 10 < len(kept) < 30
    assert "n0.example.org." not in kept
    assert any(name.startswith("n19") for name in kept)


def test_replies_of_every_length_lie_beside_each_other():
    async def fill():
        packets, sent = PacketCache(MemoryPool(1 << 20)), {}
        for length in range(300):
            request = Request.from_wire(query(f"n{length}.example.org."))
            request.received = 1.0
            reply = request.reply(answer=[records.rr(b"\0", 16, 60, b"\xff" * length)])
            reply.deadline = 60.0
            sent[request.wire[2:]] = finish(request, reply)
            packets.admit(request, reply, finish(request, reply))
        for key, wire in sent.items():
            assert packets.entries[key].body == wire[2:]

    asyncio.run(fill())


def test_the_processes_of_a_server_share_the_room():
    memory_pool = MemoryPool(100_000)
    memory_pool.divide(4)
    taken = 0
    while memory_pool.take(bytes(30), 100) is not None:
        taken += 1
    assert 25_000 - 1000 < memory_pool.used <= 25_000
    assert 25 < taken < 33


def test_memory_that_is_given_back_is_used_again():
    """Whatever the transport: far more replies come and go than there is room for at once."""
    memory_pool = MemoryPool(20_000)
    for number in range(20_000):
        key = b"%d" % number
        chunk = memory_pool.take(key, 100)
        assert chunk is not None
        memory_pool.give_back(key, chunk)
    assert memory_pool.used == 0


def test_known_names_do_not_wait_behind_a_flood_of_new_ones(server, keeper):
    """While the loop was busy, more came than its backlog takes, and a known name last of all."""
    flood = BACKLOG + 1000
    server.exchange(query("known.example.org.", "TXT"))
    overflows = OVERFLOWS.labels(f"dns://:{server.address[1]}")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        client.settimeout(20)
        client.connect(server.address)
        keeper.go_on.clear()
        client.send(query("hold.example.org.", "TXT"))
        keeper.held.wait(60)
        for number in range(flood):
            client.send(struct.pack("!H", number) + query(f"n{number}.org.", "TXT")[2:])
        client.send(struct.pack("!H", 65535) + query("known.example.org.", "TXT")[2:])
        keeper.go_on.set()
        order: list[Any] = []
        while len(order) < BACKLOG:
            order.append(struct.unpack("!H", client.recv(999)[:2])[0])
    assert order.index(65535) < BACKLOG * 3 // 4
    assert overflows.value > 0
