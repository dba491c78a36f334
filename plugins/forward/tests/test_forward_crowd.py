"""One client that asks for a name in many ways keeps nobody else from that name."""

import contextlib
import itertools
import socket
import struct
import threading
from functools import partial
from typing import Any

import dnslib
import pytest

from corepy.testing import Upstream, query
from corepy.testing import serve as serve_with_timers
from corepy.testing.command import wait_until
from corepy_forward.asking import MOST_QUERIES, MOST_UNUSUAL
from corepy_forward.limits import Turns

serve = partial(serve_with_timers, still=True)  # nothing becomes late, however busy the machine

MANY = 40
UNKNOWN = 65001


def corefile(to, before=""):
    return f".:0 {{\n{before}forward . {to} {{\nmax_fails 0\nread_timeout 30s\n}}\n}}"


def variant(number):
    """Return a query for one name with an option that makes it differ from others."""
    options = struct.pack("!HHI", UNKNOWN, 4, number)
    plain = query("victim.example", edns=1232)
    return plain[:-2] + struct.pack("!H", len(options)) + options


OPTIONS = [variant(number) for number in range(MANY)]
FLAGS = [
    query("victim.example", rd=rd, cd=cd, do=do, edns=1232)
    for rd, cd, do in itertools.product((1, 0), (0, 1), (False, True))
    if (rd, cd, do) != (1, 0, False)
]


def numbers_of(asked):
    """Return what is in the unknown options of a query."""
    options = asked.ar[0].rdata if asked.ar else ()
    return [int.from_bytes(bytes(each.data), "big") for each in options if each.code == UNKNOWN]


def is_plain(asked):
    """Whether a query is as a stub resolver sends it."""
    has_do = bool(asked.ar) and asked.ar[0].edns_do
    return asked.header.rd and not asked.header.cd and not has_do and not numbers_of(asked)


def good(asked):
    reply = asked.reply(ra=1, aa=0)
    reply.add_answer(*dnslib.RR.fromZone(f"{asked.q.qname} 60 IN A 192.0.2.7"))
    return reply


@contextlib.contextmanager
def client_at(host, server):
    """Yield the connected socket of a client with that address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((host, 0))
        sock.connect(server.address)
        sock.settimeout(20)
        yield sock


@pytest.mark.parametrize(
    "asked", [OPTIONS, FLAGS, FLAGS + OPTIONS], ids=["options", "flags", "all"]
)
@pytest.mark.parametrize("tcp", [False, True])
@pytest.mark.parametrize("before", ["", "cache\n"], ids=["", "cache"])
def test_queries_that_are_not_answered_do_not_hold_up_the_usual_one(asked, tcp, before, in_flight):
    """400 queries a second of one client cost the others this name, as long as they went on."""
    gate = threading.Event()

    def behave(asked, _):
        if not is_plain(asked):
            gate.wait(60)
        return good(asked)

    with (
        Upstream(behave) as upstream,
        serve(corefile(upstream.to, before)) as server,
        client_at("127.0.0.2", server) as greedy,
    ):
        for wire in asked:
            greedy.send(wire)
        wait_until(lambda: in_flight(server)[1] == len(asked))
        reply = server.ask("victim.example", tcp=tcp)
        assert [str(each.rdata) for each in reply.rr] == ["192.0.2.7"]
        queries, waiting = in_flight(server)
        assert (queries <= MOST_QUERIES, waiting) == (True, len(asked))
        gate.set()
        assert all(b"victim" in greedy.recv(4096) for _ in asked)


def test_a_client_with_options_waits_for_its_turn_not_for_all_of_another(in_flight):
    gate = threading.Event()

    def behave(asked, _):
        gate.wait(60)
        return good(asked)

    with (
        Upstream(behave) as upstream,
        serve(corefile(upstream.to)) as server,
        client_at("127.0.0.2", server) as greedy,
        client_at("127.0.0.3", server) as other,
    ):
        for wire in OPTIONS:
            greedy.send(wire)
        wait_until(lambda: in_flight(server)[1] == MANY)
        other.send(variant(MANY))
        wait_until(lambda: in_flight(server)[1] == MANY + 1)
        gate.set()
        assert b"victim" in other.recv(4096)
        order = [it for wire in upstream.wires for it in numbers_of(dnslib.DNSRecord.parse(wire))]
        assert order.index(MANY) < 2 * MOST_UNUSUAL[-1] + 2


@pytest.mark.pure_form("has a stand-in for an object of a compiled class")
def test_turns():
    turns: Any = Turns()
    order: list[str] = []
    for client, waiting in ((b"a", "123"), (b"b", "4"), (b"c", "56")):
        for each in waiting:
            turns.add(client, each)
    while turns:
        order.append(turns.first)
        turns.drop_first()
    assert order == ["1", "4", "5", "2", "6", "3"]
