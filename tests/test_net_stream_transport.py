"""Our transports beside asyncio's: the same events for a protocol, whatever the client does."""

import asyncio
import contextlib
import itertools
import logging
import os
import socket
import struct

import pytest

from corepy.net import acceptor, stream_transport
from corepy.net.acceptor import Acceptor
from corepy.net.stream_acceptor import StreamAcceptor
from corepy.net.stream_transport import EVENTS_PER_TURN, SMALL_READ, close_poller

LOG = logging.getLogger("corepy")
KINDS = [Acceptor, StreamAcceptor]
LARGE = bytes(range(256)) * (1 << 12)  # a megabyte: more than the buffers of both ends


async def until(condition):
    while not condition():  # noqa: ASYNC110 turns of this loop make it true
        await asyncio.sleep(0)


class Recorder(asyncio.Protocol):
    """Does what `behaviour` says, and notes the calls of its transport."""

    def __init__(self, behaviour):
        self.behaviour, self.calls, self.data = behaviour, [], b""
        self.lost = asyncio.get_running_loop().create_future()

    def react(self, call):
        self.calls.append(call)
        return self.behaviour.get(call, lambda protocol: None)(self)

    def connection_made(self, transport):
        self.transport = transport
        self.react("made")

    def data_received(self, data):
        self.data += data
        self.react("data")

    def eof_received(self):
        return self.react("eof")

    def pause_writing(self):
        self.react("pause")

    def resume_writing(self):
        self.react("resume")

    def connection_lost(self, error):
        self.calls.append(f"lost {type(error).__name__}")
        if not self.lost.done():
            self.lost.set_result(None)


class Server:
    """Accepts at `address`; `protocols` are those of the connections."""

    def __init__(self, kind, behaviour=None):
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        self.address = self.sock.getsockname()
        self.protocols = []
        self.acceptor = kind(self.sock, self._new, "here", LOG)
        self.behaviour = behaviour or {}
        self.acceptor.start()

    def _new(self):
        self.protocols.append(Recorder(self.behaviour))
        return self.protocols[-1]

    async def connect(self):
        """Return a client's socket and the protocol at the other end."""
        client, number = socket.socket(), len(self.protocols)
        client.setblocking(False)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        await asyncio.get_running_loop().sock_connect(client, self.address)
        await until(lambda: self.protocols[number:] and self.protocols[number].calls)
        return client, self.protocols[number]


def summary(protocol):
    """Return the calls without repetitions: a stream may arrive in any number of pieces."""
    calls = protocol.calls
    return [call for call, before in zip(calls, [None, *calls], strict=False) if call != before]


def play(kind, script, behaviour=None):
    """Run the coroutine function `script` with a server; return the result."""

    async def main():
        server = Server(kind, behaviour)
        try:
            return await script(server)
        finally:
            server.acceptor.stop()
            close_poller()

    return asyncio.run(main())


async def receive_all(client):
    loop, found = asyncio.get_running_loop(), b""
    with contextlib.suppress(ConnectionError):
        while data := await loop.sock_recv(client, 1 << 20):
            found += data
    return found


def reset(client):
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def echo(protocol):
    protocol.transport.write(protocol.data)
    protocol.data = b""


def answer_much(protocol):
    protocol.transport.write(LARGE)


def answer_much_and_close(protocol):
    protocol.transport.write(LARGE[: len(LARGE) // 2])
    protocol.transport.write(LARGE[len(LARGE) // 2 :])
    protocol.transport.close()


def fail(protocol):
    raise ValueError("a fault of the protocol")


def close(protocol):
    protocol.transport.close()


def abort(protocol):
    protocol.transport.abort()


async def asks_and_leaves(server):
    client, protocol = await server.connect()
    with client:
        await asyncio.get_running_loop().sock_sendall(client, b"question")
        answer = await asyncio.get_running_loop().sock_recv(client, 100)
    await protocol.lost
    return answer, summary(protocol)


async def asks_and_half_closes(server):
    client, protocol = await server.connect()
    with client:
        await asyncio.get_running_loop().sock_sendall(client, b"question")
        client.shutdown(socket.SHUT_WR)
        answer = await receive_all(client)
    await protocol.lost
    return answer == LARGE or answer, summary(protocol)


async def asks_and_resets(server):
    client, protocol = await server.connect()
    await asyncio.get_running_loop().sock_sendall(client, b"question")
    await until(lambda: "data" in protocol.calls)
    reset(client)
    await protocol.lost
    return summary(protocol)


async def sends_much(server):
    client, protocol = await server.connect()
    with client:
        await asyncio.get_running_loop().sock_sendall(client, LARGE)
        client.shutdown(socket.SHUT_WR)
        await protocol.lost
    return protocol.data == LARGE, summary(protocol)


SCRIPTS = [
    (asks_and_leaves, {"data": echo}),
    (asks_and_leaves, {"data": echo, "eof": close}),
    (asks_and_leaves, {"data": close}),
    (asks_and_leaves, {"data": abort}),
    (asks_and_leaves, {"data": fail}),
    (asks_and_half_closes, {"data": echo}),
    (asks_and_half_closes, {"data": answer_much_and_close}),
    (asks_and_half_closes, {"data": answer_much, "eof": lambda it: True, "resume": close}),
    (asks_and_half_closes, {"eof": fail}),
    (asks_and_resets, {}),
    (asks_and_resets, {"data": answer_much}),
    (sends_much, {}),
]


@pytest.mark.parametrize(("script", "behaviour"), SCRIPTS, ids=range(len(SCRIPTS)))
def test_a_protocol_sees_what_it_sees_in_asyncio(script, behaviour):
    found = []
    for kind in KINDS:
        try:
            found.append(play(kind, script, behaviour))
        except ConnectionError as error:
            found.append(type(error))
    assert found[0] == found[1]


def test_data_that_arrive_with_the_connection_are_read_at_once():
    async def script(server):
        with socket.create_connection(server.address) as client:
            client.sendall(b"question")
            await until(lambda: server.protocols)
            assert server.protocols[0].calls == ["made", "data"]

    play(StreamAcceptor, script)


def test_a_connection_that_fills_its_read_is_read_in_larger_pieces(monkeypatch):
    sizes, read = [], os.read
    monkeypatch.setattr(stream_transport.os, "read", lambda *it: sizes.append(it[1]) or read(*it))

    async def script(server):
        client, protocol = await server.connect()
        with client:
            await asyncio.get_running_loop().sock_sendall(client, b"x" * (SMALL_READ + 1))
            await until(lambda: len(protocol.data) > SMALL_READ)
        assert SMALL_READ in sizes
        assert sizes[-1] > SMALL_READ

    play(StreamAcceptor, script)


@pytest.mark.parametrize("high", [0, 1000, None])
def test_the_limits_of_the_write_buffer(high):
    async def script(server):
        client, protocol = await server.connect()
        with client:
            protocol.transport.set_write_buffer_limits(high=high)
            protocol.transport.write(LARGE)
            assert protocol.calls == ["made", "pause"]
            assert protocol.transport.get_write_buffer_size() > (high or 0)
            found = b""
            while "resume" not in protocol.calls:
                found += await asyncio.get_running_loop().sock_recv(client, 1 << 20)
            low = 16384 if high is None else high // 4
            assert protocol.transport.get_write_buffer_size() <= low
            protocol.transport.close()
            return found + await receive_all(client) == LARGE

    assert play(StreamAcceptor, script)


def test_a_limit_that_is_exceeded_already_pauses_at_once():
    async def script(server):
        client, protocol = await server.connect()
        with client:
            protocol.transport.set_write_buffer_limits(high=1 << 30)
            protocol.transport.write(LARGE)
            protocol.transport.set_write_buffer_limits(high=0)
            return list(protocol.calls)

    assert play(StreamAcceptor, script) == ["made", "pause"]


def test_a_paused_connection_that_was_reset_costs_no_turns(monkeypatch):
    """epoll reports an error for every descriptor that it watches, whatever it is to watch for."""
    polled = []
    serve = stream_transport.StreamTransport.serve
    monkeypatch.setattr(
        stream_transport.StreamTransport,
        "serve",
        lambda it, mask: polled.append(mask) or serve(it, mask),
    )

    async def script(server):
        client, protocol = await server.connect()
        protocol.transport.pause_reading()
        reset(client)
        for _ in range(50):
            await asyncio.sleep(0)
        assert polled == []
        protocol.transport.resume_reading()
        await protocol.lost
        assert protocol.calls == ["made", "lost ConnectionResetError"]

    play(StreamAcceptor, script)


def test_more_connections_than_events_of_a_turn():
    async def script(server):
        pairs = [await server.connect() for _ in range(EVENTS_PER_TURN + 10)]
        for client, _ in pairs:
            client.send(b"question")
        await until(lambda: all(protocol.data for _, protocol in pairs))
        for client, _ in pairs:
            client.close()
        await asyncio.gather(*(protocol.lost for _, protocol in pairs))

    play(StreamAcceptor, script)


@pytest.mark.pure_form("its clock is replaced")
def test_slow_protocols_leave_turns_of_the_event_loop_to_others(monkeypatch):
    """Each reading of the clock is later than the budget, so a turn serves one connection."""

    async def script(server):
        pairs = [await server.connect() for _ in range(4)]
        for client, _ in pairs:
            client.send(b"question")
        for module in (acceptor, stream_transport):
            monkeypatch.setattr(module, "monotonic", itertools.count().__next__)
        before = []
        server.behaviour["data"] = lambda _: before.append(1)
        for _, protocol in pairs:
            while protocol.calls.count("data") == 0:
                served = len(before)
                await asyncio.sleep(0)
                assert len(before) <= served + 1
        for client, _ in pairs:
            client.close()
        late = [socket.create_connection(server.address) for _ in range(4)]
        while len(server.protocols) < 8:
            accepted = len(server.protocols)
            await asyncio.sleep(0)
            assert len(server.protocols) <= accepted + 1
        for client in late:
            client.close()

    play(StreamAcceptor, script)


@pytest.mark.pure_form("its clock is replaced")
def test_slow_connections_are_served_in_several_turns(monkeypatch):
    """Also those that are ready all the time; other callbacks run in between."""
    times = itertools.count()
    monkeypatch.setattr(stream_transport, "monotonic", lambda: next(times) * 0.006)

    async def script(server):
        turns = 0
        served: dict[Recorder, int] = {}

        def note(protocol):
            served.setdefault(protocol, turns)
            protocol.transport.pause_reading()

        server.behaviour["data"] = note
        pairs = [await server.connect() for _ in range(5)]
        for client, _ in pairs:
            client.send(b"question")
        while len(served) < len(pairs):
            await asyncio.sleep(0)
            turns += 1
        assert len(set(served.values())) == len(pairs)
        for client, protocol in pairs:
            client.close()
            protocol.transport.abort()
        await asyncio.gather(*(protocol.lost for _, protocol in pairs))

    play(StreamAcceptor, script)


def test_a_fault_when_writing_is_possible_again_closes_the_connection(caplog):
    async def script(server):
        client, protocol = await server.connect()
        with client:
            await asyncio.get_running_loop().sock_sendall(client, b"question")
            await receive_all(client)
        await protocol.lost
        assert summary(protocol)[-2:] == ["resume", "lost ValueError"]

    play(StreamAcceptor, script, {"data": answer_much, "resume": fail})
    assert "a fault of the protocol" in caplog.text


def test_one_connection_may_end_another_in_the_same_turn():
    async def script(server):
        pairs = [await server.connect() for _ in range(3)]
        protocols = [protocol for _, protocol in pairs]

        def end_all(_):
            for protocol in protocols:
                protocol.transport.abort()

        server.behaviour["data"] = end_all
        for client, _ in pairs:
            client.send(b"question")
        await asyncio.gather(*(protocol.lost for protocol in protocols))
        assert sum(protocol.calls.count("data") for protocol in protocols) == 1
        for client, _ in pairs:
            client.close()

    play(StreamAcceptor, script)


@pytest.mark.parametrize("error", [ValueError, SystemExit])
def test_a_protocol_that_refuses_its_connection(error, caplog):
    def refuse(_):
        raise error("a fault of the protocol")

    async def script(server):
        server.behaviour["made"] = refuse
        with contextlib.closing(socket.create_connection(server.address)) as client:
            client.setblocking(False)
            assert await receive_all(client) == b""
        await server.protocols[0].lost
        del server.behaviour["made"]
        client, protocol = await server.connect()  # the next one is served
        client.close()
        await protocol.lost

    play(StreamAcceptor, script)
    assert "a connection to here failed: a fault of the protocol" in caplog.text


def test_a_fault_at_the_end_of_a_connection_closes_it(caplog):
    async def script(server):
        client, protocol = await server.connect()
        protocol.connection_lost = fail
        with client:
            protocol.transport.close()
            assert await receive_all(client) == b""

    play(StreamAcceptor, script)
    assert "a fault of the protocol" in caplog.text


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::"])
def test_the_addresses_of_a_connection(host):
    async def main():
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.create_server((host, 0), family=family, dualstack_ipv6=":" in host)
        sock.setblocking(False)
        server = Server.__new__(Server)
        server.protocols, server.behaviour = [], {}
        acceptor = StreamAcceptor(sock, server._new, "here", LOG)
        acceptor.start()
        server.address = "127.0.0.1", sock.getsockname()[1]
        client, protocol = await server.connect()
        with client:
            prefix = "::ffff:" if ":" in host else ""
            own, other = client.getsockname(), client.getpeername()
            transport = protocol.transport
            assert transport.get_extra_info("peername")[:2] == (prefix + own[0], own[1])
            assert transport.get_extra_info("sockname")[:2] == (prefix + other[0], other[1])
            assert transport.get_extra_info("cipher", "none") == "none"
        acceptor.stop()
        close_poller()

    asyncio.run(main())


def test_closing_the_poller_closes_all_connections():
    async def script(server):
        clients = [await server.connect() for _ in range(3)]
        close_poller()
        assert [protocol.calls for _, protocol in clients] == [["made", "lost NoneType"]] * 3
        for client, _ in clients:
            client.close()

    play(StreamAcceptor, script)


def test_nothing_is_written_after_the_end():
    async def script(server):
        client, protocol = await server.connect()
        with client:
            protocol.transport.abort()
            protocol.transport.write(b"late")
            protocol.transport.resume_reading()
            await protocol.lost
            assert protocol.calls == ["made", "lost NoneType"]

    play(StreamAcceptor, script)
