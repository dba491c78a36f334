"""Connections to one upstream without a network: what is received is put into their buffer."""

import asyncio
import ssl
from types import SimpleNamespace

import pytest

from corepy.net.frames import frame
from corepy.plugin import Pending
from corepy_forward import metrics
from corepy_forward.streams import Stream
from corepy_forward.targets import Target

REPLY = b"\x81\x80\0\1" + bytes(6)
FORCED = {"force_tcp": True, "max_connect_attempts": 1}


class Transport:
    """What a connection calls of its transport."""

    def __init__(self):
        self.aborted = 0
        self.written = b""

    def abort(self):
        self.aborted += 1

    def write(self, data):
        self.written += data


def only(bench):
    """Return the only connection to the first upstream."""
    (stream,) = bench.upstreams[0].streams._streams
    return stream


def receive(stream, *messages):
    data = b"".join(map(frame, messages))
    stream.get_buffer(-1)[: len(data)] = data
    stream.buffer_updated(len(data))


def reply_to(ident, exchange):
    return ident + REPLY + exchange.question


def test_what_is_dropped_is_counted(on_bench):
    async def test(bench):
        to = bench.upstreams[0].address
        counters = [metrics.DROPPED.labels(to, reason) for reason in ("id", "question")]
        before = [counter.value for counter in counters]
        one, two = bench.ask("a"), bench.ask("b")
        stream = only(bench)
        first, second = stream.pending
        receive(stream, bytes((first[0] ^ 1, first[1] ^ (first[1] == second[1]))) + REPLY)
        receive(stream, first + REPLY + two.question)
        assert [counter.value for counter in counters] == [each + 1 for each in before]
        assert list(stream.pending) == [second]
        assert (one.done, one.reply, two.done) == (True, None, False)
        receive(stream, reply_to(second, two))
        assert stream.pending == {}
        assert two.reply is not None
        await bench.turn()

    on_bench(test, **FORCED)


def test_a_reply_to_another_question_does_not_mean_that_tcp_is_dead(on_bench):
    async def test(bench):
        exchange = bench.ask("a")
        bench.loop.now += 0.25
        stream = only(bench)
        (ident,) = stream.pending
        receive(stream, ident + REPLY + b"\1b\0\0\1\0\1")
        assert exchange.reason.endswith(": reply to another question")
        assert not bench.upstreams[0].tcp.is_dead(bench.loop.now)
        await bench.turn()

    on_bench(test, **FORCED)


def test_clients_go_on_as_soon_as_their_reply_is_read(on_bench):
    async def test(bench):
        exchange = bench.ask("a")
        pending = Pending(bench.pool.wakeups, lambda _reply: exchange.reply)
        exchange.waiters.append(pending)
        results: list[object] = []
        pending.deliver(results.append)
        stream = only(bench)
        receive(stream, reply_to(next(iter(stream.pending)), exchange))
        assert results == [pending]
        await bench.turn()

    on_bench(test, **FORCED)


@pytest.mark.parametrize(
    ("heard", "is_connected", "aborted"), [(-0.5, True, 1), (0.0, True, 0), (-0.5, False, 0)]
)
def test_a_query_that_is_given_up(on_bench, heard, is_connected, aborted):
    """The connection ends if nothing has arrived since the query."""

    async def test(bench):
        (attempt,) = bench.ask("a")._open
        stream, transport = only(bench), Transport()
        stream._heard = attempt.sent + heard
        stream._transport = transport if is_connected else None
        stream.forget(attempt)
        assert (stream.pending, transport.aborted) == ({}, aborted)
        stream._transport = None
        await bench.turn()

    on_bench(test, **FORCED)


def test_closing_ends_a_connection_and_what_becomes_one(on_bench):
    async def test(bench):
        bench.ask("a")
        upstream, stream, transport = bench.upstreams[0], only(bench), Transport()
        dialling = stream.dialling
        stream._transport = transport
        bench.pool.close()
        assert (stream.pending, transport.aborted, upstream.streams.connections) == ({}, 1, 0)
        await bench.turn()
        assert dialling.cancelled()

    on_bench(test, **FORCED)


def test_a_connection_that_ends_before_its_queries_are_written(on_bench):
    async def test(bench):
        bench.ask("a")
        stream, transport = only(bench), Transport()
        stream.dialling.cancel()
        stream._transport = transport
        exchange = bench.ask("b")
        stream.connection_lost(None)
        assert not stream.is_connected
        assert stream.pending == {}
        assert exchange._open[0].link is not stream
        await bench.turn(1)
        assert transport.written == b""

    on_bench(test, **FORCED)


def test_a_connection_that_cannot_be_made(on_bench):
    async def test(bench):
        exchange = bench.ask("a")
        stream = only(bench)
        stream.dialling.cancel()
        stream.refused("x")
        assert (stream.pending, bench.upstreams[0].streams.connections) == ({}, 0)
        assert (exchange.done, exchange.reason.endswith(": x")) == (True, True)
        await bench.turn()

    on_bench(test, **FORCED)


def test_the_last_use_of_a_connection(on_bench):
    async def test(bench):
        bench.ask("a")
        stream = only(bench)
        bench.loop.now += 5.0
        bench.ask("b")
        assert (only(bench), stream.last_used) == (stream, bench.loop.now)
        await bench.turn()

    on_bench(test, **FORCED)


def test_uses_of_connections_are_counted(on_bench):
    async def test(bench):
        upstream = bench.upstreams[0]
        hits, misses = upstream.connection_counters("tcp")
        before = hits.value, misses.value
        found = []
        for name in "abc":
            bench.ask(name)
            found.append((hits.value - before[0], misses.value - before[1]))
            if name == "b":
                upstream.tidy(bench.loop.now)
        assert found == [(0, 1), (1, 1), (2, 1)]
        assert upstream.streams.connections == 1
        await bench.turn()

    on_bench(test, **FORCED)


@pytest.mark.parametrize(("most", "connections"), [(1, 1), (2, 2)])
def test_an_old_connection_is_used_if_there_may_be_no_other(on_bench, most, connections):
    async def test(bench):
        bench.ask("a")
        bench.loop.now += 61.0
        bench.upstreams[0].tidy(bench.loop.now)
        bench.ask("b")
        assert bench.upstreams[0].streams.connections == connections
        await bench.turn()

    on_bench(test, max_age=60.0, max_idle_conns=most, read_timeout=100.0, **FORCED)


def test_a_young_connection_is_preferred_to_one_with_fewer_queries(on_bench):
    async def test(bench):
        pool = bench.upstreams[0].streams
        old, young = Stream(pool, 60.0), Stream(pool, 100.0)
        pool._streams += (old, young)
        bench.loop.now += 61.0
        young.pending[b"ID"] = bench.ask("a")._open[0]
        pool._current = None
        assert pool._choose() is young
        await bench.turn()

    on_bench(test, **FORCED)


def test_a_connection_that_is_being_made_is_not_idle(on_bench):
    async def test(bench):
        (attempt,) = bench.ask("a")._open
        upstream, stream = bench.upstreams[0], only(bench)
        upstream.cancel(attempt)
        assert stream.pending == {}
        upstream.tidy(bench.loop.now + 1000.0)
        assert only(bench) is stream
        stream.dialling.cancel()
        stream.dialling = None
        upstream.tidy(bench.loop.now + 1000.0)
        assert upstream.streams.connections == 0
        await bench.turn()

    on_bench(test, **FORCED)


@pytest.mark.parametrize(
    ("options", "server_name", "transport", "name"),
    [
        ({}, "", "dns", None),
        ({}, "", "tls", "192.0.2.1"),
        ({}, "a.example", "tls", "a.example"),
        ({"tls_servername": "b.example"}, "", "tls", "b.example"),
        ({"tls_servername": "b.example"}, "a.example", "tls", "b.example"),
        ({"source_address": "192.0.2.9"}, "", "dns", None),
    ],
)
def test_how_a_connection_is_made(on_bench, options, server_name, transport, name):
    """The kernel chooses the port of the source address."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    async def test(bench):
        made = []

        async def create_connection(factory, host, port, **arguments):
            made.append((factory(), host, port, arguments))
            raise ConnectionRefusedError(111, "injected")

        bench.loop.create_connection = create_connection
        upstream = bench.pool._open(Target("192.0.2.1", 53, transport, server_name))
        stream = Stream(upstream.streams, 60.0)
        await upstream.streams._connect(stream)
        source = options.get("source_address")
        arguments = {
            "ssl": upstream.streams.sessions if name else None,
            "server_hostname": name,
            "local_addr": (source, 0) if source else None,
        }
        assert made == [(stream, "192.0.2.1", 53, arguments)]
        assert (arguments["ssl"] is None) == (name is None)
        assert upstream.streams._problem == "connect: connection refused"
        upstream.close()

    on_bench(test, tls_contexts={"tls": context}, **options)


@pytest.mark.pure_form("has a stand-in for an object of a compiled class")
def test_flushes_of_one_turn_are_one(on_bench):
    async def test(bench):
        bench.ask("a")
        stream, transport = only(bench), Transport()
        stream.dialling.cancel()
        stream._transport = transport
        soon: list[object] = []
        stream._pool = SimpleNamespace(
            upstream=SimpleNamespace(loop=SimpleNamespace(call_soon=soon.append))
        )
        for _ in range(3):
            stream._schedule_flush()
        assert soon == [stream._flush]
        stream._flush()
        assert transport.written == frame(
            next(iter(stream.pending)) + b"\1\0\0\1" + bytes(6) + b"\1a\0\0\1\0\1"
        )
        stream._schedule_flush()
        assert soon == [stream._flush] * 2
        stream._pool = bench.upstreams[0].streams
        stream._transport = None
        await asyncio.sleep(0)

    on_bench(test, **FORCED)
