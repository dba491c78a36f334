"""Records which tests run which lines: called by instrumented modules, and a pytest plugin.

The tracer copies this file into the traced tree; it imports nothing of the project. Each test has a
file of its own, to which every process that runs code for it appends. That includes a server that
the test starts and kills: it inherits the name of the test in its environment.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import pytest

TRACE: Final = "COREPY_MUTANTS_TRACE"
"""The environment variable that names the folder of the files."""

REPORTS: Final = "reports"
"""The file with a row for each phase of each test: JSON of [node ID, outcome, seconds]."""

_folder: Final = os.environ.get(TRACE, "")
_seen: Final[set[str]] = set()
_test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0]
"""The test that started this process; in a pytest process the current test."""


def file_of(test: str) -> str:
    """Return the name of the file of a test."""
    return hashlib.sha256(test.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def hit(place: str) -> None:
    """Record that the running test reached a line: "MODULE LINE"."""
    if place not in _seen:
        _seen.add(place)
        if _test:
            # Opened each time: a server closes descriptors unknown to it.
            _append(file_of(_test), f"{place}\n")


def pytest_runtest_logstart(nodeid: str) -> None:
    """Store the current test; under xdist the controller runs none of the modules."""
    global _test
    _test = nodeid
    _seen.clear()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Record the outcome and duration of a phase; under xdist only in the controller."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        row = json.dumps([report.nodeid, report.outcome, report.duration])
        _append(REPORTS, f"{row}\n")


def _append(name: str, row: str) -> None:
    try:
        with Path(_folder, name).open("a") as file:
            file.write(row)
    except OSError:
        pass  # the test limits descriptors, memory or disk; its other lines are known
