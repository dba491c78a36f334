"""The command: draw a sample of mutants, try them, print the survivors."""

from __future__ import annotations

import argparse
import queue
import random
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from mutants import mutations, tracing
from mutants.trials import Copy, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mutants.mutations import Mutation

ROOT: Final = Path(__file__).resolve().parents[2]


class Group(NamedTuple):
    """Modules whose faults the same tests should notice."""

    modules: tuple[str, ...]
    """Glob patterns from the root."""
    tests: tuple[str, ...]
    """Arguments of pytest."""


GROUPS: Final = {
    "corefile": Group(("corepy/corefile/*.py",), ("tests",)),
    "dns": Group(("corepy/dns/*.py",), ("tests", "plugins")),
    "cache": Group(("plugins/cache/corepy_cache/*.py",), ("plugins/cache", "tests")),
    "server": Group(
        tuple(f"corepy/server/{it}.py" for it in ("udp", "tcp", "packet_cache", "query", "router")),
        ("tests", "plugins/cache", "plugins/whoami"),
    ),
    "forward": Group(("plugins/forward/corepy_forward/*.py",), ("plugins/forward", "tests")),
    "nodecache": Group(
        ("plugins/nodecache/corepy_nodecache/*.py",), ("plugins/nodecache", "tests/kernel")
    ),
}


class Mutant(NamedTuple):
    """A mutation of one module, and the tests that run its line."""

    module: str
    mutation: Mutation
    tests: frozenset[str]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    options = _parser().parse_args(arguments)
    for name in options.group or GROUPS:
        group = GROUPS[name]
        if options.module:
            group = group._replace(modules=tuple(options.module))
        if options.tests:
            group = group._replace(tests=tuple(options.tests))
        _run_group(name, group, options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("--root", type=Path, default=ROOT, help="the tree (default: this one)")
    parser.add_argument("--group", action="append", choices=sorted(GROUPS), help="several allowed")
    parser.add_argument("--module", action="append", help="glob of modules instead of the group's")
    parser.add_argument("--tests", action="append", help="pytest arguments instead of the group's")
    parser.add_argument("--count", type=int, default=30, help="mutants of a group (default: 30)")
    parser.add_argument("--seed", type=int, default=1, help="of the sample (default: 1)")
    parser.add_argument("--jobs", type=int, default=2, help="trials at a time (default: 2)")
    parser.add_argument("--line", type=int, help="all mutants of this line instead of a sample")
    return parser


def _run_group(name: str, group: Group, options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="corepy-mutants-") as folder:
        copies = [Copy(options.root, Path(folder) / str(number)) for number in range(options.jobs)]
        sample = _sample(copies[0].folder, group, options)
        modules = sorted({module for module, _ in sample})
        _say(f"{name}: {len(sample)} mutants in {len(modules)} modules, seed {options.seed}")
        traced = copies[0].trace(modules, group.tests)
        texts = {module: (copies[0].folder / module).read_text() for module in modules}
        mutants = [
            Mutant(
                module,
                mutation,
                frozenset(tracing.tests_of(traced, module, texts[module], mutation.line)),
            )
            for module, mutation in sample
        ]
        outcomes = _try_all(copies, mutants)
    noticed = sum(outcome.noticed for _, outcome in outcomes)
    for mutant, outcome in outcomes:
        if not outcome.noticed:
            _report(mutant, outcome, texts[mutant.module])
    share = 100 * noticed / len(outcomes) if outcomes else 100
    _say(f"{name}: {noticed} of {len(outcomes)} noticed ({share:.0f} %)")


def _sample(root: Path, group: Group, options: argparse.Namespace) -> list[tuple[str, Mutation]]:
    names = sorted(
        {str(path.relative_to(root)) for glob in group.modules for path in root.glob(glob)}
    )
    found = [(name, it) for name in names for it in mutations.find((root / name).read_text())]
    if options.line:
        return [(name, it) for name, it in found if it.line == options.line]
    chance = random.Random(options.seed)  # noqa: S311  # a sample that can be drawn again
    return sorted(chance.sample(found, min(options.count, len(found))))


def _try_all(copies: Sequence[Copy], mutants: Iterable[Mutant]) -> list[tuple[Mutant, Outcome]]:
    """Try the mutants, one at a time in each copy; returns the outcomes in the mutants' order."""
    waiting: queue.SimpleQueue[tuple[int, Mutant]] = queue.SimpleQueue()
    for item in enumerate(mutants):
        waiting.put(item)
    outcomes: dict[int, tuple[Mutant, Outcome]] = {}

    def work(copy: Copy) -> None:
        while True:
            try:
                number, mutant = waiting.get_nowait()
            except queue.Empty:
                return
            outcome = copy.try_out(mutant.module, mutant.mutation, mutant.tests)
            outcomes[number] = mutant, outcome
            where = f"{mutant.module}:{mutant.mutation.line} {mutant.mutation.kind}"
            _say(f"  {'noticed ' if outcome.noticed else 'SURVIVED'} {where} ({outcome.how})")

    threads = [threading.Thread(target=work, args=(copy,)) for copy in copies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [outcomes[number] for number in sorted(outcomes)]


def _report(mutant: Mutant, outcome: Outcome, text: str) -> None:
    _say(f"\nsurvivor: {mutant.module}:{mutant.mutation.line}, {mutant.mutation.kind}")
    before, after = mutations.changed_line(text, mutant.mutation)
    _say(f"  - {before}\n  + {after}")
    more = len(mutant.tests) - 5
    for test in outcome.tests[:5]:
        _say(f"    run by {test}")
    if more > 0:
        _say(f"    and {more} more tests")
    if not outcome.tests:
        _say("    run by no test")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
