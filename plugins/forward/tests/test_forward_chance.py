"""IDs and ports cannot be guessed: chi-square tests over 10,000 queries that really are sent."""

import asyncio
import itertools
import socket

import pytest

from corepy_forward import exchange, udp
from corepy_forward.attempt import draw_ident
from corepy_forward.pool import Pool
from corepy_forward.settings import Settings
from corepy_forward.targets import Target
from corepy_forward.udp import USES

QUERIES = 10_000
BINS = 64


def chi_square(values, low, high):
    """Return the statistic of `values`, expected to be uniform in low..high-1, over BINS bins."""
    counts = [0] * BINS
    for number in values:
        counts[(number - low) * BINS // (high - low)] += 1
    expected = len(values) / BINS
    return sum((count - expected) ** 2 / expected for count in counts)


# The value that chi-square with 63 degrees of freedom exceeds once in a hundred million.
LIMIT = 148.0


@pytest.fixture(autouse=True)
def _without_repetitions(monkeypatch):
    """`capture` reads each query once; a busy machine would make some of them late."""
    monkeypatch.setattr(exchange, "RESEND", 600.0)


def receive(sink, question):
    """Return the query with `question` and its sender; drop what is for an earlier owner of the port."""
    while True:
        wire, sender = sink.recvfrom(512)
        if question in wire:
            return wire, sender


def capture(queries, at_once=1):
    """Send queries to a socket of ours, so many before the first of them is answered; return their
    IDs and their ports, in order.
    """
    idents, ports = [], []

    async def run():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink:
            sink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
            sink.bind(("127.0.0.1", 0))
            sink.setblocking(False)
            settings = Settings(max_fails=0, read_timeout=600.0)
            pool = Pool(settings, [Target("127.0.0.1", sink.getsockname()[1])])
            for first in range(0, queries, at_once):
                asked = [b"\6%06d\0\0\1\0\1" % it for it in range(first, first + at_once)]
                for question in asked:
                    header = b"\1\0\0\1\0\0\0\0\0\0"
                    pool.begin(question, header + question, for_tcp=False)
                await asyncio.sleep(0)  # what one turn of the loop asks leaves at its end
                for question in asked:
                    wire, (host, port) = receive(sink, question)
                    sink.sendto(wire[:2] + b"\x81\x80" + wire[4:], (host, port))
                    idents.append(wire[0] << 8 | wire[1])
                    ports.append(port)
                while pool.flights:  # noqa: ASYNC110 - as often as the loop turns
                    await asyncio.sleep(0)
            pool.close()

    asyncio.run(run())
    return idents, ports


def local_port_range():
    with open("/proc/sys/net/ipv4/ip_local_port_range") as file:
        low, high = map(int, file.read().split())
    return low, high + 1


def gaps(values, modulus):
    return [(b - a) % modulus for a, b in itertools.pairwise(values)]


def test_ids_and_ports_of_each_query():
    """Every query counts; neither its ID nor its port follows from those before."""
    idents, ports = capture(QUERIES)
    assert chi_square(idents, 0, 65536) < LIMIT
    assert chi_square(gaps(idents, 65536), 0, 65536) < LIMIT
    low, high = local_port_range()
    assert chi_square(ports, low, high) < LIMIT
    assert chi_square(gaps(ports, high - low), 0, high - low) < LIMIT


def test_under_load_few_queries_share_a_port():
    """Each port counts once: those that share it have their IDs to tell them apart."""
    idents, ports = capture(QUERIES, at_once=100)
    assert chi_square(idents, 0, 65536) < LIMIT
    shares = [len(list(group)) for _, group in itertools.groupby(ports)]
    assert max(shares) <= USES
    low, high = local_port_range()
    chosen = [port for port, _ in itertools.groupby(ports)]
    assert len(chosen) >= QUERIES // USES
    assert chi_square(chosen, low, high) < LIMIT


def test_a_port_is_left_after_its_lifetime(monkeypatch):
    monkeypatch.setattr(udp, "LIFETIME", 0.0)
    _, ports = capture(100, at_once=10)
    assert all(a != b for a, b in itertools.pairwise(ports))


def test_idents_do_not_follow_from_each_other():
    drawn = [int.from_bytes(draw_ident(), "big") for _ in range(QUERIES)]
    assert chi_square(gaps(drawn, 65536), 0, 65536) < LIMIT
