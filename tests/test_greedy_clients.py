"""One client that takes all it can get costs the others nothing."""

import asyncio
import socket
import threading
import urllib.request
from contextlib import ExitStack, contextmanager

import dnslib
import pytest

from corepy.http import connection as http_connection
from corepy.http import listener as http_listener
from corepy.plugin import Handler
from corepy.server.listen import stream_listener
from corepy.server.listen.udp import BACKLOG, OVERFLOWS
from corepy.server.selfcheck import unanswered
from corepy.testing import Upstream, query, serve, with_handlers
from corepy.testing.client import read_frame
from corepy.testing.command import wait_until
from corepy.testing.upstream import free_port

GREEDY, OTHER = "127.0.0.2", "127.0.0.3"


class Patient(Handler):
    """Answers names that begin with "busy" when it is told to, all others at once."""

    name = "patient"

    def __init__(self):
        self.gate = asyncio.Event()
        self.waiting = 0

    async def serve_dns(self, request):
        if request.name.startswith("busy"):
            self.waiting += 1
            try:
                await self.gate.wait()
            finally:
                self.waiting -= 1
        return request.reply(answer=dnslib.RR.fromZone(f"{request.qname} 60 A 192.0.2.1"))


@contextmanager
def patient_server(directives=""):
    handlers = []

    def make():
        handlers.append(Patient())
        return handlers[-1]

    text = f". {{\nbind 127.0.0.1\n{directives}\npatient\n}}"
    with serve(text, plugins=with_handlers(patient=make)) as server:
        yield server, handlers[-1]


def framed(name):
    wire = query(name)
    return len(wire).to_bytes(2, "big") + wire


def streams_of(stack, server, client, number, name="busy.example.org"):
    """Open connections from an address, each with a query."""
    found = []
    for _ in range(number):
        stream = socket.create_connection(server.address, 20, source_address=(client, 0))
        stack.enter_context(stream).sendall(framed(name))
        found.append(stream)
    return found


def is_answered(stream):
    try:
        return dnslib.DNSRecord.parse(read_frame(stream)).header.rcode == 0
    except (OSError, EOFError, ValueError, dnslib.DNSError):
        return False


@pytest.fixture
def few_seats(monkeypatch):
    monkeypatch.setattr(stream_listener, "MAX_CONNECTIONS", 20)


@pytest.mark.usefixtures("few_seats")
def test_busy_connections_of_one_client_keep_no_other_out():
    """What 1,050 of them did to 198 others, by a fiftieth."""
    with patient_server() as (server, handler), ExitStack() as stack:
        (endpoint,) = server.server.endpoints.values()
        streams_of(stack, server, GREEDY, 30)
        wait_until(lambda: handler.waiting == 10)  # its share
        for _ in range(30):
            assert all(map(is_answered, streams_of(stack, server, OTHER, 1, "www.example.org")))
            streams_of(stack, server, GREEDY, 1)
        # Connections that are to make room are closed in the next turn of the event loop.
        wait_until(lambda: len(endpoint.listener("tcp").connections) <= 20)


@pytest.mark.usefixtures("few_seats")
def test_two_greedy_clients_leave_room_for_a_third():
    with patient_server() as (server, handler), ExitStack() as stack:
        for client in (GREEDY, "127.0.0.4"):
            streams_of(stack, server, client, 15)
        wait_until(lambda: handler.waiting == 20)
        others = streams_of(stack, server, OTHER, 5, "www.example.org")
        assert all(map(is_answered, others))


@pytest.mark.usefixtures("few_seats")
def test_who_has_least_keeps_what_it_waits_for():
    """A busy connection of another client outlasts all that a greedy one opens."""
    with patient_server() as (server, handler), ExitStack() as stack:
        (other,) = streams_of(stack, server, OTHER, 1)
        wait_until(lambda: handler.waiting == 1)
        for client in (GREEDY, "127.0.0.4", "127.0.0.5"):
            streams_of(stack, server, client, 15)
        server._loop.call_soon_threadsafe(handler.gate.set)
        assert is_answered(other)


@pytest.mark.usefixtures("few_seats")
@pytest.mark.parametrize("greedy", [GREEDY, "127.0.0.1"])
def test_the_server_can_ask_itself(greedy):
    """From the same address as the greedy client, too."""
    directives = "health 127.0.0.1:0"
    with patient_server(directives) as (server, _), ExitStack() as stack:
        streams_of(stack, server, greedy, 60)
        endpoints = server.server.endpoints.values()
        silent = asyncio.run_coroutine_threadsafe(unanswered(endpoints, 20.0), server._loop)
        assert silent.result(30) == []
        assert all(endpoint.listener("tcp").connections for endpoint in endpoints)


@pytest.mark.usefixtures("few_seats")
def test_the_queries_of_a_connection_that_had_to_leave_are_ended():
    with patient_server() as (server, handler), ExitStack() as stack:
        streams_of(stack, server, GREEDY, 60)
        wait_until(lambda: handler.waiting == 10)


class Big(Handler):
    """Answers with ten thousand bytes."""

    name = "big"
    records = dnslib.RR.fromZone("example.org. 60 TXT " + ('"' + "x" * 200 + '" ') * 50)

    async def serve_dns(self, request):
        return request.reply(answer=self.records)


def test_a_connection_that_is_closed_ends_though_nobody_reads_from_it():
    """What it was answered lies in our memory, and would for ever."""
    text = ". {\nbind 127.0.0.1\ntimeouts {\nread 60s\nwrite 1s\nidle 60s\n}\nbig\n}"
    with serve(text, plugins=with_handlers(big=Big)) as server, socket.socket() as stream:
        (endpoint,) = server.server.endpoints.values()
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stream.connect(server.address)
        wait_until(lambda: endpoint.listener("tcp").connections)
        (connection,) = endpoint.listener("tcp").connections
        # The limit from which on it counts as slow is not reached.
        server.call(connection._transport.set_write_buffer_limits, 1 << 30)
        while not connection._transport.get_write_buffer_size():
            stream.sendall(framed("example.org") * 10)
        assert not server.call(connection.close)
        wait_until(lambda: not endpoint.listener("tcp").connections)


def test_one_client_of_an_http_endpoint_keeps_no_other_out(monkeypatch):
    monkeypatch.setattr(http_listener, "MAX_CONNECTIONS", 6)
    monkeypatch.setattr(http_connection, "TIMEOUT", 1000)
    address = ("127.0.0.1", free_port())
    with patient_server(f"health 127.0.0.1:{address[1]}"), ExitStack() as stack:
        kept = stack.enter_context(socket.create_connection(address, 20, source_address=(OTHER, 0)))
        for _ in range(30):
            stack.enter_context(
                socket.create_connection(address, 20, source_address=(GREEDY, 0))
            ).send(b"GET /health HT")
        url = f"http://127.0.0.1:{address[1]}/health"
        with urllib.request.urlopen(url, timeout=60) as response:
            assert response.status == 200
        kept.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert kept.recv(100).startswith(b"HTTP/1.1 200")


class Held(Handler):
    """Holds up the whole event loop at the name hold.example.org until it is told to go on."""

    name = "held"

    def __init__(self):
        self.begun, self.go_on = threading.Event(), threading.Event()

    async def serve_dns(self, request):
        if request.name.startswith("hold."):
            self.begun.set()
            self.go_on.wait(60)
        return request.reply(answer=[])


def udp_client(stack, server, host):
    sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    sock.bind((host, 0))
    sock.connect(server.address)
    sock.settimeout(20)
    return sock


def test_a_burst_of_one_client_leaves_room_in_the_queue_for_others():
    """Of the names that come while the loop is busy."""
    handler = Held()
    plugins = with_handlers(held=lambda: handler)
    with serve(". {\nbind 127.0.0.1\nheld\n}", plugins=plugins) as server, ExitStack() as stack:
        overflows = OVERFLOWS.labels(f"dns://127.0.0.1:{server.address[1]}")
        greedy, other = (udp_client(stack, server, host) for host in (GREEDY, OTHER))
        greedy.send(query("hold.example.org"))
        assert handler.begun.wait(60)
        for number in range(BACKLOG + 500):
            greedy.send(query(f"n{number}.example.org"))
        for number in range(50):
            other.send(query(f"n{number}.example.net"))
        before = overflows.value
        handler.go_on.set()
        for _ in range(50):
            assert other.recv(512)
        for _ in range(BACKLOG):
            assert greedy.recv(512)
        assert 0 < overflows.value - before <= 500


def test_the_server_can_ask_itself_in_a_burst_from_its_own_address():
    handler = Held()
    plugins = with_handlers(held=lambda: handler)
    with serve(". {\nbind 127.0.0.1\nheld\n}", plugins=plugins) as server, ExitStack() as stack:
        overflows = OVERFLOWS.labels(f"dns://127.0.0.1:{server.address[1]}")
        greedy = udp_client(stack, server, "127.0.0.1")
        endpoints = list(server.server.endpoints.values())
        greedy.send(query("hold.example.org"))
        assert handler.begun.wait(60)
        for number in range(BACKLOG + 500):
            greedy.send(query(f"n{number}.example.org"))
        # Its question comes last, asked once.
        silent = asyncio.run_coroutine_threadsafe(unanswered(endpoints, 15.0, 15.0), server._loop)
        handler.go_on.set()
        assert silent.result(30) == []
        assert overflows.value > 0


def never(question, _proto):
    """Answer names that begin with "other"."""
    if not str(question.q.qname).startswith("other"):
        return None
    reply = question.reply(ra=1, aa=0)
    reply.add_answer(*dnslib.RR.fromZone(f"{question.q.qname} 60 A 192.0.2.1"))
    return reply


@pytest.mark.parametrize("cache", ["", "cache"])
def test_misses_of_others_are_answered_while_one_client_floods(cache):
    """Its names are answered by nobody, so they take all the places that they can get."""
    with Upstream(never) as upstream, ExitStack() as stack:
        text = (
            f".:0 {{\nbind 127.0.0.1\n{cache}\nforward . {upstream.to} {{\nmax_fails 0\n"
            "max_concurrent 40\n}\n}"
        )
        server = stack.enter_context(serve(text))
        greedy, other = (udp_client(stack, server, host) for host in (GREEDY, OTHER))
        for number in range(200):
            greedy.send(query(f"greedy{number}.example.org", edns=1232))
        for number in range(10):
            wire = query(f"other{number}.example.net")
            other.send(wire)
            reply = other.recv(512)
            assert (reply[:2], reply[3] & 15) == (wire[:2], 0)
        replies = [greedy.recv(512) for _ in range(160)]
        assert {reply[3] & 15 for reply in replies} == {2}, "never REFUSED"
        told = b"\0\0too many queries wait for an upstream"
        assert sum(told in reply for reply in replies) >= 150
        # What failed for want of room is not kept: the next one is asked for.
        wire = query("other-late.example.net")
        other.send(wire)
        assert other.recv(512)[3] & 15 == 0
