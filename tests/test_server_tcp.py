"""Connections over TCP without a network: a transport that notes what is done to it, and a clock that
goes on by itself when nothing else is left to do.
"""

import asyncio
import contextlib
import gc
import itertools
import math
import selectors
import socket
import struct
import weakref
from types import SimpleNamespace

import pytest

from corepy.dns.constants import TYPE_TXT
from corepy.dns.records import rr
from corepy.net.datagrams import open_batch
from corepy.net.frames import frame
from corepy.net.own_connections import is_own
from corepy.net.sockets import Address, open_tcp
from corepy.net.turns import QUERIES_PER_STEP, QUERIES_PER_TURN
from corepy.plugin import BlockConfig, Handler, Timeouts
from corepy.plugin.handler import EndOfChain
from corepy.server.listen import series_sender, stream_listener, tcp
from corepy.server.listen.chain_task import task_set_aside
from corepy.server.listen.packet_cache import MemoryPool
from corepy.server.listen.query_listener import ListenerContext
from corepy.server.listen.router import ROOT, Router, ZoneRoute
from corepy.testing import query

LABEL = "dns://:53"
PEER, OTHER = ("192.0.2.1", 1053), ("192.0.2.2", 1053)
PENDING = 100  # queries of a connection that wait, beyond which nothing is read


class ClockLoop(asyncio.SelectorEventLoop):
    """An event loop whose time passes only while it has nothing to do, and then at once."""

    class Selector(selectors.DefaultSelector):
        def select(self, timeout=None):
            events = super().select(0)
            assert events or timeout is not None, "nothing is left to wait for"
            self.loop.now += 0 if events else max(timeout or 0, 0)
            return events

    def __init__(self):
        selector = self.Selector()
        selector.loop = self
        self.now = 1000.0
        super().__init__(selector)

    def time(self):
        return self.now


class Transport(asyncio.Transport):
    """The client's end is `sent`, cut into messages; `done` holds (seconds, call) for the rest."""

    def __init__(self, loop, peer=PEER):
        super().__init__({"peername": peer, "sockname": ("127.0.0.1", 53)})
        self.loop, self.began = loop, loop.now
        self.data, self.writes = b"", []
        self.done = []
        self.size = 0
        self.closing = False
        self.is_slow = False  # whether the client takes nothing of what is written
        self.protocol = None

    def _note(self, call):
        self.done.append((round(self.loop.now - self.began, 6), call))

    def write(self, data):
        assert not self.closing
        self.writes.append(data)
        self.data += data
        if self.is_slow:
            self.protocol.pause_writing()

    @property
    def sent(self):
        data, messages = self.data, []
        while data:
            size = 2 + int.from_bytes(data[:2], "big")
            messages.append(data[2:size])
            data = data[size:]
        return messages

    def is_closing(self):
        return self.closing

    def close(self):
        if not self.closing:
            self._note("close")
            self.closing = True
            if not self.size:
                self.loop.call_soon(self.protocol.connection_lost, None)

    def abort(self):
        self._note("abort")
        self.closing, self.size = True, 0
        self.loop.call_soon(self.protocol.connection_lost, None)

    def get_write_buffer_size(self):
        return self.size

    def set_write_buffer_limits(self, high=None, low=None):
        self._note(f"limit {high}")

    def pause_reading(self):
        self._note("pause")

    def resume_reading(self):
        self._note("resume")


class Answers(Handler):
    """`wait.`, `late-drop.` and `stubborn.` wait until the test says so, `size.NUMBER.` is so long,
    `series.` is made by `series`; all else is empty.
    """

    name = "answers"

    def __init__(self):
        self.waiting, self.cancelled = {}, []
        self.calls, self.seconds = 0, 0.0
        self.seen_queries = []
        self.series = lambda request: iter(())
        self.next = EndOfChain(self.name)

    async def serve_dns(self, request):
        self.calls += 1
        labels = request.name.split(".")
        first = labels[0]
        if first in ("wait", "late-drop", "stubborn"):
            future = self.waiting[request.id] = asyncio.get_running_loop().create_future()
            while not future.done():
                try:
                    await (asyncio.shield(future) if first == "stubborn" else future)
                except asyncio.CancelledError:
                    self.cancelled.append(request.id)
                    if first != "stubborn":
                        raise
        if first.endswith("drop"):
            return request.drop()
        if first == "series":
            return request.reply_series(self.series(request))
        answer = (
            [rr(request.name_wire, TYPE_TXT, 60, bytes(int(labels[1])))] if first == "size" else []
        )
        reply = request.reply(answer=answer)
        if first == "keep":
            reply.since = request.received
            reply.deadline = request.received + self.seconds
            reply.hit_counters = (self,)
        return reply

    def count_hits(self, times):
        pass

    def on_hit(self, ident, peer, received):
        self.seen_queries.append((ident, peer, received))


def ask(name="a.test.", ident=0):
    return struct.pack("!H", ident) + query(name, "TXT", rd=0)[2:]


def empty(wire):
    """The whole reply without records."""
    return wire[:2] + b"\x80\x00" + wire[4:]


class Connection(tcp.TCPConnection):
    """A connection that gets data from a test, which is a task, as from the event loop."""

    def data_received(self, data):
        with task_set_aside():
            super().data_received(data)


class Bench:
    def __init__(self, loop, **settings):
        self.loop = loop
        self.handler = Answers()
        context = ListenerContext(LABEL, open_batch(), MemoryPool(1 << 20), wildcard=False)
        self.listener = tcp.TCPListener(open_tcp(Address("127.0.0.1", 0)), context)
        route = ZoneRoute(".", self.handler, None, self.handler)
        router = Router({ROOT: route}, any_class=True, dropped=None)
        config = BlockConfig([])
        config.set(Timeouts(**settings))
        self.listener.swap(router, config)

    def connect(self, peer=PEER):
        connection, transport = Connection(self.listener), Transport(self.loop, peer)
        transport.protocol = connection
        connection.connection_made(transport)
        return connection, transport

    def release(self, *idents):
        for ident in idents or list(self.handler.waiting):
            self.handler.waiting.pop(ident).set_result(None)


def stream(*wires):
    return b"".join(map(frame, wires))


async def turns(count=8):
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.fixture
def run(monkeypatch):
    """Run a coroutine function with a bench of these settings."""

    def with_clock(test, **settings):
        loop = ClockLoop()
        monkeypatch.setattr(tcp, "monotonic", loop.time)

        async def main():
            bench = Bench(loop, **settings)
            try:
                await test(bench)
            finally:
                bench.listener.stop(leave_queue=True)
                for connection in list(bench.listener.connections):
                    connection.abort()
                await turns()
            assert not bench.listener.connections

        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(main())

    return with_clock


# -- streams


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 28, 1000])
def test_queries_are_answered_however_they_are_cut(run, piece):
    async def test(bench):
        connection, transport = bench.connect()
        wires = [ask(f"n{number}.test.", number) for number in range(5)]
        data = stream(*wires)
        for start in range(0, len(data), piece):
            connection.data_received(data[start : start + piece])
        assert transport.sent == [empty(wire) for wire in wires]

    run(test)


def test_replies_to_one_read_are_one_write(run):
    async def test(bench):
        connection, transport = bench.connect()
        wires = [ask("a.test.", number) for number in range(5)]
        connection.data_received(stream(*wires))
        assert transport.writes == [stream(*map(empty, wires))]
        waits = [ask("wait.test.", 10 + number) for number in range(3)]
        connection.data_received(stream(*waits))
        bench.release()
        await turns()
        assert transport.writes[1:] == [stream(*map(empty, waits))]

    run(test)


def test_replies_come_as_they_are_ready(run):
    async def test(bench):
        connection, transport = bench.connect()
        first, second, third = ask("wait.test.", 1), ask("a.test.", 2), ask("wait.test.", 3)
        connection.data_received(stream(first, second, third))
        assert transport.sent == [empty(second)]
        assert not connection.is_idle
        assert {it.request.id for it in bench.listener.waiting()} == {1, 3}
        bench.release(3)
        await turns()
        bench.release(1)
        await turns()
        assert transport.sent == [empty(second), empty(third), empty(first)]
        assert connection.is_idle
        assert transport.done == []

    run(test)


@pytest.mark.pure_form("replaces a method of an object")
def test_a_query_that_cannot_be_answered_costs_only_itself(run, monkeypatch, caplog):
    async def test(bench):
        connection, transport = bench.connect()
        begin = bench.listener.pipeline.begin

        def broken(message, *args):
            if message[1] == 2:
                raise RuntimeError("broken")
            return begin(message, *args)

        monkeypatch.setattr(bench.listener.pipeline, "begin", broken)
        wires = [ask("a.test.", number) for number in (1, 2, 3)]
        connection.data_received(stream(*wires))
        assert transport.sent == [empty(wires[0]), empty(wires[2])]
        assert caplog.messages == [f"a query over TCP to {LABEL} was dropped"]

    run(test)


def test_the_packet_cache_answers_and_shows(run):
    async def test(bench):
        bench.handler.seconds = 60.0
        connection, transport = bench.connect()
        wires = [ask("keep.test.", number) for number in (1, 2, 3)]
        for wire in wires:
            connection.data_received(stream(wire))
            bench.loop.now += 1
        assert transport.sent == list(map(empty, wires))
        assert bench.handler.calls == 1
        assert bench.handler.seen_queries == [(b"\0\2", PEER, 1001.0), (b"\0\3", PEER, 1002.0)]
        bench.loop.now = 1060.0
        connection.data_received(stream(wires[0]))
        assert bench.handler.calls == 2
        bench.listener.close()
        assert not bench.listener.pipeline.packets.entries

    run(test)


# -- dropped queries


def test_a_dropped_query_costs_nothing_but_its_reply(run):
    async def test(bench):
        connection, transport = bench.connect()
        wires = [
            ask("drop.test.", 1), ask("late-drop.test.", 2), ask("a.test.", 3), ask("wait.test.", 4)
        ]  # fmt: skip
        connection.data_received(stream(*wires))
        assert transport.sent == [empty(wires[2])]
        bench.release(2)
        await turns()
        assert {it.request.id for it in bench.listener.waiting()} == {4}
        assert transport.sent == [empty(wires[2])]
        bench.release(4)
        await turns()
        assert transport.sent == [empty(wires[2]), empty(wires[3])]
        assert connection.is_idle
        assert transport.done == []

    run(test)


def test_dropped_queries_leave_their_places_to_others(run):
    async def test(bench):
        connection, transport = bench.connect()
        waits = [ask("late-drop.test.", number) for number in range(PENDING)]
        behind = [ask("a.test.", 1000 + number) for number in range(3)]
        connection.data_received(stream(*waits, *behind))
        await turns()
        assert (transport.sent, transport.done) == ([], [(0, "pause")])
        bench.release(5)
        await turns()
        assert transport.sent == list(map(empty, behind))
        assert transport.done == [(0, "pause"), (0, "resume")]
        bench.release()
        await turns()
        assert transport.sent == list(map(empty, behind))
        assert connection.is_idle

    run(test)


@pytest.mark.parametrize("names", [["drop"], ["late-drop"], ["late-drop", "drop", "late-drop"]])
def test_the_end_of_a_stream_of_dropped_queries(run, names):
    async def test(bench):
        connection, transport = bench.connect()
        connection.data_received(stream(*(ask(f"{it}.test.", n) for n, it in enumerate(names))))
        connection.eof_received()
        bench.release()
        await turns()
        assert (transport.sent, transport.done) == ([], [(0, "close")])

    run(test)


def test_a_connection_whose_queries_are_dropped_is_idle(run):
    async def test(bench):
        connection, transport = bench.connect()
        connection.data_received(stream(ask("drop.test.")))
        await asyncio.sleep(30)
        assert (transport.sent, transport.done) == ([], [(10, "close")])

    run(test)


# -- back-pressure


def test_beyond_so_many_that_wait_nothing_is_read(run):
    async def test(bench):
        connection, transport = bench.connect()
        waits = [ask("wait.test.", number) for number in range(PENDING)]
        connection.data_received(stream(*waits[:-1]))
        assert transport.done == []
        rest = [waits[-1], *(ask("a.test.", 1000 + number) for number in range(3))]
        connection.data_received(stream(*rest))
        assert transport.done == [(0, "pause")]
        assert len(connection.runner.waiting) == PENDING
        await turns()
        assert transport.sent == []
        bench.release(5)
        await turns()
        assert transport.sent == [empty(waits[5]), *map(empty, rest[1:])]
        assert transport.done == [(0, "pause"), (0, "resume")]
        bench.release()
        await turns()
        assert len(transport.sent) == len(waits) + 3

    run(test)


def test_no_more_replies_are_made_at_once_than_the_client_takes(run):
    async def test(bench):
        connection, transport = bench.connect()
        wires = [ask("size.32768.test.", number) for number in range(8)]
        connection.data_received(stream(*wires))
        assert bench.handler.calls == 2  # just more than MAX_OUT
        assert (len(transport.sent), transport.done) == (2, [(0, "pause")])
        assert not connection.is_idle
        connection.pause_writing()
        await turns()
        assert bench.handler.calls == 2
        connection.resume_writing()
        await turns(20)
        assert [reply[:2] for reply in transport.sent] == [wire[:2] for wire in wires]
        assert transport.done == [(0, "pause"), (0, "resume")]
        assert connection.is_idle

    run(test)


def test_a_turn_of_the_event_loop_answers_a_limited_number_of_queries(run):
    async def test(bench):
        connection, transport = bench.connect()
        wires = [ask("a.test.", number) for number in range(300)]
        connection.data_received(stream(*wires))
        seen = [len(transport.sent)]
        while len(transport.sent) < 300:
            await turns(1)
            seen.append(len(transport.sent))
        assert seen == [QUERIES_PER_TURN, 2 * QUERIES_PER_TURN, 300]
        assert transport.sent == [empty(wire) for wire in wires]
        assert transport.done == [(0, "pause"), (0, "resume")]
        assert connection.is_idle

    run(test)


def test_connections_share_the_turns_of_the_event_loop(run):
    async def test(bench):
        flood = [bench.connect() for _ in range(12)]
        queries = stream(*(ask("a.test.", number) for number in range(200)))
        for connection, _ in flood:
            connection.data_received(queries)
        assert [len(transport.sent) for _, transport in flood] == [QUERIES_PER_TURN, *[0] * 11]
        late, transport = bench.connect()
        late.data_received(stream(ask("a.test.", 1)))
        await turns(1)
        first, share = QUERIES_PER_TURN + QUERIES_PER_STEP, QUERIES_PER_STEP
        assert [len(it.sent) for _, it in flood] == [first, *[share] * 3, *[0] * 8]
        await turns(2)
        assert [len(it.sent) for _, it in flood] == [first, *[share] * 11]
        assert transport.sent == []
        await turns(1)
        assert transport.sent == [empty(ask("a.test.", 1))]
        await turns(20)
        assert [len(transport.sent) for _, transport in flood] == [200] * 12

    run(test)


def test_a_connection_that_is_lost_while_it_waits_takes_no_turn(run):
    async def test(bench):
        first, second = (bench.connect() for _ in range(2))
        for connection, _ in (first, second):
            connection.data_received(stream(*(ask("a.test.", it) for it in range(200))))
        second[0].connection_lost(None)
        await turns(10)
        assert [len(transport.sent) for _, transport in (first, second)] == [200, 0]
        assert bench.handler.calls == 200

    run(test)


def test_the_end_of_a_stream_that_waits_for_its_turn(run):
    async def test(bench):
        connection, transport = bench.connect()
        connection.data_received(stream(*(ask("a.test.", number) for number in range(200))))
        assert connection.eof_received() is True
        await turns(5)
        assert (len(transport.sent), transport.done[-1][1]) == (200, "close")

    run(test)


def test_few_queries_a_turn_are_counted_together(run):
    async def test(bench):
        for _ in range(QUERIES_PER_TURN):
            connection, transport = bench.connect()
            connection.data_received(stream(*(ask("a.test.", it) for it in range(3))))
            assert len(transport.sent) == 3
            await turns(1)

    run(test)


@pytest.mark.parametrize(("more", "calls"), [(0, 3), (1, 2)])
def test_how_many_bytes_of_replies_are_made_before_the_client_reads(run, more, calls):
    async def test(bench):
        connection, transport = bench.connect()
        overhead = len(ask("size.11111.test.")) + 12  # of a record whose owner is a pointer
        sizes = [32768 - overhead, 32768 - overhead + more]
        connection.data_received(stream(*(ask(f"size.{it}.test.") for it in sizes), ask()))
        assert sum(map(len, transport.sent[:2])) == 65536 + more
        assert bench.handler.calls == calls
        await turns()
        assert len(transport.sent) == 3

    run(test)


@pytest.mark.parametrize("taken", [4.9, None])
def test_a_client_that_takes_nothing_is_cut_off(run, taken):
    async def test(bench):
        connection, transport = bench.connect()
        connection.data_received(stream(ask()))
        connection.pause_writing()
        assert transport.done == [(0, "pause")]
        if taken:
            await asyncio.sleep(taken)
            connection.resume_writing()
            assert transport.done == [(0, "pause"), (4.9, "resume")]
            await asyncio.sleep(5)
            assert len(transport.done) == 2
        else:
            await asyncio.sleep(4.9)
            assert len(transport.done) == 1
            await asyncio.sleep(0.2)
            assert transport.done == [(0, "pause"), (5, "abort")]

    run(test)


# -- ends


@pytest.mark.parametrize(
    ("asked", "closed"),
    [
        ([], 3),
        ([0], 10),
        ([2.9], 12.9),
        ([1, 2], 12),
        ([1, 10.5], 20.5),
        ([2.75, 3.5], 13.5),  # 0.75 s are left when the connection is looked at
        ([2.75, 2.8125], 12.8125),
    ],
)
def test_an_idle_connection_is_closed(run, asked, closed):
    async def test(bench):
        connection, transport = bench.connect()
        for at in asked:
            await asyncio.sleep(at - (bench.loop.now - 1000))
            connection.data_received(stream(ask()))
        await asyncio.sleep(60)
        assert transport.done == [(closed, "close")]
        assert bench.listener.connections == {}

    run(test)


def test_half_a_query_is_none(run):
    async def test(bench):
        connection, transport = bench.connect()
        await asyncio.sleep(2)
        connection.data_received(stream(ask())[:-1])
        await asyncio.sleep(60)
        assert transport.done == [(3, "close")]

    run(test)


def test_a_connection_that_waits_is_not_idle(run):
    async def test(bench):
        connection, transport = bench.connect()
        connection.data_received(stream(ask("wait.test.")))
        await asyncio.sleep(25)
        assert transport.done == []
        bench.release()
        await asyncio.sleep(60)
        ((seconds, call),) = transport.done
        assert (call, 35 <= seconds <= 35.2) == ("close", True)

    run(test)


@pytest.mark.parametrize(("asked", "answered"), [(2, 2), (3, 3), (4, 3)])
def test_a_connection_ends_after_its_number_of_queries(run, asked, answered):
    async def test(bench):
        connection, transport = bench.connect()
        wires = [ask("wait.test." if number == 1 else "a.test.", number) for number in range(asked)]
        connection.data_received(stream(wires[0]))
        connection.data_received(stream(*wires[1:]))
        assert transport.done == []
        bench.release()
        await turns()
        assert sorted(transport.sent) == sorted(map(empty, wires[:answered]))
        assert transport.done == ([(0, "close")] if answered == 3 else [])

    run(test, max_queries=3)


@pytest.mark.parametrize("waits", [False, True])
def test_the_end_of_the_stream(run, waits):
    async def test(bench):
        connection, transport = bench.connect()
        wire = ask("wait.test." if waits else "a.test.")
        connection.data_received(stream(wire))
        assert connection.eof_received() is waits  # whether the transport stays open
        assert transport.done == ([] if waits else [(0, "close")])
        await turns()
        bench.release()
        await turns()
        assert transport.sent == [empty(wire)]
        assert transport.done == [(0, "close")]

    run(test)


def test_the_end_of_a_stream_with_more_than_is_answered_at_once(run):
    async def test(bench):
        connection, transport = bench.connect()
        wires = [ask("size.40000.test.", number) for number in range(7)]
        connection.data_received(stream(*wires))
        assert connection.eof_received()
        await turns(20)
        assert [reply[:2] for reply in transport.sent] == [wire[:2] for wire in wires]
        assert transport.done[-1] == (0, "close")

    run(test)


def test_a_client_that_leaves_ends_its_chains(run):
    async def test(bench):
        connection, transport = bench.connect()
        connection.data_received(stream(ask("wait.test.", 1), ask("wait.test.", 2)))
        connection.pause_writing()
        transport.closing = True
        connection.connection_lost(None)
        await turns()
        assert sorted(bench.handler.cancelled) == [1, 2]
        assert bench.listener.connections == {}
        await asyncio.sleep(60)
        assert (transport.sent, transport.done) == ([], [(0, "pause")])

    run(test)


@pytest.mark.parametrize(("size", "done"), [(0, ["close"]), (9, ["close", "abort"])])
def test_closing_gives_the_client_time_to_take_what_is_written(run, size, done):
    async def test(bench):
        connection, transport = bench.connect()
        transport.size = size
        connection.close()
        await asyncio.sleep(4.9)
        assert transport.done == [(0, "close")]
        assert bool(bench.listener.connections) is bool(size)
        await asyncio.sleep(60)
        assert transport.done == [(5 * number, call) for number, call in enumerate(done)]

    run(test)


def test_closing_while_the_client_is_slow_leaves_it_the_time_it_has(run):
    async def test(bench):
        connection, transport = bench.connect()
        transport.size = 9
        connection.pause_writing()
        await asyncio.sleep(2)
        connection.close()
        connection.resume_writing()
        await asyncio.sleep(60)
        assert transport.done == [(0, "pause"), (2, "close"), (5, "abort")]

    run(test)


@pytest.mark.parametrize(
    ("names", "size", "call"), [([], 0, "close"), ([], 1, "abort"), (["wait.test."], 0, "abort")]
)
def test_making_room(run, names, size, call):
    async def test(bench):
        connection, transport = bench.connect()
        connection.data_received(stream(*map(ask, names)))
        transport.size = size
        connection.make_room()
        await turns()
        assert transport.done == [(0, call)]

    run(test)


def test_a_reply_for_a_connection_that_is_closed(run):
    async def test(bench):
        connection, transport = bench.connect()
        connection.data_received(stream(ask("wait.test.", 1), ask("wait.test.", 2)))
        transport.size = 9
        connection.close()
        bench.release(1)
        await turns()
        assert (transport.sent, transport.done) == ([], [(0, "close")])

    run(test)


# -- stopping


def closed_at(transport):
    """The seconds after which a connection was closed, of virtual time."""
    ((seconds, call),) = transport.done
    assert call == "close"
    return seconds


def test_a_stopping_server_answers_what_was_sent(run):
    async def test(bench):
        connection, transport = bench.connect()
        waits, (_, second), wires = bench.connect(), bench.connect(), [ask("a.test.", 1)]
        bench.listener.stop()
        bench.listener.stop()  # a second time is none
        await asyncio.sleep(0.15)
        connection.data_received(stream(*wires))
        waits[0].data_received(stream(ask("wait.test.", 2)))
        await asyncio.sleep(0.1)
        assert (transport.sent, transport.done) == ([empty(wires[0])], [])
        assert closed_at(second) == pytest.approx(0.2, abs=0.03)
        _, late = bench.connect()
        await asyncio.sleep(1)
        assert closed_at(transport) == pytest.approx(0.35, abs=0.03)
        assert closed_at(late) == pytest.approx(0.2, abs=0.03)
        assert waits[1].done == []
        assert not bench.listener.is_drained
        bench.release()
        await asyncio.sleep(1)
        assert waits[1].sent == [empty(ask("wait.test.", 2))]
        assert [call for _, call in waits[1].done] == ["close"]
        assert bench.listener.is_drained

    run(test)


def test_a_stopping_server_checks_a_connection_no_more_for_being_idle(run):
    async def test(bench):
        connection, transport = bench.connect()
        connection.start_clock()
        idle = connection._timer
        bench.listener.stop()
        assert idle.cancelled()
        await asyncio.sleep(1)
        assert closed_at(transport) == pytest.approx(0.2, abs=1e-6)

    run(test)


@pytest.mark.parametrize("options", [{}, {"leave_queue": False}, {"leave_queue": True}])
def test_a_stopping_server_accepts_what_has_connected(run, options):
    """The kernel has accepted it for the server; with `leave_queue` it is for the next process."""

    async def test(bench):
        sock, leave_queue = bench.listener.sock, options.get("leave_queue", False)
        bench.listener.start()
        with socket.create_connection(sock.getsockname()):
            bench.listener.stop(**options)
            assert bench.listener.is_drained is leave_queue
            await turns(20)
            assert len(bench.listener.connections) == (0 if leave_queue else 1)
            assert sock.fileno() == -1

    run(test)


def test_a_paused_listener_leaves_connections_to_another_process(run):
    async def test(bench):
        address = bench.listener.sock.getsockname()
        with contextlib.ExitStack() as cleanup:
            for change, count in [("start", 1), ("pause", 1), ("start", 3)]:
                getattr(bench.listener, change)()
                cleanup.enter_context(socket.create_connection(address))
                await asyncio.sleep(0.01)
                await turns(20)
                assert len(bench.listener.connections) == count

    run(test)


def test_a_stopping_server_closes_a_connection_as_soon_as_it_is_quiet(run):
    async def test(bench):
        connection, transport = bench.connect()
        bench.listener.stop()
        await asyncio.sleep(0.0625)
        connection.data_received(stream(ask()))
        await asyncio.sleep(1)
        assert closed_at(transport) == pytest.approx(0.2625, abs=1e-6)

    run(test)


def test_closing_the_listener_sends_what_is_ready(run):
    async def test(bench):
        connection, transport = bench.connect()
        wire = ask("wait.test.")
        connection.data_received(stream(wire))
        bench.release()
        bench.loop.call_soon(bench.listener.close)  # after the chain, before its reply is written
        await turns()
        assert (transport.sent, transport.done) == ([empty(wire)], [(0, "close")])
        assert (bench.listener.draining, bench.listener.sock.fileno()) == (True, -1)

    run(test)


# -- chains that survive their connection


@pytest.mark.parametrize(("ends", "forgotten"), [(0.5, 1), (1.5, 2), (3.25, 4)])
def test_queries_of_a_lost_connection_keep_their_time_limit(run, ends, forgotten):
    """Once a second the listener looks whether any are left."""

    async def test(bench):
        connection, transport = bench.connect()
        other, _ = bench.connect()
        transport.closing = True
        connection.data_received(stream(ask("stubborn.test.", 1)))
        connection.connection_lost(None)
        other.connection_lost(None)
        await asyncio.sleep(0.25)
        assert bench.handler.cancelled == [1]
        assert {it.request.id for it in bench.listener.waiting()} == {1}
        assert bench.listener._lost == {connection.runner}
        await asyncio.sleep(ends - 0.25)
        bench.release()
        await turns()
        assert bench.listener.waiting() == set()
        await asyncio.sleep(forgotten - ends - 0.01)
        assert bench.listener._lost == {connection.runner}
        await asyncio.sleep(0.02)
        assert bench.listener._lost == set()
        assert transport.sent == []

    run(test)


# -- replies of several messages


def messages(*sizes):
    """A function that yields a reply for each size."""

    def make(request):
        for size in sizes:
            yield request.reply(answer=[rr(request.name_wire, TYPE_TXT, 60, bytes(size))])

    return make


LIMITS = [(0, "limit 0"), (0, "limit None")]


def sizes_of(transport):
    wire = ask("series.test.")
    return [len(it) - len(wire) - 12 for it in transport.sent]


def test_messages_of_two_series_follow_each_other(run):
    async def test(bench):
        connection, transport = bench.connect()
        bench.handler.series = messages(1, 2, 3)
        connection.data_received(stream(ask("series.test.", 1), ask("series.test.", 2), ask()))
        assert transport.sent == [empty(ask())]
        assert not connection.is_idle
        await turns(30)
        assert [it[1] for it in transport.sent] == [0, 1, 1, 1, 2, 2, 2]
        assert sizes_of(transport)[1:] == [1, 2, 3, 1, 2, 3]
        assert transport.writes[1:] == [frame(it) for it in transport.sent[1:]]
        assert (transport.done, connection.is_idle) == (LIMITS * 2, True)

    run(test)


def test_a_message_is_made_when_the_client_has_taken_the_one_before(run):
    async def test(bench):
        connection, transport = bench.connect()
        bench.handler.series, transport.is_slow = messages(1, 2, 3), True
        connection.data_received(stream(ask("series.test.", 1)))
        for count in (1, 2, 3):
            await turns(20)
            assert sizes_of(transport) == [1, 2, 3][:count]
            await asyncio.sleep(4.9)
            connection.resume_writing()
        await turns(20)
        assert connection.is_idle
        connection.resume_writing()  # again, for nothing
        assert [call for _, call in transport.done] == [
            "limit 0", *["pause", "resume"] * 3, "limit None"
        ]  # fmt: skip

    run(test)


def test_a_client_that_does_not_take_a_message_is_cut_off(run):
    async def test(bench):
        connection, transport = bench.connect()
        bench.handler.series, transport.is_slow = messages(1, 2, 3), True
        connection.data_received(stream(ask("series.test.", 1)))
        await asyncio.sleep(6)
        assert sizes_of(transport) == [1]
        assert transport.done == [(0, "limit 0"), (0, "pause"), (5, "abort")]
        assert bench.listener.waiting() == set()

    run(test)


def test_a_client_that_takes_a_message_of_a_series_that_was_cancelled(run):
    async def test(bench):
        connection, transport = bench.connect()
        bench.handler.series, transport.is_slow = messages(1, 2, 3), True
        connection.data_received(stream(ask("series.test.", 1)))
        await turns()
        connection.runner.cancel()
        connection.resume_writing()
        await turns(20)
        assert sizes_of(transport) == [1]
        assert [call for _, call in transport.done] == [
            "limit 0", "pause", "resume", "limit None", "close"
        ]  # fmt: skip

    run(test)


def test_a_series_that_breaks_closes_the_connection_after_what_is_ready(run):
    async def test(bench):
        connection, transport = bench.connect()

        def breaks(request):
            yield request.reply()
            connection.data_received(stream(ask("a.test.", 7)))
            raise ValueError("broken")

        bench.handler.series = breaks
        connection.data_received(stream(ask("series.test.", 1)))
        await turns(20)
        assert transport.sent == [empty(ask("series.test.", 1)), empty(ask("a.test.", 7))]
        assert transport.done == [*LIMITS, (0, "close")]

    run(test)


def test_a_series_without_a_message_is_servfail(run):
    async def test(bench):
        connection, transport = bench.connect()
        wire = ask("series.test.", 1)
        connection.data_received(stream(wire))
        await turns(20)
        assert transport.sent == [wire[:2] + b"\x80\2" + wire[4:]]
        assert (transport.done, connection.is_idle) == (LIMITS, True)

    run(test)


def test_a_series_for_a_connection_that_is_closing(run):
    async def test(bench):
        connection, transport = bench.connect()
        bench.handler.series = messages(1)
        transport.size = 9
        connection.data_received(stream(ask("series.test.", 1)))
        connection.close()
        await turns(20)
        assert (transport.sent, transport.done) == ([], [(0, "close")])
        assert bench.listener.waiting() == set()

    run(test)


def test_the_event_loop_does_other_work_between_two_messages(run):
    async def test(bench):
        connection, transport = bench.connect()
        bench.handler.series = messages(1, 2, 3, 4)
        connection.data_received(stream(ask("series.test.", 1)))
        seen = []
        for _ in range(12):
            await turns(1)
            seen.append(len(transport.sent))
        steps = {new - old for old, new in itertools.pairwise(seen)}
        assert (seen[-1], steps) == (4, {0, 1})

    run(test)


def clocks(bench):
    """When the time limit of each series began to run, by the ID of its query."""
    return {it.request.id: it.request.received for it in bench.listener.waiting()}


def test_the_time_limit_runs_only_while_a_message_is_made(run, monkeypatch):
    async def test(bench):
        monkeypatch.setattr(series_sender, "monotonic", bench.loop.time)

        async def slow(request):
            try:
                for _ in range(2):
                    await asyncio.sleep(5)
                    yield request.reply()
            finally:
                await asyncio.sleep(5)

        connection, transport = bench.connect()
        bench.handler.series = slow
        connection.data_received(stream(ask("series.test.", 1), ask("series.test.", 2)))
        await asyncio.sleep(2)
        assert clocks(bench) == {1: 1000.0, 2: math.inf}  # the second waits for the first
        transport.is_slow = True
        await asyncio.sleep(4)
        assert (len(transport.sent), clocks(bench)) == (1, {1: math.inf, 2: math.inf})
        transport.is_slow = False
        await asyncio.sleep(1)
        connection.resume_writing()
        await asyncio.sleep(1)
        assert clocks(bench) == {1: 1007.0, 2: math.inf}
        await asyncio.sleep(5)
        assert clocks(bench) == {1: 1012.0, 2: math.inf}  # it is being closed
        await asyncio.sleep(5)
        assert clocks(bench) == {2: 1017.0}
        await asyncio.sleep(20)
        assert (len(transport.sent), clocks(bench)) == (4, {})

    run(test)


def test_a_connection_that_closes_while_a_message_is_made(run):
    async def test(bench):
        connection, transport = bench.connect()

        def closes(request):
            yield request.reply()
            transport.size = 9
            connection.close()
            yield request.reply()

        bench.handler.series = closes
        connection.data_received(stream(ask("series.test.", 1)))
        await turns(20)
        assert transport.sent == [empty(ask("series.test.", 1))]
        assert [call for _, call in transport.done] == ["limit 0", "close"]
        assert bench.listener.waiting() == set()

    run(test)


@pytest.mark.parametrize("kind", ["aclose", "close", "both", "none"])
def test_how_an_iterator_of_messages_is_closed(kind):
    calls = []

    async def aclose():
        calls.append("aclose")

    methods = {"aclose": aclose, "close": lambda: calls.append("close")}
    chosen = methods if kind == "both" else {it: methods[it] for it in methods if it == kind}
    asyncio.run(series_sender._close(SimpleNamespace(**chosen)))
    assert calls == {"both": ["aclose"], "none": []}.get(kind, [kind])


def test_a_connection_is_idle_since_the_last_message(run):
    async def test(bench):
        async def slow(request):
            for _ in range(2):
                await asyncio.sleep(5)
                yield request.reply()

        connection, transport = bench.connect()
        bench.handler.series = slow
        connection.data_received(stream(ask("series.test.", 1)))
        await asyncio.sleep(60)
        assert len(transport.sent) == 2
        assert transport.done == [(0, "limit 0"), (10, "limit None"), (20, "close")]

    run(test)


# -- too many


@pytest.mark.parametrize(
    ("limit", "most", "of_one"),
    [(0, 1, 1), (8, 1, 1), (16, 2, 1), (32, 4, 2), (80, 10, 5), (1 << 20, 4000, 2000)],
)
def test_how_many_connections_there_may_be(run, monkeypatch, limit, most, of_one):
    monkeypatch.setattr(stream_listener, "descriptor_limit", lambda: limit)

    async def test(bench):
        for number in range(of_one):
            bench.connect(("192.0.2.1", number))
        assert len(bench.listener.connections) == of_one
        bench.connect(PEER)
        await turns()
        assert len(bench.listener.connections) == of_one
        for number in range(most - of_one):
            bench.connect((f"198.51.{number >> 8}.{number & 255}", 53))
        await turns()
        assert len(bench.listener.connections) == most
        bench.connect(OTHER)
        await turns()
        assert len(bench.listener.connections) == most

    run(test)


def test_the_server_s_own_questions_do_not_count(run, monkeypatch):
    monkeypatch.setattr(stream_listener, "descriptor_limit", lambda: 8)
    monkeypatch.setattr(stream_listener, "is_own", lambda peer: peer == OTHER)
    assert not is_own(PEER)

    async def test(bench):
        _, first = bench.connect()
        bench.connect(OTHER)
        bench.connect(OTHER)
        await turns()
        assert (len(bench.listener.connections), first.done) == (3, [])

    run(test)


def test_a_connection_that_has_gone_is_not_kept(run):
    async def test(bench):
        connection, transport = bench.connect()
        connection.data_received(stream(ask()))
        connection.close()
        await turns()
        kept = weakref.ref(connection)
        del connection, transport
        gc.collect()
        assert kept() is None

    run(test)


def test_a_connection_that_has_gone_leaves_its_seat(run, monkeypatch):
    monkeypatch.setattr(stream_listener, "descriptor_limit", lambda: 8)

    async def test(bench):
        connection, transport = bench.connect()
        connection.close()
        await turns()
        _, second = bench.connect(OTHER)
        await turns()
        assert (transport.done, second.done) == ([(0, "close")], [])

    run(test)
