"""Running tests on one fault at a time, each worker in a copy of the tree of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from mutants import tracing

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mutants.mutations import Mutation

MOST_TESTS: Final = 400
"""Tests run for one mutant; a line that more tests run is noticed by the first of them or not."""

_ORDER: Final = ("plugins/", "tests/test_", "tests/kernel/")

_OUTCOMES: Final = {0: "passed", 1: "failed", 2: "failed", 3: "failed"}
"""By exit code; 2 and 3: the faulty module cannot be imported, or breaks pytest itself."""


class Outcome(NamedTuple):
    """The end of one trial: noticed by a failing test, by a time-out, or not."""

    noticed: bool
    how: str
    tests: Sequence[str]


class Copy:
    """A copy of the working tree, with everything that git knows or would add."""

    def __init__(self, source: Path, folder: Path) -> None:
        self.folder = folder
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

    def pytest(self, tests: Iterable[str], limit: float, *flags: str, trace: str = "") -> str:
        """Run tests; returns "passed", "failed" or "time-out"."""
        plugins = sorted(str(path) for path in self.folder.glob("plugins/*"))
        path = os.pathsep.join([str(self.folder), *plugins])
        env = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
        env[tracing.TRACE] = trace
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *flags, *tests]
        process = subprocess.Popen(  # noqa: S603  # pytest on tests of this tree
            command,
            cwd=self.folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            code = process.wait(limit or None)
        except subprocess.TimeoutExpired:
            return "time-out"
        finally:
            with_group(process.pid, signal.SIGKILL)
            process.wait()
        if code not in _OUTCOMES:
            raise RuntimeError(f"pytest ended with exit code {code}: {' '.join(command)}")
        return _OUTCOMES[code]

    def trace(
        self, modules: Sequence[str], paths: Sequence[str]
    ) -> dict[tuple[str, int], set[str]]:
        """Run `paths` once with `modules` instrumented; returns the tests by (module, line)."""
        originals = {name: (self.folder / name).read_text() for name in modules}
        probe, trace = self.folder / f"{tracing.PROBE}.py", self.folder / "trace.txt"
        probe.write_text(tracing.PROBE_SOURCE)
        for name, text in originals.items():
            (self.folder / name).write_text(tracing.instrument(text, name))
        try:
            self.pytest(paths, 0, "-n", "2", trace=str(trace))
        finally:
            for name, text in originals.items():
                (self.folder / name).write_text(text)
            probe.unlink()
        found = tracing.read(trace)
        trace.unlink(missing_ok=True)
        return found

    def try_out(self, name: str, mutation: Mutation, tests: Iterable[str]) -> Outcome:
        """Make the fault in the module `name`, run `tests` until one fails, and mend it again."""
        chosen = sorted(tests, key=_rank)[:MOST_TESTS]
        if not chosen:
            return Outcome(False, "no test runs the line", ())
        path, limit = self.folder / name, limit_for(chosen)
        original = path.read_text()
        path.write_text(mutation.apply(original))
        try:
            how = self.pytest(chosen, limit, "-x")
            if how == "time-out":  # a busy machine, or a fault that makes something wait for ever
                how = self.pytest(chosen, 3 * limit, "-x")
        finally:
            path.write_text(original)
        return Outcome(how != "passed", how, chosen)


def _rank(test: str) -> tuple[int, str]:
    """Return the sort key that puts a plugin's own tests first and those with a kernel last."""
    return next((i for i, it in enumerate(_ORDER) if test.startswith(it)), 0), test


def limit_for(tests: Sequence[str]) -> float:
    """Return the seconds that the tests of one trial may take."""
    return 60 + 0.5 * min(len(tests), MOST_TESTS)


def with_group(pid: int, number: int) -> None:
    """Send a signal to a process group, if any of it is left."""
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        pass
