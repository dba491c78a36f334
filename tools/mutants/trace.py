"""The record of a trace run: which tests run a line, and which of them to run first."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from mutants import statements

if TYPE_CHECKING:
    from pathlib import Path


class Test(NamedTuple):
    """One test: its duration, and the (module, line) pairs that it runs."""

    seconds: float
    lines: frozenset[tuple[str, int]]

    @property
    def cost(self) -> float:
        """The sort key: quick tests and those that run little else come first."""
        return (self.seconds + 0.02) * len(self.lines)


class Trace:
    """Tests by node ID, and digests of the modules that were instrumented."""

    def __init__(self, digests: dict[str, str], tests: dict[str, Test]) -> None:
        self.digests = digests
        self.tests = tests
        self._by_line: dict[tuple[str, int], list[str]] = defaultdict(list)
        self._by_module: dict[str, list[str]] = defaultdict(list)
        for name in sorted(tests, key=lambda it: (tests[it].cost, it)):
            for place in tests[name].lines:
                self._by_line[place].append(name)
            for module in {module for module, _ in tests[name].lines}:
                self._by_module[module].append(name)

    def is_of(self, module: str, text: str) -> bool:
        """Return whether the trace was made with this text of the module."""
        return self.digests.get(module) == digest(text)

    def tests_of(self, module: str, line: int, texts: dict[str, str]) -> list[str]:
        """Return the tests that run the innermost traced statement around `line`, cheapest first.

        For a line outside of functions: first the tests that run a statement with a name that it
        defines, then all tests that run any line of the module. `texts` has every module of the
        trace.
        """
        places = statements.using(module, line, texts)
        if places is None:
            return self._by_line.get((module, statements.innermost(texts[module], line)), [])
        users = {test for place in places for test in self._by_line.get(place, ())}
        rest = (test for test in self._by_module.get(module, ()) if test not in users)
        return [*sorted(users, key=lambda it: (self.tests[it].cost, it)), *rest]

    def updated(self, newer: Trace) -> Trace:
        """Return a trace with the tests of another one added or replaced."""
        return Trace(self.digests, {**self.tests, **newer.tests})

    def save(self, path: Path) -> None:
        """Write the file that `load` reads."""
        modules = sorted(self.digests)
        number = {module: index for index, module in enumerate(modules)}
        tests = {
            name: (test.seconds, sorted((number[module], line) for module, line in test.lines))
            for name, test in self.tests.items()
        }
        with gzip.open(path, "wt", compresslevel=3) as file:
            json.dump({"digests": self.digests, "tests": tests}, file)


def load(path: Path) -> Trace:
    """Read the file that `Trace.save` has written."""
    with gzip.open(path, "rt") as file:
        kept = json.load(file)
    modules = sorted(kept["digests"])
    places: dict[tuple[int, int], tuple[str, int]] = {}  # one object per place, shared by all tests
    tests = {
        name: Test(
            seconds,
            frozenset(
                places.setdefault((number, line), (modules[number], line)) for number, line in lines
            ),
        )
        for name, (seconds, lines) in kept["tests"].items()
    }
    return Trace(kept["digests"], tests)


def digest(text: str) -> str:
    """Return a digest that identifies a text of a module."""
    return hashlib.sha256(text.encode()).hexdigest()
