"""A process that has imported pytest and the libraries, but no module of the project.

It forks for each run of tests, so that a run costs neither the start of Python nor those imports.
Requests are lines of JSON on standard input; replies go to standard output.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Sequence

MARK: Final = "COREPY_MUTANTS_WARM"
"""The environment variable that all descendants of a warm process share."""

LIBRARIES: Final = (
    *("asyncio", "dns.message", "dnslib", "h11", "h2.connection"),
    *("hypothesis.strategies", "lark", "pluggy", "prometheus_client", "pyroute2", "re2", "yaml"),
)

SECONDS_TO_COLLECT: Final = 60.0
SECONDS_TO_END: Final = 15.0
"""Limit of the teardown after a failure; remaining processes are killed then."""

_PROGRESS: Final = struct.Struct("!i")
"""The number of the test that starts, or its inverse (~) when it fails."""

_OUTCOMES: Final = {0: "passed", 1: "failed", 2: "failed", 3: "failed", 5: "passed"}
"""By exit code of pytest.

2 and 3: the faulty module cannot be imported, or breaks pytest itself. 5: parameters computed from
the module have changed, so no test has that name.
"""


class Result(NamedTuple):
    """The result of a run: "passed", "failed" or "time-out", and the number of the test."""

    how: str
    test: int


def main() -> None:
    """Serve until standard input ends."""
    for name in LIBRARIES:
        try:
            importlib.import_module(name)
        except ImportError:
            pass  # it has no wheel for this Python version
    early = [name for name in sys.modules if name.startswith("corepy")]
    if early:
        raise RuntimeError(f"imported before the fork: {', '.join(early)}")
    gc.freeze()
    for line in sys.stdin:
        request = json.loads(line)
        result = run(request["tests"], request["limits"])
        sys.stdout.write(json.dumps(result) + "\n")
        sys.stdout.flush()


def run(tests: Sequence[str], limits: Sequence[float]) -> Result:
    """Run tests in a child until one fails or takes longer than its limit."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(reading)
        _child(tests, writing)
    os.close(writing)
    ended = os.pidfd_open(pid)
    try:
        how, number = _watch(reading, ended, limits)
    finally:
        os.close(ended)
        os.close(reading)
        kill_descendants(os.environ[MARK])
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return Result(how or _OUTCOMES.get(code, "failed"), number)


def _watch(reading: int, ended: int, limits: Sequence[float]) -> tuple[str, int]:
    """Follow the progress of a child; return the outcome, empty if the exit code determines it."""
    number, limit = -1, SECONDS_TO_COLLECT
    failed = False
    while True:
        ready, _, _ = select.select([reading, ended], [], [], limit)
        if reading in ready and (message := os.read(reading, _PROGRESS.size)):
            (progress,) = _PROGRESS.unpack(message)
            failed = failed or progress < 0
            if not failed:
                number = progress
            limit = SECONDS_TO_END if failed else limits[number]
        elif failed:
            return "failed", number
        else:
            return ("", number) if ready else ("time-out", number)


def _child(tests: Sequence[str], progress: int) -> NoReturn:
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(null, descriptor)
    # Use the same examples in each trial, so that its outcome does not depend on chance.
    settings.register_profile("mutants", derandomize=True, database=None)
    settings.load_profile("mutants")
    files = dict.fromkeys(test.partition("::")[0] for test in tests)
    # Disable autoload: pytest would warn about plugins that are already imported.
    flags = ("-q", "-x", "-p", "no:cacheprovider", "--disable-plugin-autoload")
    code = pytest.main([*flags, *files], plugins=[_Selection(tests, progress)])
    os._exit(code)


class _Selection:
    """A pytest plugin: runs the chosen tests in their order, and reports progress."""

    def __init__(self, tests: Sequence[str], progress: int) -> None:
        self._numbers = {test: number for number, test in enumerate(tests)}
        self._progress = progress

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        chosen = [item for item in items if item.nodeid in self._numbers]
        items[:] = sorted(chosen, key=lambda item: self._numbers[item.nodeid])

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        os.write(self._progress, _PROGRESS.pack(self._numbers[nodeid]))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            os.write(self._progress, _PROGRESS.pack(~self._numbers[report.nodeid]))


def kill_descendants(mark: str) -> None:
    """Kill every process with the mark in its environment except this one.

    A server started by a test may have a session of its own, and its parents may have exited.
    """
    wanted = f"{MARK}={mark}".encode()
    while True:
        found = [pid for pid in _others() if wanted in _environment(pid)]
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if not found:
            return


def _others() -> list[int]:
    return [
        int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()
    ]


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


if __name__ == "__main__":
    main()
