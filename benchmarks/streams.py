"""Two steady streams of queries, over UDP and over TCP, each from a process of its own.

Two processes, so that neither waits for the other's Python, nor for that of whoever measures. The
module is also the program that those processes run: it asks until its standard input ends, then
prints what became of the queries.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from corepy.testing import Load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corepy.testing.client import Address

PIPELINED = 4
"""Queries that a TCP client sends together."""

FINISH_TIMEOUT = 60.0


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of the queries of one stream; latencies in seconds."""

    sent: int
    unanswered: int
    wrong: int
    reconnects: int
    p50: float
    p99: float
    longest: float
    lost: list[float]
    """When each query was asked, by the monotonic clock, that a client would call lost: without an
    answer, or with one after more than `corepy.testing.load.PATIENCE` seconds.
    """


@dataclass(frozen=True, slots=True)
class Traffic:
    """How much is asked: queries a second over each transport, and the sockets they come from."""

    udp_rate: float = 5000
    udp_ports: int = 200
    tcp_rate: float = 2000
    connections: int = 200


class Streams:
    """Asks at `address` while the `with` block lasts; `udp` and `tcp` are known after it."""

    udp: Fate
    tcp: Fate

    def __init__(self, address: Address, traffic: Traffic, names: Sequence[str]) -> None:
        self._commands = [
            [kind, *map(str, (*address, rate, clients)), *names]
            for kind, rate, clients in (
                ("udp", traffic.udp_rate, traffic.udp_ports),
                ("tcp", traffic.tcp_rate, traffic.connections),
            )
        ]
        self._processes: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Streams:
        for command in self._commands:
            self._processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "benchmarks.streams", *command],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
        for process in self._processes:
            assert process.stdout is not None
            process.stdout.readline()  # it has begun
        return self

    def __exit__(self, *exc: object) -> None:
        """End the streams and wait for their last answers."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.close()
            process.stdin = None  # communicate() would flush it
        fates = []
        for process in self._processes:
            output, _ = process.communicate(timeout=FINISH_TIMEOUT)
            fates.append(Fate(**json.loads(output)))
        self.udp, self.tcp = fates


def main(arguments: Sequence[str]) -> None:
    """Run one stream: KIND HOST PORT RATE CLIENTS NAME..."""
    kind, host, port, rate, clients, *names = arguments
    tcp = kind == "tcp"
    load = Load(
        (host, int(port)),
        rate=float(rate),
        clients=int(clients),
        tcp=tcp,
        together=PIPELINED if tcp else 1,
        names=names,
    )
    with load:
        print("asking", flush=True)
        sys.stdin.read()
    outcome = load.outcome
    fate = Fate(
        outcome.sent,
        outcome.unanswered,
        outcome.wrong,
        outcome.reconnects,
        outcome.percentile(0.5),
        outcome.percentile(0.99),
        outcome.percentile(1),
        sorted(outcome.lost + outcome.late),
    )
    print(json.dumps(asdict(fate)))


if __name__ == "__main__":
    main(sys.argv[1:])
