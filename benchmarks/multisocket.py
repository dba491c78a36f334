"""Compares the same server with one, two and four processes (*multisocket*), in turns.

    python -m benchmarks.multisocket --rounds 5 --seconds 3 --rate 10000

The load generator (dnsperf, one thread) needs CPU time as well, and several processes with a core
each are more than a small machine has. So the highest rates are not compared. The tables have:

* the CPU time of a query while all processes share one core and the generator has another, at a
  fixed rate and near the highest rate of one process. At low rates a process is woken for each
  query, however many there are; near the highest rate it finds several in its socket;
* the share of each process in the queries from 200 ports;
* the latency, on all cores, at a rate that one process cannot carry.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

from benchmarks.handover import NAMES, ZONE
from benchmarks.load import LoadError, parse
from benchmarks.procfs import cpu_seconds
from benchmarks.report import table
from benchmarks.results import percentile
from benchmarks.servers import PACKET_CACHE
from benchmarks.shares import WHO, shares
from corepy.testing import ask, install, knot, run_command

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from benchmarks.load import Outcome
    from corepy.testing import Command

CACHE = """\
    cache
    forward . {upstream}
"""
TEMPLATE = """\
    template IN A {{
        answer "{{{{ .Name }}}} 60 IN A 192.0.2.1"
    }}
"""
WAYS: Final = {
    "packet cache": ("on", CACHE),
    "cache": ("off", CACHE),
    "template": ("off", TEMPLATE),
}
"""How queries are answered, with COREPY_PACKET_CACHE and the directives.

The packet cache answers; without it *cache*; or *template* makes each answer anew, which costs
several times as much as sending the query.
"""

PORTS: Final = 200
"""Number of the clients' source ports."""

PROCESSES: Final = (1, 2, 4)

NEAR: Final = 0.8
"""A rate near the highest of one process, divided by that."""

EXCESS: Final = 1.25
"""A rate that one process cannot carry, divided by the highest of one process."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print the tables."""
    arguments = _parser().parse_args(argv)
    print(f"{os.cpu_count()} processors, load average before: {os.getloadavg()[0]:.1f}\n")
    with knot(ZONE, "example.org") as (host, port):
        rows = []
        for way in WAYS:
            rows += _costs(way, f"{host}:{port}", arguments)
        head = ["answered by", "queries/s", "processes", "CPU us", "to one process", "lost"]
        print(table(head, rows) + "\n")
        print(table(["processes", "smallest share", "largest share"], _shares()) + "\n")
        head = ["processes", "queries/s", "mean", "p99", "lost"]
        print(table(head, _latencies(f"{host}:{port}", arguments)))
    return 0


def corefile(processes: int, body: str) -> str:
    """Return the Corefile of a server with so many processes."""
    return f". {{\n    bind 127.0.0.1\n    multisocket {processes}\n{body}}}\n"


def _started(stack: ExitStack, way: str, upstream: str) -> dict[int, Command]:
    """Start a server for each number of processes, and fill its caches."""
    switch, text = WAYS[way]
    body = text.format(upstream=upstream)
    env = {PACKET_CACHE: switch}
    servers = {
        number: stack.enter_context(run_command(corefile(number, body), env=env))
        for number in PROCESSES
    }
    for command in servers.values():
        for _ in range(8 * max(PROCESSES)):
            for name in NAMES:
                ask(command.address, name)
    return servers


@contextmanager
def _on_core(number: int) -> Iterator[None]:
    """Run what is started within the context on one of the cores of this process."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[number % len(cores)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def _costs(way: str, upstream: str, arguments: argparse.Namespace) -> list[list[str]]:
    with ExitStack() as stack:
        with _on_core(0):
            servers = _started(stack, way, upstream)
        with _on_core(1):
            highest = load(servers[1], arguments.seconds)
            near = int(highest.completed / highest.seconds * NEAR)
            rows = []
            for rate in (arguments.rate, near):
                rows += _costs_at(rate, servers, arguments)
    return [[way, *row] for row in rows]


def _costs_at(
    rate: int, servers: Mapping[int, Command], arguments: argparse.Namespace
) -> list[list[str]]:
    cost: dict[int, list[float]] = {number: [] for number in servers}
    lost = dict.fromkeys(servers, 0)
    for _ in range(arguments.rounds):
        for number, command in servers.items():
            before = cpu_seconds(command.process.pid)
            outcome = load(command, arguments.seconds, rate)
            used = cpu_seconds(command.process.pid) - before
            cost[number].append(used / outcome.completed * 1e6)
            lost[number] += outcome.lost
    rows = []
    for number, found in cost.items():
        ratio = median(it / one for it, one in zip(found, cost[1], strict=True))
        figures = [f"{median(found):.1f}", f"{ratio:.2f}", str(lost[number])]
        rows.append([f"{rate:,}", str(number), *figures])
    return rows


def _shares() -> list[list[str]]:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        env = install(Path(folder), "who", WHO)
        for number in PROCESSES[1:]:
            with run_command(corefile(number, "    who\n"), env=env) as command:
                found = shares(command.address, PORTS, number)
            rows.append([str(number), f"{min(found):.2f}", f"{max(found):.2f}"])
    return rows


def _latencies(upstream: str, arguments: argparse.Namespace) -> list[list[str]]:
    found: dict[int, list[Outcome]] = {number: [] for number in PROCESSES}
    with ExitStack() as stack:
        servers = _started(stack, "template", upstream)
        highest = load(servers[1], arguments.seconds)
        rate = int(highest.completed / highest.seconds * EXCESS)
        for _ in range(arguments.rounds):
            for number, command in servers.items():
                found[number].append(load(command, arguments.seconds, rate, latencies=True))
    rows = []
    for number, outcomes in found.items():
        mean = median(it.mean_latency for it in outcomes) * 1e3
        p99 = median(percentile(sorted(it.latencies), 99) for it in outcomes) * 1e3
        lost = sum(it.lost for it in outcomes) / sum(it.sent for it in outcomes)
        reached = median(it.completed / it.seconds for it in outcomes)
        reached_of = f"{reached:,.0f} of {rate:,}"
        rows.append([str(number), reached_of, f"{mean:.1f} ms", f"{p99:.1f} ms", f"{lost:.2%}"])
    return rows


def load(
    command: Command, seconds: float, rate: int | None = None, *, latencies: bool = False
) -> Outcome:
    """Send queries at `rate` a second, or at the highest; raises `LoadError`."""
    host, port = command.address
    words = ["dnsperf", "-s", host, "-p", str(port), "-T", "1", "-c", str(PORTS), "-t", "2"]
    words += ["-l", str(seconds), "-q", "1000" if rate else str(PORTS)]
    words += ["-Q", str(rate)] if rate else []
    words += ["-v"] if latencies else []
    with tempfile.TemporaryDirectory() as folder:
        questions = Path(folder, "questions")
        questions.write_text("".join(f"{name} A\n" for name in NAMES))
        done = subprocess.run(
            [*words, "-d", str(questions)], capture_output=True, text=True, check=False
        )
    if done.returncode:
        raise LoadError(done.stderr)
    outcome = parse(done.stdout)
    if outcome.failed:
        raise LoadError(f"{outcome.failed} wrong answers")
    return outcome


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.multisocket", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="runs of each server (5)")
    parser.add_argument("--seconds", type=float, default=3, help="length of a run (3)")
    parser.add_argument(
        "--rate", type=int, default=10_000, help="queries a second to measure the CPU time (10000)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
