"""The command `python -m benchmarks`: measure, print the tables, update the documentation."""

from __future__ import annotations

import argparse
import signal
import sys
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.ask import AnswerError
from benchmarks.cases import CASES
from benchmarks.load import LoadError
from benchmarks.machine import describe, sources_digest
from benchmarks.report import tables, write_page
from benchmarks.results import Results
from benchmarks.runner import Plan, Runner
from benchmarks.running import StartError
from benchmarks.servers import COMPILED, COREDNS, NODE_CACHE, all_servers

if TYPE_CHECKING:
    from collections.abc import Iterator

SHORT = Plan(rounds=3, seconds=0.5, latency_rounds=1, starts=3)
FULL = Plan(rounds=9, seconds=3, latency_rounds=3, starts=7)
FOOTPRINT = "footprint"
DOCS = Path(__file__).parent.parent / "docs"


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; the exit code is 1 if a server did not start or answered wrongly."""
    arguments = _parser().parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # SystemExit also stops the servers
    plan = _plan(arguments)
    servers = [one for one in all_servers() if one.name in arguments.servers]
    results = Results()
    problems: list[Exception] = []
    sources = sources_digest()
    with Runner(servers, plan, _say) as runner:
        if FOOTPRINT in arguments.cases:
            with _noting(problems):
                results.footprints = runner.footprints()
        for case in CASES:
            if case.key in arguments.cases:
                with _noting(problems):
                    results.cases.append(runner.case(case))
    if sources_digest() != sources:
        problems.append(
            StartError("corepy's source changed during the run: figures of two servers")
        )
        _say(f"benchmarks: {problems[-1]}")
    machine = describe(servers, plan)
    print(machine + "\n\n" + tables(results))
    if arguments.write_docs and not problems:
        _write_docs(machine, results)
    return 1 if problems else 0


def _write_docs(machine: str, results: Results) -> None:
    from benchmarks.plots import draw  # only this needs matplotlib

    images = DOCS / "img"
    images.mkdir(exist_ok=True)
    plots = draw(results, images)
    shown = "\n\n".join(f"![{title}](img/{name})" for name, title in plots.items())
    parts = {"machine": machine, "tables": tables(results), "plots": shown}
    write_page(DOCS / "benchmarks.md", parts)


@contextmanager
def _noting(problems: list[Exception]) -> Iterator[None]:
    """Continue after a failed case: print the error, and append it to `problems`."""
    try:
        yield
    except (AnswerError, LoadError, StartError) as error:
        _say(f"benchmarks: {error}")
        problems.append(error)


def _parser() -> argparse.ArgumentParser:
    cases = [FOOTPRINT, *(case.key for case in CASES)]
    servers = [server.name for server in all_servers()]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure corepy side by side with other DNS servers on loopback.",
        epilog=f"The environment variable {COREDNS} names a binary of CoreDNS if the PATH has none,"
        f" {NODE_CACHE} one of node-cache, and {COMPILED} the interpreter of an environment with"
        " the compiled form of corepy.",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--short", action="store_true", help="two minutes, rough figures (the default)"
    )
    form.add_argument(
        "--full", action="store_true", help="a quarter of an hour or more, figures to publish"
    )
    parser.add_argument("--rounds", type=int, help="rounds for every server and case")
    parser.add_argument("--seconds", type=float, help="seconds of a round")
    for flag, known in (("--cases", cases), ("--servers", servers)):
        parser.add_argument(
            flag,
            type=partial(_chosen, known),
            default=known,
            metavar="A,B",
            help=f"only these of {', '.join(known)}",
        )
    parser.add_argument(
        "--write-docs", action="store_true", help="put tables and plots into docs/benchmarks.md"
    )
    return parser


def _chosen(known: list[str], text: str) -> list[str]:
    chosen = text.split(",")
    if unknown := set(chosen).difference(known):
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: not one of {known}")
    return chosen


def _plan(arguments: argparse.Namespace) -> Plan:
    form = FULL if arguments.full else SHORT
    return Plan(
        rounds=arguments.rounds or form.rounds,
        seconds=arguments.seconds or form.seconds,
        latency_rounds=form.latency_rounds,
        starts=form.starts,
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
