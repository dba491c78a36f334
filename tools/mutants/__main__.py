"""The command: draw a sample of mutants, try them, print the survivors."""

from __future__ import annotations

import argparse
import queue
import random
import re
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from mutants import mutations, tracing
from mutants.groups import GROUPS, TESTS, modules_of
from mutants.trace import load
from mutants.trials import Copy, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mutants.mutations import Mutation
    from mutants.trace import Trace

_SURVIVOR: Final = re.compile(r"^survivor: (.+):(\d+), (.+)$", re.MULTILINE)
ROOT: Final = Path(__file__).resolve().parents[2]


class Mutant(NamedTuple):
    """A mutation of one module of a group, and the tests that run its line."""

    group: str
    module: str
    mutation: Mutation
    tests: Sequence[str]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    options = _parser().parse_args(arguments)
    chosen = dict.fromkeys(name for name, _ in options.group) if options.group else GROUPS
    counts = dict(options.group or ())
    globs = {name: tuple(options.module or GROUPS[name]) for name in chosen}
    modules = {name: modules_of(options.root, it) for name, it in globs.items()}
    trace = _trace(sorted({it for names in modules.values() for it in names}), options)
    texts = {name: (options.root / name).read_text() for name in trace.digests}
    mutants = []
    for group, names in modules.items():
        sample = _sample(names, texts, counts.get(group) or options.count, options)
        _say(f"{group}: {len(sample)} mutants of {len(names)} modules, seed {options.seed}")
        for name, it in sample:
            if not trace.is_of(name, texts[name]):
                sys.exit(f"{options.trace}: made with another {name}; remove the file")
            mutants.append(Mutant(group, name, it, trace.tests_of(name, it.line, texts)))
    outcomes = _try_all(mutants, trace, options)
    for mutant, outcome in outcomes:
        if not outcome.noticed:
            _report(mutant, outcome, texts[mutant.module])
    for group in modules:
        _say_share(group, [it.noticed for mutant, it in outcomes if mutant.group == group])
    if len(modules) > 1:
        _say_share("all", [outcome.noticed for _, outcome in outcomes])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    add = parser.add_argument
    add("--root", type=Path, default=ROOT, help="the tree (default: this one)")
    add("--group", action="append", type=_group, help=f"NAME or NAME:COUNT of {', '.join(GROUPS)}")
    add("--module", action="append", help="glob of modules instead of the group's")
    add(
        "--tests",
        action="extend",
        nargs="+",
        help="pytest arguments of the trace (default: most tests)",
    )
    add("--trace", type=Path, help="file of the trace: used if it exists, written otherwise")
    add(
        "--retrace",
        action="extend",
        nargs="+",
        help="pytest arguments; adds these tests to the trace",
    )
    add("--count", type=int, default=30, help="mutants of a group (default: 30)")
    add("--seed", type=int, default=1, help="of the sample (default: 1)")
    add("--jobs", type=int, default=2, help="trials at a time (default: 2)")
    add("--again", type=Path, help="output of a run with this seed: only its survivors")
    add("--line", type=int, help="all mutants of this line instead of a sample")
    return parser


def _group(word: str) -> tuple[str, int]:
    name, _, count = word.partition(":")
    if name not in GROUPS:
        raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(GROUPS)}")
    return name, int(count or 0)


def _trace(modules: Sequence[str], options: argparse.Namespace) -> Trace:
    """Load or make the trace. A trace that is kept covers all groups, not only those selected."""
    kept: Path | None = options.trace
    if kept and not options.module:
        modules = sorted(
            {it for globs in GROUPS.values() for it in modules_of(options.root, globs)}
        )
    if kept and kept.exists():
        trace = load(kept)
        if not options.retrace:
            return trace
        newer = tracing.trace(options.root, modules, options.retrace, options.jobs)
        trace = trace.updated(newer)
    else:
        _say(f"tracing the tests of {len(modules)} modules")
        trace = tracing.trace(options.root, modules, options.tests or TESTS, options.jobs)
    if kept:
        trace.save(kept)
    return trace


def _sample(
    names: Iterable[str], texts: dict[str, str], count: int, options: argparse.Namespace
) -> list[tuple[str, Mutation]]:
    found = [(name, it) for name in names for it in mutations.find(texts[name])]
    if options.line:
        return [(name, it) for name, it in found if it.line == options.line]
    chance = random.Random(options.seed)  # noqa: S311  # a sample that can be drawn again
    sample = sorted(chance.sample(found, min(count, len(found))))
    if not options.again:
        return sample
    survivors = set(_SURVIVOR.findall(options.again.read_text()))
    return [(name, it) for name, it in sample if (name, str(it.line), it.kind) in survivors]


def _try_all(
    mutants: Sequence[Mutant], trace: Trace, options: argparse.Namespace
) -> list[tuple[Mutant, Outcome]]:
    """Try the mutants, one at a time in each copy; return the outcomes in the mutants' order."""
    waiting: queue.SimpleQueue[tuple[int, Mutant]] = queue.SimpleQueue()
    for item in enumerate(mutants):
        waiting.put(item)
    outcomes: dict[int, tuple[Mutant, Outcome]] = {}

    def work(copy: Copy) -> None:
        while True:
            try:
                number, mutant = waiting.get_nowait()
            except queue.Empty:
                return copy.close()
            outcome = copy.try_out(mutant.module, mutant.mutation, mutant.tests)
            outcomes[number] = mutant, outcome
            where = f"{mutant.module}:{mutant.mutation.line} {mutant.mutation.kind}"
            _say(f"  {'noticed ' if outcome.noticed else 'SURVIVED'} {where} ({outcome.how})")

    sound: set[str] = set()
    with tempfile.TemporaryDirectory(prefix="corepy-mutants-") as folder:
        threads = []
        for number in range(min(options.jobs, len(mutants))):
            copy = Copy(options.root, Path(folder, str(number)), trace.tests, sound)
            threads.append(threading.Thread(target=work, args=(copy,)))
            threads[-1].start()
        for thread in threads:
            thread.join()
    return [outcomes[number] for number in sorted(outcomes)]


def _report(mutant: Mutant, outcome: Outcome, text: str) -> None:
    _say(f"\nsurvivor: {mutant.module}:{mutant.mutation.line}, {mutant.mutation.kind}")
    before, after = mutations.changed_line(text, mutant.mutation)
    _say(f"  - {before}\n  + {after}\n    {outcome.how}")
    for test in mutant.tests[:5]:
        _say(f"    run by {test}")
    if len(mutant.tests) > 5:
        _say(f"    and {len(mutant.tests) - 5} more tests")


def _say_share(name: str, noticed: Sequence[bool]) -> None:
    share = 100 * sum(noticed) / len(noticed) if noticed else 100
    _say(f"{name}: {sum(noticed)} of {len(noticed)} noticed ({share:.0f} %)")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
