"""Queries and replies over connections of the bench, whose clock is in the test's hand."""

import asyncio
import contextlib
import socket
import struct

import pytest


async def accepted(bench):
    """Return the next connection to the first upstream; time stands still meanwhile."""
    for _ in range(100_000):
        try:
            connection = bench.sinks[0].tcp.accept()[0]
        except BlockingIOError:
            await asyncio.sleep(0)
        else:
            connection.setblocking(False)
            return connection
    raise AssertionError("nobody connects")


async def frames(connection, count):
    """Return so many messages that arrive on a connection."""
    data, found = b"", list[bytes]()
    for _ in range(100_000):
        with contextlib.suppress(BlockingIOError):
            data += connection.recv(65536)
        while len(data) >= 2 and len(data) >= 2 + (size := struct.unpack("!H", data[:2])[0]):
            found.append(data[2 : 2 + size])
            data = data[2 + size :]
        if len(found) >= count:
            assert data == b""
            return found
        await asyncio.sleep(0)
    raise AssertionError(f"{len(found)} messages, not {count}")


def reply_to(wire, *, question=None, flags=b"\x81\x80"):
    """Return the frame of a reply without records."""
    end = wire.index(b"\0", 12) + 5
    message = wire[:2] + flags + b"\0\1" + bytes(6) + (question or wire[12:end])
    return struct.pack("!H", len(message)) + message


async def ended(exchange):
    for _ in range(100_000):
        if exchange.done:
            return
        await asyncio.sleep(0)
    raise AssertionError("the exchange waits for the clock")


def test_queries_on_one_connection_one_after_the_other(on_bench):
    async def test(bench):
        bench.sinks[0].tcp.listen()
        first = bench.ask("n0")
        connection = await accepted(bench)
        (wire,) = await frames(connection, 1)
        assert wire[2:] == first.body
        connection.send(reply_to(wire))
        await ended(first)
        for number in range(1, 4):
            exchange = bench.ask(f"n{number}")
            (wire,) = await frames(connection, 1)
            assert wire[2:] == exchange.body
            connection.send(reply_to(wire))
            await ended(exchange)
            assert exchange.reply is not None
        (stream,) = bench.upstreams[0].streams._streams
        sock = stream._transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 1000
        connection.close()

    on_bench(test, force_tcp=True)


def test_queries_of_one_turn_and_their_replies_in_another_order(on_bench):
    async def test(bench):
        bench.sinks[0].tcp.listen()
        exchanges = [bench.ask(f"n{number}") for number in range(10)]
        connection = await accepted(bench)
        wires = await frames(connection, 10)
        assert [wire[2:] for wire in wires] == [each.body for each in exchanges]
        assert len({wire[:2] for wire in wires}) == 10
        data = b"".join(reply_to(wire) for wire in reversed(wires))
        connection.send(data[:100])
        await bench.turn(20)
        connection.send(data[100:])
        for exchange in exchanges:
            await ended(exchange)
            assert exchange.reply is not None
            end = 12 + len(exchange.question)
            assert exchange.reply.wire[12:end] == exchange.question
        connection.close()

    on_bench(test, force_tcp=True)


@pytest.mark.parametrize("size", [511, 512, 513])
def test_sizes_of_queries(on_bench, size):
    """Up to 511 bytes their length comes from a table."""

    async def test(bench):
        bench.sinks[0].tcp.listen()
        question = b"\1a\0\0\1\0\1"
        data = size - 12 - len(question) - 11 - 4
        opt = b"\0\0\x29\4\xd0\0\0\0\0" + struct.pack("!HHH", data + 4, 65001, data) + bytes(data)
        body = b"\1\0\0\1\0\0\0\0\0\1" + question + opt
        exchange = bench.pool.begin(question, body, for_tcp=False)
        connection = await accepted(bench)
        (wire,) = await frames(connection, 1)
        assert (len(wire), wire[2:]) == (size, body)
        connection.send(reply_to(wire))
        await ended(exchange)
        connection.close()

    on_bench(test, force_tcp=True)


def test_another_question_and_an_unknown_id(on_bench):
    async def test(bench):
        bench.sinks[0].tcp.listen()
        one, two = bench.ask("a"), bench.ask("b")
        connection = await accepted(bench)
        first, second = await frames(connection, 2)
        unknown = bytes((first[0] ^ 1, first[1])) + first[2:]
        while unknown[:2] == second[:2]:
            unknown = bytes((unknown[0] ^ 2, unknown[1])) + first[2:]
        connection.send(reply_to(unknown))
        connection.send(reply_to(first, question=b"\1x\0\0\1\0\1"))
        await ended(one)
        assert one.reply is None
        assert one.reason.endswith(": reply to another question")
        assert not two.done
        connection.send(reply_to(second))
        await ended(two)
        assert two.reply is not None
        connection.close()

    on_bench(test, force_tcp=True, max_connect_attempts=1)


def test_what_waits_when_a_connection_ends_is_sent_over_another(on_bench):
    async def test(bench):
        bench.sinks[0].tcp.listen()
        one, two = bench.ask("a"), bench.ask("b")
        bodies = [one.body, two.body]
        for _ in range(2):
            connection = await accepted(bench)
            assert [wire[2:] for wire in await frames(connection, 2)] == bodies
            connection.close()
        connection = await accepted(bench)
        first, _ = await frames(connection, 2)
        connection.send(reply_to(first))
        await ended(one)
        assert one.reply is not None
        connection.close()
        await ended(two)
        assert two.reply is None
        assert two.reason.endswith(": EOF")
        assert bench.upstreams[0].streams.connections == 0

    on_bench(test, force_tcp=True, max_connect_attempts=1)


def test_a_connection_that_is_never_established(on_bench):
    """The upstream's queue of new connections is full, so that the kernel drops ours."""

    async def test(bench):
        bench.sinks[0].tcp.listen(0)
        fillers = [socket.socket() for _ in range(8)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(bench.sinks[0].tcp.getsockname())
        await bench.turn(50)
        exchange = bench.ask("a")
        await bench.let_pass(4.0 - 0.01)
        assert not exchange.done
        await bench.let_pass(0.02)
        assert exchange.done
        assert exchange.reason.startswith(f"dial tcp {bench.upstreams[0].address} (attempt 1 of 1")
        assert exchange.reason.endswith(": i/o timeout")
        assert bench.upstreams[0].tcp.is_dead(bench.loop.now)
        for filler in fillers:
            filler.close()

    on_bench(test, force_tcp=True, max_connect_attempts=1)


def test_an_idle_connection_is_closed_when_it_expires(on_bench):
    async def test(bench):
        bench.sinks[0].tcp.listen()
        exchange = bench.ask("a")
        connection = await accepted(bench)
        (wire,) = await frames(connection, 1)
        upstream = bench.upstreams[0]
        used = bench.loop.now
        upstream.tidy(used + 60.0)
        assert upstream.streams.connections == 1  # a reply may still arrive
        connection.send(reply_to(wire))
        await ended(exchange)
        upstream.tidy(used + 10.0 - 1e-6)
        assert upstream.streams.connections == 1
        upstream.tidy(used + 10.0)
        assert upstream.streams.connections == 0
        await bench.turn(20)
        assert connection.recv(1) == b""
        connection.close()

    on_bench(test, force_tcp=True, expire=10.0)


def test_data_over_tcp_shows_that_it_works(on_bench):
    async def test(bench):
        bench.sinks[0].tcp.listen()
        upstream = bench.upstreams[0]
        exchange = bench.ask("a")
        connection = await accepted(bench)
        (wire,) = await frames(connection, 1)
        (attempt,) = exchange._open
        assert attempt.link.is_connected
        assert not attempt.link.has_answered
        upstream.tcp.failed(bench.loop.now)
        bench.loop.now += 0.25
        connection.send(reply_to(wire)[:5])
        await bench.turn(50)
        assert attempt.link.has_answered
        assert attempt.link.heard == bench.loop.now
        assert not upstream.tcp.is_dead(bench.loop.now)
        connection.send(reply_to(wire)[5:])
        await ended(exchange)
        connection.close()

    on_bench(test, force_tcp=True)


def test_a_truncated_reply_is_asked_again_over_tcp(on_bench):
    async def test(bench):
        bench.sinks[0].tcp.listen()
        upstream = bench.upstreams[0]
        exchange = bench.ask("a")
        await bench.turn()
        bench.sinks[0].reply(rest=b"\x83\x80\0\1" + bytes(6) + exchange.question)
        connection = await accepted(bench)
        (wire,) = await frames(connection, 1)
        assert wire[2:] == exchange.body
        bench.loop.now += 0.25
        connection.send(reply_to(wire))
        await ended(exchange)
        assert exchange.reply.wire[2:4] == b"\x81\x80"
        assert exchange.upstream is upstream
        assert upstream.tcp._usual == 0.25
        assert upstream.tcp._variation == 0.125
        connection.close()

    on_bench(test)


@pytest.mark.parametrize("hears", [False, True])
def test_how_long_the_truncated_reply_is_held_back(on_bench, hears):
    """A second before TCP has ever answered; longer while data still arrives."""

    async def test(bench):
        bench.sinks[0].tcp.listen()
        exchange = bench.ask("a")
        await bench.turn()
        bench.sinks[0].reply(rest=b"\x83\x80\0\1" + bytes(6) + exchange.question)
        connection = await accepted(bench)
        (wire,) = await frames(connection, 1)
        await bench.let_pass(0.99)
        if hears:
            connection.send(reply_to(wire)[:5])
            await bench.turn(50)
        assert not exchange.done
        await bench.let_pass(0.02)
        assert exchange.done is not hears
        if hears:
            connection.send(reply_to(wire)[5:])
            await ended(exchange)
            assert exchange.reply.wire[2:4] == b"\x81\x80"
        else:
            assert exchange.reply.wire[2:4] == b"\x83\x80"
            assert bench.upstreams[0].tcp.is_dead(bench.loop.now)
        connection.close()

    on_bench(test)


@pytest.mark.parametrize("hears", [False, True])
def test_a_connection_without_data_since_a_lost_query_is_given_up(on_bench, hears):
    """The path may have lost its state; with data, only this query has no reply."""

    async def test(bench):
        bench.sinks[0].tcp.listen()
        first = bench.ask("first")
        connection = await accepted(bench)
        (wire,) = await frames(connection, 1)
        connection.send(reply_to(wire))
        await ended(first)
        await bench.let_pass(0.25)
        lost = bench.ask("a")
        await frames(connection, 1)
        if hears:
            await bench.let_pass(0.5)
            other = bench.ask("b")
            (wire,) = await frames(connection, 1)
            connection.send(reply_to(wire))
            await ended(other)
        await bench.let_pass(2.01)
        await bench.turn(20)
        assert lost.done
        assert lost.reason.endswith(": i/o timeout")
        assert bench.upstreams[0].streams.connections == (1 if hears else 0)
        connection.close()

    on_bench(test, force_tcp=True, max_connect_attempts=1, read_timeout=2.0)
