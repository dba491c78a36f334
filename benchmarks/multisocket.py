"""Compares the same server with `multisocket 1` and `multisocket 2`, in turns.

    python -m benchmarks.multisocket --rounds 5 --seconds 3

The load generator (dnsperf, one thread) needs CPU time as well, and has no core of its own here: on
a machine of two cores, two server processes and the generator share the cores that one process and
the generator had for themselves. Therefore the table has, beside the rate, the CPU time of a query
on both sides. These times determine the rate on more cores.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.handover import NAMES, ZONE
from benchmarks.load import LoadError, parse
from benchmarks.procfs import cpu_seconds
from benchmarks.servers import PACKET_CACHE
from corepy.testing import ask, knot, run_command

if TYPE_CHECKING:
    from collections.abc import Sequence

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
WAYS = {"packet cache": ("on", CACHE), "cache": ("off", CACHE), "template": ("off", TEMPLATE)}
"""How queries are answered, with COREPY_PACKET_CACHE and the directives.

The packet cache answers; without it *cache*; or *template* makes each answer anew, which costs
several times as much as sending the query.
"""

CLIENTS = 64
"""Source ports; the kernel distributes queries to sockets by their hash."""

PROCESSES = (1, 2)


@dataclass(frozen=True)
class Round:
    """One run: answers a second, and CPU microseconds of each answer on both sides."""

    rate: float
    server: float
    generator: float


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print a table."""
    arguments = _parser().parse_args(argv)
    print(f"{os.cpu_count()} processors, load average before: {os.getloadavg()[0]:.1f}\n")
    print(
        "| answered by | processes | answers/s | server us | generator us | rate, to one process |"
    )
    print("|---|---|---|---|---|---|")
    with knot(ZONE, "example.org") as (host, port):
        for way, (switch, text) in WAYS.items():
            body = text.format(upstream=f"{host}:{port}")
            _compare(way, switch, body, arguments.rounds, arguments.seconds)
    return 0


def _compare(way: str, switch: str, body: str, rounds: int, seconds: float) -> None:
    found: dict[int, list[Round]] = {number: [] for number in PROCESSES}
    env = {PACKET_CACHE: switch}
    one, two = (corefile(number, body) for number in PROCESSES)
    with run_command(one, env=env) as first, run_command(two, env=env) as second:
        for command in (first, second):
            for _ in range(CLIENTS):  # fills the cache of every process
                for name in NAMES:
                    ask(command.address, name)
        for _ in range(rounds):
            for number, command in zip(PROCESSES, (first, second), strict=True):
                found[number].append(load(command, seconds))
    base = median(it.rate for it in found[1])
    for number, measured in found.items():
        rate = median(it.rate for it in measured)
        server, generator = (
            median(getattr(it, side) for it in measured) for side in ("server", "generator")
        )
        print(
            f"| {way} | {number} | {rate:,.0f} | {server:.1f} | {generator:.1f}"
            f" | {rate / base:.2f} |",
            flush=True,
        )


def corefile(processes: int, body: str) -> str:
    """Return the Corefile of a server with so many processes."""
    return f". {{\n    bind 127.0.0.1\n    multisocket {processes}\n{body}}}\n"


def load(command: Command, seconds: float) -> Round:
    """Send queries at the highest rate; raises `LoadError`."""
    host, port = command.address
    before, mine = cpu_seconds(command.process.pid), _generator_seconds()
    with tempfile.TemporaryDirectory() as folder:
        questions = Path(folder, "questions")
        questions.write_text("".join(f"{name} A\n" for name in NAMES))
        done = subprocess.run(
            [
                *("dnsperf", "-s", host, "-p", str(port), "-d", str(questions), "-T", "1"),
                *("-c", str(CLIENTS), "-q", str(2 * CLIENTS), "-l", str(seconds), "-t", "2"),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise LoadError(done.stderr)
    outcome = parse(done.stdout)
    if outcome.failed:
        raise LoadError(f"{outcome.failed} wrong answers")
    server = cpu_seconds(command.process.pid) - before
    generator = _generator_seconds() - mine
    each = 1e6 / outcome.completed
    return Round(outcome.completed / outcome.seconds, server * each, generator * each)


def _generator_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.multisocket", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="runs of each server (5)")
    parser.add_argument("--seconds", type=float, default=3, help="length of a run (3)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
