"""IDs and ports cannot be guessed: chi-square tests over 10,000 queries that really are sent."""

import asyncio
import itertools
import socket

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


def capture():
    """Send the queries to a socket of ours; return their IDs, and the ports, one per socket."""
    idents, ports = [], []

    async def run():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink:
            sink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
            sink.bind(("127.0.0.1", 0))
            sink.setblocking(False)
            settings = Settings(max_fails=0)
            pool = Pool(settings, [Target("127.0.0.1", sink.getsockname()[1])])
            for number in range(QUERIES):
                question = b"\4%04d\0\0\1\0\1" % number
                header = b"\1\0\0\1\0\0\0\0\0\0"
                pool.begin(question, header + question, over_tcp=False)
                wire, (host, port) = sink.recvfrom(512)
                sink.sendto(wire[:2] + b"\x81\x80" + wire[4:], (host, port))
                await asyncio.sleep(0)
                idents.append(wire[0] << 8 | wire[1])
                if not ports or ports[-1] != port:
                    ports.append(port)
            pool.close()

    asyncio.run(run())
    return idents, ports


def local_port_range():
    with open("/proc/sys/net/ipv4/ip_local_port_range") as file:
        low, high = map(int, file.read().split())
    return low, high + 1


def test_ids_and_ports():
    idents, ports = capture()
    assert chi_square(idents, 0, 65536) < LIMIT
    assert len(ports) == -(-QUERIES // USES)
    assert chi_square(ports, *local_port_range()) < LIMIT


def test_idents_do_not_follow_from_each_other():
    drawn = [int.from_bytes(draw_ident(), "big") for _ in range(QUERIES)]
    gaps = [(b - a) % 65536 for a, b in itertools.pairwise(drawn)]
    assert chi_square(gaps, 0, 65536) < LIMIT
