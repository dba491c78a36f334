"""The measurement: all servers of a case run, and take turns under load (ABCDE ABCDE ...).

The servers share one core; load generator and upstream share the other. An idle server costs next
to nothing, so the one under load has its core alone. Rounds are short and interleaved, so that slow
moments of the machine affect all servers alike.
"""

from __future__ import annotations

import os
import random
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.ask import free_port
from benchmarks.cases import Case, Names
from benchmarks.load import Load, run, write_questions
from benchmarks.results import CaseResult, Footprint, Round, Track, latency
from benchmarks.running import StartError, running
from benchmarks.servers import Setting
from benchmarks.upstream import (
    HOT,
    MANY,
    cached_name,
    hot_name,
    large_zone_text,
    new_name,
    upstream,
)
from corepy.testing.certificates import Authority

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from benchmarks.load import Outcome
    from benchmarks.running import Running
    from benchmarks.servers import Server

REFERENCE = "unbound"  # latency is measured at half of its highest rate
HEADROOM = 1.25  # a server with less headroom is measured at half of its own highest rate
NEW_RATE = 100_000  # new names prepared per second: more than any server resolves
UNIFORM = 400_000  # questions drawn from the big set, repeated when used up
FOOTPRINT_NAMES = 10_000


@dataclass(frozen=True)
class Plan:
    """The amount of measurements; `latency_rounds` may be 0, `seconds` is the length of a round."""

    rounds: int
    seconds: float
    latency_rounds: int
    starts: int

    def __str__(self) -> str:
        return (
            f"{self.rounds} rounds of {self.seconds:g} s a server and case,"
            f" {self.latency_rounds} more for latency, {self.starts} starts"
        )


class Runner:
    """One run: an upstream, a temporary folder, the cores. Use it as a context manager."""

    def __init__(self, servers: Sequence[Server], plan: Plan, say: Callable[[str], None]) -> None:
        cores = sorted(os.sched_getaffinity(0))
        self.server_core, self.load_core = cores[0], cores[1 % len(cores)]
        self._servers = servers
        self._plan = plan
        self._say = say
        self._stack = ExitStack()
        self._generation = 0

    def __enter__(self) -> Runner:
        with ExitStack() as stack:
            folder = tempfile.TemporaryDirectory(prefix="corepy-bench-")
            self._folder = Path(stack.enter_context(folder))
            self._upstream = stack.enter_context(
                upstream(self._folder / "upstream", self.load_core)
            )
            self._stack = stack.pop_all()
        self._hot = self._questions("hot", map(hot_name, range(HOT)))
        self._zone = self._folder / "zone"
        self._zone.write_text(large_zone_text())
        self._certificate = Authority().issue(self._folder, "dns.example")
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def footprints(self) -> dict[str, Footprint]:
        """Start every server several times; measure it empty and with many names cached."""
        self._say("footprint: starts and memory")
        names = self._questions("footprint", map(cached_name, range(FOOTPRINT_NAMES)))
        servers = [one for one in self._servers if one.forwards]
        seen: dict[str, list[tuple[float, int, int]]] = {one.name: [] for one in servers}
        for start in range(self._plan.starts):
            for server in servers:
                setting = Setting(free_port(), self._upstream, cache_size=2 * FOOTPRINT_NAMES)
                with self._start(server, setting, f"start-{start}") as one:
                    empty = one.pss_kib()
                    self._fill(one, names)
                    seen[server.name].append((one.first_answer, empty, one.pss_kib()))
        return {name: _footprint(values) for name, values in seen.items()}

    def case(self, case: Case) -> CaseResult:
        """Measure one case."""
        self._say(f"{case.key}: {case.title}")
        result = CaseResult(case)
        with ExitStack() as stack:
            group = []
            for server in self._servers:
                setting = case.setting(free_port(), self._upstream, self._zone, self._certificate)
                if not server.takes_part(setting):
                    continue
                if reason := server.unfit(setting):
                    result.unfit[server.name] = reason
                    continue
                group.append(stack.enter_context(self._start(server, setting, case.key)))
                result.tracks[server.name] = Track()
            self._warm(case, group)
            for one in group:
                if remark := one.remark():
                    result.remarks[one.server.name] = remark
            self._rounds(case, group, result)
            self._latencies(case, group, result)
            for one in group:
                result.tracks[one.server.name].pss_kib = one.pss_kib()
        return result

    def _start(
        self, server: Server, setting: Setting, label: str
    ) -> AbstractContextManager[Running]:
        folder = self._folder / f"{label}-{server.name}"
        return running(server, setting, folder, self.server_core)

    def _questions(self, name: str, names: Iterable[str]) -> Path:
        return write_questions(self._folder / f"{name}.questions", names)

    def _warm(self, case: Case, group: Sequence[Running]) -> None:
        """Fill every server's cache with the names of the case."""
        if case.names in {Names.NEW, Names.DISTINCT}:
            return
        names = self._hot
        if case.names is Names.MANY:
            names = self._questions("many", map(cached_name, range(MANY)))
        for one in group:
            self._fill(one, names)

    def _round_questions(self, case: Case) -> Path:
        if case.names is Names.NEW:
            self._generation += 1
            count = int(NEW_RATE * self._plan.seconds)
            new = (new_name(self._generation, number) for number in range(count))
            return self._questions("new", new)
        if case.names is Names.MANY:
            drawn = random.Random(self._generation).choices(range(MANY), k=UNIFORM)
            return self._questions("drawn", map(cached_name, drawn))
        return self._hot

    def _turns(
        self, case: Case, group: Sequence[Running], rounds: int
    ) -> Iterator[tuple[Running, Path]]:
        """Yield each server with its questions, round by round."""
        for _ in range(rounds):
            questions = self._round_questions(case)
            for one in group:
                yield one, self._continued(one) if case.names is Names.DISTINCT else questions

    def _continued(self, one: Running) -> Path:
        """Write all names of the large set, beginning after the last one that `one` was asked."""
        names = (cached_name((one.asked + number) % MANY) for number in range(MANY))
        return self._questions("distinct", names)

    def _rounds(self, case: Case, group: Sequence[Running], result: CaseResult) -> None:
        for one, questions in self._turns(case, group, self._plan.rounds):
            result.tracks[one.server.name].rounds.append(self._round(case, one, questions))

    def _round(self, case: Case, one: Running, questions: Path) -> Round:
        before = one.cpu_seconds()
        outcome = self._measured(case, one, questions)
        used = one.cpu_seconds() - before
        if not outcome.completed:
            raise StartError(f"{one.server.name}: no answer in a round of {case.key}")
        one.forget_log()
        return Round(
            sent=outcome.sent,
            completed=outcome.completed,
            lost=outcome.lost,
            failed=outcome.failed,
            seconds=outcome.seconds,
            cpu_seconds=used,
            mean_latency=outcome.mean_latency,
        )

    def _latencies(self, case: Case, group: Sequence[Running], result: CaseResult) -> None:
        rates = latency_rates({name: track.rate() for name, track in result.tracks.items()})
        for one, questions in self._turns(case, group, self._plan.latency_rounds):
            rate = rates[one.server.name]
            outcome = self._measured(case, one, questions, rate)
            one.forget_log()
            result.tracks[one.server.name].latencies.append(
                latency(rate, outcome.latencies, outcome.lost)
            )

    def _measured(
        self, case: Case, one: Running, questions: Path, rate: int | None = None
    ) -> Outcome:
        outcome = run(
            Load(
                addresses=one.setting.addresses,
                port=one.setting.tls_port or one.setting.port,
                questions=questions,
                core=self.load_core,
                seconds=self._plan.seconds,
                tcp=case.tcp,
                short=case.short,
                tls=case.tls,
                https=case.https,
                once=case.names is Names.NEW,
                rcode=case.rcode,
                rate=rate,
            )
        )
        one.asked += outcome.sent
        return outcome

    def _fill(self, one: Running, questions: Path) -> None:
        """Ask each question once."""
        run(Load(one.setting.addresses, one.setting.port, questions, self.load_core, once=True))


def latency_rates(highest: dict[str, float]) -> dict[str, int]:
    """Return the rate at which to measure each server's latency.

    It is half of the reference's highest rate, or of the server's own if that is too low.
    """
    common = highest.get(REFERENCE, max(highest.values(), default=0.0)) / 2
    return {
        name: int(common if own >= common * HEADROOM else own / 2) for name, own in highest.items()
    }


def _footprint(values: Sequence[tuple[float, int, int]]) -> Footprint:
    first_answers, empty, filled = zip(*values, strict=True)
    return Footprint(first_answers, int(median(empty)), int(median(filled)))
