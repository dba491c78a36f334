"""Runs tests on one fault at a time, each worker in its own copy of the tree."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from mutants import warm

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mutants.mutations import Mutation
    from mutants.trace import Test

MOST_SECONDS: Final = 45.0
"""Limit of the tests run for one mutant: the sum of their durations in the trace run."""

FIRST: Final = 25
"""Tests of the first batch; most mutants are noticed in it, and only its files are collected."""


class Outcome(NamedTuple):
    """The result of one trial: whether a test failed or did not end, and which."""

    noticed: bool
    how: str


class Copy:
    """A copy of the working tree, and a warm process to run its tests."""

    def __init__(self, source: Path, folder: Path, suite: dict[str, Test], sound: set[str]) -> None:
        """Copy the tree.

        Args:
            source: The tree.
            folder: Where the copy will be.
            suite: All tests.
            sound: Tests that passed here without a fault, shared by the copies; grows.
        """
        self.folder = folder
        self._suite = suite
        self._sound = sound
        self._unsound: set[str] = set()
        self._changes = 0
        copy_tree(source, folder)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mutants.warm"],
            cwd=folder,
            env={**environment_of(folder), warm.MARK: str(folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def close(self) -> None:
        """End the warm process."""
        self._process.communicate()

    def try_out(self, name: str, mutation: Mutation, tests: Iterable[str]) -> Outcome:
        """Make the fault in the module `name`, run `tests` until one fails, and undo the fault."""
        waiting = self._affordable(tests)
        if not waiting:
            return Outcome(False, "no test runs the line")
        while waiting := [it for it in waiting if it not in self._unsound]:
            how, test = self._with_fault(name, mutation, waiting)
            if how == "passed":
                return Outcome(False, f"{len(waiting)} tests passed")
            if not test:
                self._check_collection(waiting)
                return Outcome(True, "the module cannot be imported")
            if self._is_sound(test):
                return Outcome(True, f"{how}: {test}")
            waiting = waiting[waiting.index(test) + 1 :]
        return Outcome(False, "only tests that fail without the fault run the line")

    def _affordable(self, tests: Iterable[str]) -> list[str]:
        """Return as many of the first `tests` as the time limit of a mutant allows."""
        chosen: list[str] = []
        left = MOST_SECONDS
        for test in tests:
            left -= self._suite[test].seconds
            if chosen and left < 0:
                break
            chosen.append(test)
        return by_file(chosen[:FIRST]) + by_file(chosen[FIRST:])

    def _with_fault(self, name: str, mutation: Mutation, tests: list[str]) -> tuple[str, str]:
        path = self.folder / name
        original, times = path.read_text(), path.stat()
        path.write_text(mutation.apply(original))
        # Cached bytecode is matched by size and modification time in seconds.
        self._changes += 1
        os.utime(path, (times.st_atime, times.st_mtime + 10 * self._changes))
        try:
            for batch in filter(None, (tests[:FIRST], tests[FIRST:])):
                how, test = self._run(batch)
                if how != "passed":
                    return how, test
        finally:
            path.write_text(original)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        return "passed", ""

    def _run(self, tests: list[str], patience: int = 1) -> tuple[str, str]:
        """Run tests until one fails; returns the outcome and that test."""
        limits = [patience * (6 + 10 * self._suite[test].seconds) for test in tests]
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"tests": tests, "limits": limits}) + "\n")
        self._process.stdin.flush()
        how, number = json.loads(self._process.stdout.readline())
        if how == "time-out" and patience == 1:  # a busy machine, or a deadlock
            return self._run(tests[max(number, 0) :], patience=3)
        return how, tests[number] if number >= 0 else ""

    def _is_sound(self, test: str) -> bool:
        """Return whether a test passes without a fault."""
        if test not in self._sound:
            how, _ = self._run([test])
            (self._sound if how == "passed" else self._unsound).add(test)
        return test not in self._unsound

    def _check_collection(self, tests: list[str]) -> None:
        how, test = self._run(tests[:1])
        if how != "passed" and not test:
            raise RuntimeError(f"{tests[0]}: cannot be collected in {self.folder}")


def by_file(tests: Sequence[str]) -> list[str]:
    """Return tests grouped by file, so that they share fixtures."""
    files = list(dict.fromkeys(test.partition("::")[0] for test in tests))
    return sorted(tests, key=lambda test: files.index(test.partition("::")[0]))


def copy_tree(source: Path, folder: Path) -> None:
    """Copy all files that git tracks or would add."""
    listed = subprocess.run(
        ["/usr/bin/git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=source,
        capture_output=True,
        check=True,
    ).stdout.decode()
    for name in filter(None, listed.split("\0")):
        if (source / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / name, folder / name)
    subprocess.run(["/usr/bin/git", "init", "--quiet"], cwd=folder, check=True)


def environment_of(folder: Path) -> dict[str, str]:
    """Return an environment in which a copy of the tree precedes the installed packages."""
    plugins = sorted(str(path) for path in folder.glob("plugins/*"))
    paths = [str(folder), *plugins, str(Path(__file__).parent.parent)]
    # A test of this tool may itself run in a process of pytest-xdist.
    inherited = {name: it for name, it in os.environ.items() if not name.startswith("PYTEST_")}
    return {**inherited, "PYTHONPATH": os.pathsep.join(paths)}


def command_of(*words: str) -> list[str]:
    """Return a command that runs pytest."""
    return [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words]
