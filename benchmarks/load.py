"""Generates load with dnsperf: question files, runs, and the parsing of its report.

One generator per server address, all on one core: dnsperf, or `benchmarks.connections` for short
connections. Rounds run at the generator's highest rate. Latencies are measured in separate runs at
a fixed rate, in which dnsperf prints every answer (-v): at the highest rate, printing costs the
load generator too much.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

CLIENTS = 10
OUTSTANDING = 100
TIMEOUT = 2  # seconds until dnsperf counts a query as lost

_COUNTS = re.compile(r"Queries (sent|completed|lost): +(\d+)")
_CODES = re.compile(r"(\w+) (\d+) \(")
_RUN_TIME = re.compile(r"Run time \(s\): +([\d.]+)")
_LATENCY = re.compile(r"Average Latency \(s\): +([\d.]+)")


class LoadError(Exception):
    """dnsperf failed, or printed no valid report."""


@dataclass(frozen=True)
class Outcome:
    """The report of dnsperf: counts of queries, seconds, and latencies if it printed them."""

    sent: int
    completed: int
    lost: int
    failed: int
    seconds: float
    mean_latency: float
    latencies: Sequence[float] = field(default=(), repr=False)


@dataclass(frozen=True)
class Load:
    """One run: addresses, questions and options.

    `rate` is in queries a second; None means the highest rate. `short` as in `Case`. A reply with
    an rcode other than `rcode` counts as failed.
    """

    addresses: Sequence[str]
    port: int
    questions: Path
    core: int
    seconds: float | None = None
    tcp: bool = False
    short: bool = False
    tls: bool = False
    https: bool = False
    once: bool = False
    rcode: str = "NOERROR"
    rate: int | None = None


def pinned(command: Sequence[str], core: int) -> list[str]:
    """Return `command` bound to one core."""
    return ["taskset", "-c", str(core), *command]


def write_questions(path: Path, names: Iterable[str]) -> Path:
    """Write an input file for dnsperf with an A query for each name."""
    with path.open("w") as file:
        file.writelines(f"{name} A\n" for name in names)
    return path


def run(load: Load) -> Outcome:
    """Run the load to its end; raises `LoadError`."""
    processes = [
        subprocess.Popen(
            command(load, address), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for address in load.addresses
    ]
    outcomes = []
    for process in processes:
        output, errors = process.communicate()
        if process.returncode:
            raise LoadError(f"load generator: {errors.strip() or output.strip()}")
        is_ours = load.short or load.https
        outcomes.append(Outcome(**json.loads(output)) if is_ours else parse(output, load.rcode))
    return combine(outcomes)


def command(load: Load, address: str) -> list[str]:
    """Return the command of the generator for one of the addresses."""
    if load.short:
        kind = "tls" if load.tls else "tcp"
        return _own("connections", [kind, address], load)
    if load.https:
        return _own("https_load", [address], load)
    return pinned(_dnsperf(load, address), load.core)


def _own(module: str, words: Sequence[str], load: Load) -> list[str]:
    rate = [] if load.rate is None else [str(load.rate)]
    words = [*words, str(load.port), str(load.seconds), str(load.questions), *rate]
    return pinned([sys.executable, "-m", f"benchmarks.{module}", *words], load.core)


def _dnsperf(load: Load, address: str) -> list[str]:
    count = len(load.addresses)
    command = ["dnsperf", "-s", address, "-p", str(load.port), "-d", str(load.questions)]
    mode = "dot" if load.tls else "tcp" if load.tcp else "udp"
    command += ["-m", mode, "-t", str(TIMEOUT), "-T", "1"]
    command += ["-c", str(max(1, CLIENTS // count)), "-q", str(max(1, OUTSTANDING // count))]
    if load.seconds is not None:
        command += ["-l", str(load.seconds)]
    if load.once:
        command += ["-n", "1"]
    if load.rate is not None:
        command += ["-v", "-Q", str(max(1, load.rate // count))]
    return command


def parse(output: str, rcode: str = "NOERROR") -> Outcome:
    """Parse dnsperf's report; raises `LoadError` if it is not valid.

    `rcode` is that of the right answers.
    """
    answers, _, report = output.partition(
        "\nStatistics:\n"
    )  # TCP has "Connection Statistics:" below
    counts = {key: int(value) for key, value in _COUNTS.findall(report)}
    run_time = _RUN_TIME.search(report)
    if run_time is None or counts.keys() != {"sent", "completed", "lost"}:
        raise LoadError(f"dnsperf printed no statistics: {output[-500:]}")
    codes = report.partition("Response codes:")[2].partition("\n")[0]
    right = sum(int(count) for code, count in _CODES.findall(codes) if code == rcode)
    latency = _LATENCY.search(report)
    return Outcome(
        **counts,
        failed=counts["completed"] - right,
        seconds=float(run_time[1]),
        mean_latency=float(latency[1]) if latency else 0.0,
        latencies=parse_answers(answers),
    )


def parse_answers(text: str) -> list[float]:
    """Return the latencies in seconds from the lines of `dnsperf -v`.

    The line of an answer is "> RCODE NAME TYPE SECONDS"; the line of a timeout has no seconds.
    """
    lines = (line.split() for line in text.splitlines() if line.startswith("> "))
    return [float(fields[4]) for fields in lines if len(fields) == 5]


def combine(outcomes: Sequence[Outcome]) -> Outcome:
    """Combine the outcomes of concurrent runs."""
    completed = sum(outcome.completed for outcome in outcomes)
    weighted = sum(outcome.mean_latency * outcome.completed for outcome in outcomes)
    return Outcome(
        sent=sum(outcome.sent for outcome in outcomes),
        completed=completed,
        lost=sum(outcome.lost for outcome in outcomes),
        failed=sum(outcome.failed for outcome in outcomes),
        seconds=max(outcome.seconds for outcome in outcomes),
        mean_latency=weighted / completed if completed else 0.0,
        latencies=[latency for outcome in outcomes for latency in outcome.latencies],
    )
