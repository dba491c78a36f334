"""The command `python -m benchmarks.soak`: many handovers and failures of every kind under load.

With --minutes, a storm of all of them follows. Runs in a network namespace of its own (root is
needed), prints one row per kind and transport, and ends with exit code 1 if a handover lost a query
or a failure took too long.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.failures import FAILURES
from benchmarks.handover import HANDOVERS, Result, baseline, measure
from benchmarks.storm import rage, report
from benchmarks.streams import Traffic
from corepy.testing.netns import enter_new_netns

if TYPE_CHECKING:
    from collections.abc import Sequence

BASELINE = "unbound"
KINDS = {**HANDOVERS, BASELINE: baseline, **FAILURES}
LIMITS = {"killed": 1.0, "stopped": 3.0, "blocked": 3.0}
"""Seconds within which service must be restored after a failure."""

FAILURE_RATE = 0.2
"""Share of the load under which failures are measured.

The queries of the time without service must fit into the socket's queue.
"""
HEAD = (
    "| handover | turns | transport | sent | unanswered | wrong | reconnects | p50 ms | p99 ms"
    " | longest ms | overflows |\n|---|---|---|---|---|---|---|---|---|---|---|"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the selected kinds; the exit code is 1 if corepy exceeded a limit."""
    arguments = _parser().parse_args(argv)
    enter_new_netns()
    print(HEAD, flush=True)
    failed = False
    for kind in arguments.kinds if arguments.turns else ():
        rate = arguments.rate * (FAILURE_RATE if kind in FAILURES else 1)
        tcp_rate = rate * arguments.tcp_share
        traffic = Traffic(rate, arguments.ports, tcp_rate, arguments.connections)
        with tempfile.TemporaryDirectory() as folder:
            result = measure(kind, KINDS[kind], arguments.turns, traffic, Path(folder))
        print(row(result), flush=True)
        failed |= not is_good(result)
    if arguments.minutes:
        failed |= not _storm(arguments)
    return 1 if failed else 0


def _storm(arguments: argparse.Namespace) -> bool:
    """Run the storm and print the outcome; return whether no answer was wrong."""
    rate = arguments.rate * FAILURE_RATE
    traffic = Traffic(rate, arguments.ports, rate * arguments.tcp_share, arguments.connections)
    began = time.monotonic()
    storm = rage(60 * arguments.minutes, traffic, arguments.seed, arguments.sockets)
    assert storm.udp is not None
    assert storm.tcp is not None
    turns, seconds = sum(storm.events.values()), time.monotonic() - began
    print(row(Result("storm", turns, seconds, storm.udp, storm.tcp)))
    print(report(storm))
    return not storm.udp.wrong + storm.tcp.wrong


def is_good(result: Result) -> bool:
    """Return whether corepy kept the limits; unbound has none."""
    if result.name in FAILURES:
        longest = max(result.udp.longest, result.tcp.longest)
        return longest < LIMITS[result.name] and not result.udp.wrong + result.tcp.wrong
    return result.name == BASELINE or not result.lost


def row(result: Result) -> str:
    """Return the table rows of one kind."""
    lines = []
    for name, fate in (("UDP", result.udp), ("TCP", result.tcp)):
        overflows = result.overflows if name == "UDP" else ""
        times = " | ".join(f"{1000 * t:.1f}" for t in (fate.p50, fate.p99, fate.longest))
        lines.append(
            f"| {result.name} | {result.turns} | {name} | {fate.sent} | {fate.unanswered}"
            f" | {fate.wrong} | {fate.reconnects} | {times} | {overflows} |"
        )
    return "\n".join(lines)


def _kind(text: str) -> str:
    if text not in KINDS:
        raise argparse.ArgumentTypeError(f"{text!r} is not one of {', '.join(KINDS)}")
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument(
        "kinds", nargs="*", default=list(KINDS), type=_kind, metavar="KIND", help=", ".join(KINDS)
    )
    parser.add_argument("--turns", type=int, default=20, help="handovers of each kind (20)")
    parser.add_argument("--rate", type=float, default=5000, help="UDP queries a second (5000)")
    parser.add_argument("--ports", type=int, default=200, help="UDP source ports (200)")
    parser.add_argument(
        "--tcp-share", type=float, default=0.4, help="TCP queries, as a share of UDP's (0.4)"
    )
    parser.add_argument("--connections", type=int, default=200, help="TCP connections (200)")
    parser.add_argument("--minutes", type=float, default=0, help="length of the storm (none)")
    parser.add_argument("--seed", type=int, default=1, help="order of events in the storm (1)")
    parser.add_argument(
        "--sockets", type=int, default=1, help="most processes (multisocket) in the storm (1)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
