"""Two steady streams of queries, over UDP and over TCP, each from a process of its own.

With two processes, neither stream waits for the interpreter of the other, or of the process that
measures. This module is also the program of those processes: it sends queries until its standard
input ends, then prints the outcome.
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
    """The outcome of the queries of one stream; latencies in seconds."""

    sent: int
    unanswered: int
    wrong: int
    reconnects: int
    p50: float
    p99: float
    longest: float
    lost: list[float]
    """The send times, by the monotonic clock, of queries that a client would count as lost.

    These have no answer, or one after more than `corepy.testing.load.PATIENCE` seconds.
    """


@dataclass(frozen=True, slots=True)
class Traffic:
    """The load: queries a second over each transport, and the number of client sockets."""

    udp_rate: float = 5000
    udp_ports: int = 200
    tcp_rate: float = 2000
    connections: int = 200


class Streams:
    """Queries `address` within the `with` block; `udp` and `tcp` are set at its end."""

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
            process.stdout.readline()  # the stream has begun
        return self

    def __exit__(self, *exc: object) -> None:
        """Stop the streams and wait for their last answers."""
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
