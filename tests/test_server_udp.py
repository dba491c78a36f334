"""A UDP listener, batch by batch, with its clock in the test's hand.

The queries of a batch are all sent before the event loop looks at the socket, so that the listener
takes them in one system call. Replies are compared byte by byte.
"""

import asyncio
import contextlib
import socket
import struct
from functools import partial
from types import SimpleNamespace

import pytest

from corepy.dns.constants import TYPE_A
from corepy.dns.records import rr
from corepy.net.batch import SLOTS, Batch
from corepy.net.plain import PlainBatch
from corepy.net.sockets import Address, open_udp
from corepy.plugin import Cacheability, Handler, ListenerConfig
from corepy.server.listen.chain_task import task_set_aside
from corepy.server.listen.packet_cache import MemoryPool
from corepy.server.listen.query_listener import ListenerContext
from corepy.server.listen.router import ROOT, Router, ZoneRoute
from corepy.server.listen.udp import OVERFLOWS, UNSENT, UDPListener
from corepy.testing import query

LIMIT = 60.0  # seconds after which a test has failed for good
LABEL = "dns://:53"
TTL = 60


class DeadlineSetter(Handler):
    """Answers each name with an address that counts its calls; the reply holds for `TTL` seconds."""

    name = "cache"
    cacheability = Cacheability.SETS_DEADLINE

    def __init__(self):
        self.calls = 0
        self.credited = []
        self.seen_queries = []
        self.waiting = []
        self.is_kept = True  # by the packet cache

    async def serve_dns(self, request):
        if request.name.startswith("wait"):
            future = asyncio.get_running_loop().create_future()
            self.waiting.append((request, future))
            await future
        if "drop" in request.name:
            reply = request.drop()
            reply.deadline = request.received + TTL
            return reply
        self.calls += 1
        reply = request.reply(
            answer=[rr(request.name_wire, TYPE_A, TTL, bytes([9, 9, 9, self.calls & 255]))]
        )
        reply.since = request.received
        reply.deadline = request.received + TTL if self.is_kept else None
        reply.hit_counters = (self,)
        return reply

    def count_hits(self, times):
        self.credited.append(times)


def expected(wire, call, ttl=TTL):
    """The whole reply to a query without EDNS: the call of the chain that made it, and its TTL now."""
    counts = struct.pack("!HHHH", 1, 1, 0, 0)
    owner = b"\xc0\x0c" if wire[12] else b"\0"
    record = owner + struct.pack("!HHIH", 1, 1, ttl, 4) + bytes([9, 9, 9, call])
    return wire[:2] + b"\x80\x00" + counts + wire[12:] + record


def ask_for(name, ident=0):
    return struct.pack("!H", ident) + query(name, rd=0)[2:]


class Bench:
    """A listener on loopback, a client, a chain and a clock."""

    def __init__(self, batch, cache, clock, address, server):
        sock = open_udp(Address(address, 0))
        self.batch, self.cache, self.clock = batch, cache, clock
        context = ListenerContext(LABEL, batch, MemoryPool(1 << 20), wildcard=not address)
        self.listener = UDPListener(sock, context)
        route = ZoneRoute(".", cache, None, cache, has_hit_listeners=hasattr(cache, "on_hit"))
        router = Router({ROOT: route}, any_class=True, dropped=None)
        self.listener.swap(router, ListenerConfig())
        self.client = self.new_client(server or address or "127.0.0.1")
        self.listener.start()

    def new_client(self, server, own=""):
        """Return a socket that sends to `server` and takes replies from there only."""
        family = socket.AF_INET6 if ":" in server else socket.AF_INET
        client = socket.socket(family, socket.SOCK_DGRAM)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        client.setblocking(False)
        client.bind((own, 0))
        client.connect((server, self.listener.sock.getsockname()[1]))
        return client

    async def ask(self, *wires):
        """Send queries as one batch and return as many replies, in the order of the queries."""
        for wire in wires:
            self.client.send(wire)
        replies = [await self.receive() for _ in wires]
        return sorted(replies, key=lambda reply: [wire[:2] for wire in wires].index(reply[:2]))

    async def ask_and_wait(self, wires):
        """Send queries and wait until the chains of all wait."""
        for wire in wires:
            self.client.send(wire)
        while len(self.cache.waiting) < len(wires):  # noqa: ASYNC110  # turns of the loop, no time
            await asyncio.sleep(0)

    async def receive(self):
        loop = asyncio.get_running_loop()
        return await asyncio.wait_for(loop.sock_recv(self.client, 4096), LIMIT)

    def nothing_more_comes(self):
        with pytest.raises(BlockingIOError):
            self.client.recv(4096)


@pytest.fixture(params=[Batch, PlainBatch])
def bench(request, monkeypatch):
    """Return a context manager for the test's event loop."""
    clock = SimpleNamespace(now=1000.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr("corepy.server.listen.udp.monotonic", clock.monotonic)

    @contextlib.contextmanager
    def make(cache=None, address="127.0.0.1", *, batch=None, server=""):
        bench = Bench(batch or request.param(), cache or DeadlineSetter(), clock, address, server)
        try:
            yield bench
        finally:
            bench.listener.close()
            bench.client.close()

    return make


NAMES = [f"n{number}.example.org." for number in range(7)]


@pytest.mark.parametrize(
    ("seconds", "ttl"), [(0, 60), (0.999, 60), (1, 59), (2.5, 58), (59, 1), (59.999, 1)]
)
def test_a_batch_of_known_queries_is_repeated_with_its_ttl_of_now(bench, seconds, ttl):
    async def test():
        with bench() as it:
            wires = [ask_for(name, number) for number, name in enumerate(NAMES)]
            await it.ask(*wires)
            it.clock.now += seconds
            again = [ask_for(name, 100 + number) for number, name in enumerate(NAMES)]
            assert await it.ask(*again) == [
                expected(wire, 1 + number, ttl) for number, wire in enumerate(again)
            ]
            assert it.cache.calls == len(NAMES)

    asyncio.run(test())


def test_the_ttl_of_an_entry_is_lowered_from_what_it_was(bench):
    """By the time since the last query, not since the first one once more."""

    async def test():
        with bench() as it:
            wires = [ask_for(name, number) for number, name in enumerate(NAMES)]
            await it.ask(*wires)
            for seconds, ttl in [(1, 59), (0.5, 59), (0.5, 58), (20, 38), (1, 37), (36.5, 1)]:
                it.clock.now += seconds
                assert await it.ask(*wires) == [
                    expected(wire, 1 + number, ttl) for number, wire in enumerate(wires)
                ]

    asyncio.run(test())


@pytest.mark.parametrize("seconds", [60, 60.5, 1000])
def test_a_batch_of_expired_entries_goes_to_the_chain(bench, seconds):
    async def test():
        with bench() as it:
            wires = [ask_for(name, number) for number, name in enumerate(NAMES)]
            await it.ask(*wires)
            it.clock.now += seconds
            assert await it.ask(*wires) == [
                expected(wire, 1 + len(NAMES) + number) for number, wire in enumerate(wires)
            ]

    asyncio.run(test())


def test_one_expired_entry_of_a_batch_goes_to_the_chain(bench):
    async def test():
        with bench() as it:
            old, *others = wires = [ask_for(name, number) for number, name in enumerate(NAMES)]
            await it.ask(old)
            it.clock.now += 30
            await it.ask(*others)
            it.clock.now += 30
            for order in (wires, wires[::-1]):  # the second finds all of them known
                replies = await it.ask(*order)
                assert sorted(replies) == sorted(
                    [expected(old, 8), *(expected(w, 2 + n, 30) for n, w in enumerate(others))]
                )

    asyncio.run(test())


def test_the_memory_of_an_expired_entry_is_used_again(bench):
    """A reply that is repeated after its entry was dropped would show the bytes of another."""

    async def test():
        with bench() as it:
            first, second = ask_for("a.example.org.", 1), ask_for("b.example.org.", 2)
            await it.ask(first)
            it.clock.now += TTL
            assert await it.ask(first, second) == [expected(first, 2), expected(second, 3)]
            assert await it.ask(first, second) == [expected(first, 2), expected(second, 3)]

    asyncio.run(test())


def test_mixed_batches_answer_each_query_with_its_own_reply(bench):
    """Known and unknown names, each several times, some of them longer than others."""

    async def test():
        with bench() as it:
            known = {"n0.example.org.": 1, "a.long.name.example.com.": 2}
            for name in known:
                await it.ask(ask_for(name))
            asked = [
                *known,
                "n1.example.org.",
                ".",
                "n2.example.org.",
                "another.long.name.test.",
            ] * 8
            wires = [ask_for(name, number) for number, name in enumerate(asked)]
            replies = await it.ask(*wires)
            calls = {name: call for call, name in enumerate(dict.fromkeys(asked), 1)}
            assert replies == [
                expected(wire, calls[name]) for wire, name in zip(wires, asked, strict=True)
            ]
            assert it.cache.calls == len(calls)

    asyncio.run(test())


def test_hits_of_both_ways_are_credited_when_an_entry_ends(bench):
    async def test():
        with bench() as it:
            known, new = ask_for("a.example.org.", 1), ask_for("b.example.org.", 2)
            await it.ask(known)
            await it.ask(known, known)
            await it.ask(known, new)
            it.clock.now += TTL
            await it.ask(known)
            assert it.cache.credited == [3]

    asyncio.run(test())


def test_witnesses_see_each_query_of_a_batch(bench):
    class HitListener(DeadlineSetter):
        def on_hit(self, ident, peer, received):
            self.seen_queries.append((ident, peer, received))

    async def test():
        cache = HitListener()
        with bench(cache) as it:
            known, new = ask_for("a.example.org.", 1), ask_for("b.example.org.", 2)
            await it.ask(known)
            it.clock.now += 0.5
            await it.ask(known, known)
            it.clock.now += 0.25
            await it.ask(known, new)
            peers = {peer for _, peer, _ in cache.seen_queries}
            assert [(ident, at) for ident, _, at in cache.seen_queries] == [
                (b"\0\1", 1000.5),
                (b"\0\1", 1000.5),
                (b"\0\1", 1000.75),
            ]
            assert len(peers) == 1

    asyncio.run(test())


# -- replies that cannot be sent


NONSENSE = [None, "127.0.0.1", ("127.0.0.1",), b"", b"\2", bytes(1000), 5, object()]


@pytest.mark.parametrize("peer", NONSENSE, ids=lambda it: repr(it)[:16])
def test_a_late_reply_that_cannot_be_sent_is_dropped_alone(bench, peer, caplog):
    """A plugin has put something else there; the others of that turn go out, and later ones too."""

    async def test():
        unsent = UNSENT.labels(LABEL)
        before = unsent.value
        with bench() as it:
            wires = [ask_for(f"wait{number}.example.org.", number) for number in range(5)]
            await it.ask_and_wait(wires)
            it.cache.waiting[2][0].peer = peer
            for _, future in it.cache.waiting:
                future.set_result(None)
            replies = [await it.receive() for _ in range(4)]
            assert replies == [expected(wires[n], n + 1) for n in (0, 1, 3, 4)]
            later = ask_for("later.example.org.", 9)
            assert await it.ask(later) == [expected(later, 6)]
            it.nothing_more_comes()
        logged = [it for it in caplog.messages if it == f"a reply from {LABEL} was dropped"]
        assert unsent.value - before + len(logged) == 1

    asyncio.run(test())


@pytest.mark.pure_form("replaces methods of an object")
@pytest.mark.parametrize(
    ("name", "is_known", "sent"), [("a", True, 1), ("a", False, 2), ("wait", False, 3)]
)
def test_replies_that_the_socket_did_not_take_are_counted(bench, monkeypatch, name, is_known, sent):
    """Each time that something is sent: from the packet cache, after the chains, and late."""

    async def test():
        with bench() as it:
            wire = ask_for(f"{name}.example.org.", 1)
            if is_known:
                await it.ask(wire)
            unsent = UNSENT.labels(LABEL)
            before = unsent.value
            for way in ("flush", "answer_all"):
                send = getattr(it.batch, way)
                monkeypatch.setattr(it.batch, way, lambda *args, send=send: send(*args) + 100)
            if name == "wait":
                await it.ask_and_wait([wire])
                it.cache.waiting[0][1].set_result(None)
                await it.receive()
            else:
                await it.ask(wire)
            # `PlainBatch.answer_all` ends with a flush.
            assert unsent.value - before in (100 * sent, 100 * (sent + is_known))

    asyncio.run(test())


@pytest.mark.parametrize("local", [None, b"", "127.0.0.1", ("127.0.0.1", 53)], ids=repr)
def test_a_late_reply_from_an_address_that_is_none(bench, local):
    async def test():
        with bench(address="") as it:
            wires = [ask_for(f"wait{number}.example.org.", number) for number in range(2)]
            await it.ask_and_wait(wires)
            it.cache.waiting[0][0].local = local
            for _, future in it.cache.waiting:
                future.set_result(None)
            sent = [0, 1] if local is None else [1]  # None: the system chooses
            replies = [await it.receive() for _ in sent]
            assert replies == [expected(wires[n], n + 1) for n in sent]
            later = ask_for("later.example.org.", 9)
            assert await it.ask(later) == [expected(later, 3)]

    asyncio.run(test())


def test_more_late_replies_in_one_turn_than_a_batch_holds(bench):
    async def test():
        with bench() as it:
            wires = [ask_for(f"wait{n}.example.org.", n) for n in range(2 * SLOTS + 3)]
            await it.ask_and_wait(wires)
            for _, future in it.cache.waiting:
                future.set_result(None)
            replies = [await it.receive() for _ in wires]
            assert replies == [expected(wire, n + 1) for n, wire in enumerate(wires)]

    asyncio.run(test())


def test_a_dropped_query_gets_no_reply_and_is_not_cached(bench):
    async def test():
        with bench() as it:
            late = [ask_for("wait-drop.example.org.", 1), ask_for("wait.example.org.", 2)]
            await it.ask_and_wait(late)
            for _, future in it.cache.waiting:
                future.set_result(None)
            assert await it.receive() == expected(late[1], 1)
            answered, dropped = ask_for("a.example.org.", 4), ask_for("drop.example.org.", 3)
            for number in (2, 2, 2):
                it.client.send(dropped)
                it.client.send(answered)
                assert await it.receive() == expected(answered, number)
            assert list(it.listener.pipeline.packets.entries) == [late[1][2:], answered[2:]]
            assert not it.listener.waiting()
            it.nothing_more_comes()

    asyncio.run(test())


# -- batches


@pytest.mark.parametrize("bench", [Batch], indirect=True)
def test_a_batch_of_known_queries_is_answered_without_a_look_at_them(bench, monkeypatch):
    """The way that a node's cache goes all day: two system calls, and no copy of a query."""

    async def test():
        with bench() as it:
            wires = [ask_for(name, number) for number, name in enumerate(NAMES)]
            await it.ask(*wires)
            monkeypatch.delattr(Batch, "payloads")
            assert await it.ask(*wires) == [expected(w, 1 + n) for n, w in enumerate(wires)]

    asyncio.run(test())


# A wildcard socket that does not know where a query came to would answer it from 127.0.0.1.
@pytest.mark.parametrize(("address", "server"), [("::1", "::1"), ("", "127.0.0.2")])
def test_listeners_that_share_a_batch_leave_its_slots_as_they_were(bench, address, server):
    """The kernel shortens the lengths of a slot to those of a datagram: the next may have a longer
    address, or packet information.
    """

    async def test():
        with bench() as it, bench(address=address, server=server, batch=it.batch) as other:
            wires = [ask_for(f"n{number}.example.org.", number) for number in range(3)]
            replies = [expected(wire, 1 + number) for number, wire in enumerate(wires)]
            for listener in (it, other, it, other):  # the first two ask the chain
                assert await listener.ask(*wires) == replies

    asyncio.run(test())


@pytest.mark.parametrize("leave_queue", [False, True])
def test_a_stopped_listener_leaves_its_port_to_others(bench, leave_queue):
    """To the socket of the next server in the same group; with `leave_queue` it is that socket."""

    async def test():
        with bench() as it:
            await it.ask(ask_for("a.example.org."))
            it.listener.stop(leave_queue=leave_queue)
            it.client.send(ask_for("b.example.org."))
            if leave_queue:
                assert it.listener.sock.recv(4096)
            else:
                with pytest.raises(BlockingIOError):
                    it.listener.sock.recv(4096)

    asyncio.run(test())


@pytest.mark.parametrize("is_known", [True, False])
def test_stop_answers_all_batches_that_lie_in_the_socket(bench, is_known):
    async def test():
        with bench() as it:
            wires = [ask_for(f"n{n}.example.org.", n) for n in range(3 * SLOTS + 1)]
            for wire in wires if is_known else ():
                await it.ask(wire)
            for wire in wires:
                it.client.send(wire)
            with task_set_aside():
                it.listener.stop()
            assert sorted([await it.receive() for _ in wires]) == sorted(
                expected(wire, 1 + number & 255) for number, wire in enumerate(wires)
            )
            it.nothing_more_comes()

    asyncio.run(test())


# -- bursts and pauses

ROUNDS = 4  # batches that are read before the chains of the first are run
BACKLOG = 1024  # queries of one client that may wait
UNSHARED = 128  # queries that wait before those of each client are counted
BURST = BACKLOG + 1000


async def answered(it, wires, then=lambda: None):
    """Send a burst before the listener looks, and return the IDs of the replies and the overflows.

    `then` is called when the burst has been sent.
    """
    overflows = OVERFLOWS.labels(LABEL)
    before = overflows.value
    for wire in wires:
        it.client.send(wire)
    then()
    idents: list[bytes] = []
    while len(idents) + overflows.value - before < len(wires):
        idents.append((await it.receive())[:2])
    it.nothing_more_comes()
    return idents, overflows.value - before


def test_what_came_before_the_start_is_answered_however_much_it_is(bench):
    """Afterwards a burst of one client is cut to its share of the queue."""

    async def test():
        with bench() as it:
            wires = [ask_for(f"n{n}.example.org.", n) for n in range(BURST)]
            it.cache.is_kept = False  # every query goes to the chain
            it.listener.pause()
            it.listener.start()
            assert await answered(it, wires) == ([wire[:2] for wire in wires], 0)
            idents, overflows = await answered(it, wires)
            assert 0 < overflows < BURST - BACKLOG
            assert idents == sorted(idents)
            assert await answered(it, wires[:BACKLOG]) == ([it[:2] for it in wires[:BACKLOG]], 0)

    asyncio.run(test())


@pytest.mark.parametrize("change", ["swap", "forget"])
def test_what_came_during_a_reload_is_answered_however_much_it_is(bench, change):
    """The packet cache is emptied, so all queries that waited meanwhile go to the chain."""

    async def test():
        with bench() as it:
            wires = [ask_for(f"n{n}.example.org.", n) for n in range(BURST)]
            await it.ask(wires[0])  # the queue from before the start is empty
            it.cache.is_kept = False
            swap = partial(it.listener.swap, it.listener.pipeline.router, ListenerConfig())
            then = swap if change == "swap" else it.listener.forget
            assert await answered(it, wires, then) == ([wire[:2] for wire in wires], 0)

    asyncio.run(test())


@pytest.mark.parametrize(
    ("seconds", "is_over"), [(4.5, False), (4.999, False), (5.0, True), (5.5, True)]
)
def test_how_long_a_new_server_catches_up(bench, monkeypatch, seconds, is_over):
    async def test():
        loop = asyncio.get_running_loop()
        with bench() as it:
            it.cache.is_kept = False
            it.listener.pause()
            began = loop.time()
            monkeypatch.setattr(loop, "time", lambda: began)
            it.listener.start()
            monkeypatch.setattr(loop, "time", lambda: began + seconds)
            wires = [ask_for(f"n{n}.example.org.", n) for n in range(BURST)]
            _, overflows = await answered(it, wires)
            assert (overflows > 0) is is_over

    asyncio.run(test())


def test_a_server_that_catches_up_reads_as_much_as_there_is_room_for(bench):
    async def test():
        with bench() as it:
            listener = it.listener
            listener.pause()
            listener._is_asking = True  # the chains are run in another turn
            for sent, queued, found in [
                (2 * SLOTS, BACKLOG - SLOTS, BACKLOG),
                (0, BACKLOG - SLOTS + 1, BACKLOG - SLOTS + 1),
                (SLOTS, BACKLOG - 2 * SLOTS, BACKLOG),
            ]:
                for number in range(sent):
                    it.client.send(ask_for(f"n{number}.example.org.", number))
                listener._new = [(b"", 0.0, it.client.getsockname(), None, None)] * queued
                listener._shares = None
                listener._on_readable()
                assert len(listener._new) == found
            listener._new = []

    asyncio.run(test())


def test_the_queries_of_each_client_are_counted_in_a_long_queue_only(bench):
    async def test():
        with bench() as it:
            listener = it.listener
            listener.pause()
            it.cache.is_kept = False

            def receive(count):
                for number in range(count):
                    it.client.send(ask_for(f"n{number}.example.org.", number))
                while listener._serve_batch():
                    pass

            receive(UNSHARED)
            assert listener._shares is None
            receive(1)
            assert listener._shares is not None
            receive(SLOTS - 1)
            with task_set_aside():
                listener._ask_chains()
                assert len(listener._new) == UNSHARED
                assert listener._shares is not None
                listener._ask_chains()
                assert listener._shares is None
                while listener._new:
                    listener._ask_chains()

    asyncio.run(test())


def test_a_client_that_sends_too_much_gets_three_quarters_of_the_queue(bench):
    """Each turn of the loop takes up to four batches, and asks the chain for one."""

    async def test():
        with bench() as it:
            await it.ask(ask_for("a.example.org."))  # catching up with what came before is over
            it.cache.is_kept = False
            wires = [ask_for(f"n{n}.example.org.", n) for n in range(2 * BURST)]
            # The first turn asks at once, and so does the second before it looks at the socket.
            left, queue, overflows = len(wires), -SLOTS, 0
            while left:
                taken = min(left, ROUNDS * SLOTS)
                kept = min(taken, BACKLOG - queue)
                left, queue, overflows = (
                    left - taken,
                    queue + kept - SLOTS,
                    overflows + taken - kept,
                )
            assert overflows > BURST // 2
            assert (await answered(it, wires))[1] == overflows

    asyncio.run(test())


def test_a_second_client_finds_places_in_a_queue_that_the_first_has_filled(bench):
    """It gets what the first one leaves: a third of a backlog, of which it may take three quarters."""

    async def test():
        with bench() as it:
            await it.ask(ask_for("a.example.org."))
            it.cache.is_kept = False
            for number in range(BURST):
                it.client.send(ask_for(f"n{number}.example.org.", number))
            with it.new_client("127.0.0.1", own="127.0.0.9") as second:
                for number in range(BACKLOG // 4):
                    second.send(ask_for(f"n{number}.example.org.", number))
                loop = asyncio.get_running_loop()
                for number in range(BACKLOG // 4):
                    reply = await asyncio.wait_for(loop.sock_recv(second, 4096), LIMIT)
                    assert reply[:2] == struct.pack("!H", number)

    asyncio.run(test())


def test_a_query_in_the_midst_of_the_burst_of_another_client(bench):
    """It comes when the queue is just as long as one that is not counted, and leaves it when the
    queue is longer.
    """

    async def test():
        with bench() as it, it.new_client("127.0.0.1", own="127.0.0.9") as second:
            await it.ask(ask_for("a.example.org."))
            it.cache.is_kept = False
            burst = [ask_for(f"n{n}.example.org.", n) for n in range(8 * SLOTS)]
            for wire in burst[: 4 * SLOTS]:
                it.client.send(wire)
            second.send(ask_for("b.example.org.", 7))
            for wire in burst[4 * SLOTS :]:
                it.client.send(wire)
            idents = [(await it.receive())[:2] for _ in burst]
            assert idents == [wire[:2] for wire in burst]
            assert second.recv(4096)[:2] == b"\0\7"

    asyncio.run(test())


def test_a_paused_listener_leaves_queries_in_the_socket(bench):
    async def test():
        with bench() as it:
            it.listener.pause()
            wire = ask_for("a.example.org.", 1)
            it.client.send(wire)
            for _ in range(5):
                await asyncio.sleep(0)
            it.nothing_more_comes()
            it.listener.start()
            assert await it.receive() == expected(wire, 1)

    asyncio.run(test())


@pytest.mark.parametrize(("leave_queue", "answered"), [(False, 2), (True, 0)])
def test_stop_answers_what_lies_in_the_socket(bench, leave_queue, answered):
    async def test():
        with bench() as it:
            wires = [ask_for("a.example.org.", 1), ask_for("b.example.org.", 2)]
            for wire in wires:
                it.client.send(wire)
            with task_set_aside():
                it.listener.stop(leave_queue=leave_queue)
            replies = [await it.receive() for _ in range(answered)]
            assert replies == [expected(wire, n + 1) for n, wire in enumerate(wires)][:answered]
            it.nothing_more_comes()

    asyncio.run(test())
