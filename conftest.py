"""Hooks and fixtures of every test run.

They keep garbage collection and scrapes fast, and tests independent of each other and of time.
"""

from __future__ import annotations

import gc
import logging
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from corepy import release
from corepy.plugin import metrics
from corepy.plugin.log import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator


# No property depends on the speed of the machine.
settings.register_profile("corepy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("corepy")

collect_ignore = [] if release.form() == "compiled" else ["tests/compiled"]


def pytest_report_header() -> str:
    """Return a line with the form under test, so that a failure is read as one of that form."""
    return f"corepy: the {release.form()} form, {sys.implementation.name} {sys.version.split()[0]}"


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Freeze the collected tests, because each reload in a test runs the garbage collector."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def _remove_series_of_upstreams() -> Iterator[None]:
    """Remove the series of a module's upstreams, because a scrape exports all of the process."""
    yield
    for metric in metrics.registered():
        if "to" in metric.label_names:
            for labels, _ in metric.children():
                metric.remove(*labels)


@pytest.fixture(autouse=True)
def _leaves_the_log_as_it_was() -> Iterator[None]:
    """Fail a test that changes the log for those after it, which would fail in its place."""
    before = _log_settings()
    yield
    assert _log_settings() == before


def _log_settings() -> tuple[object, ...]:
    """Return what `corepy.plugin.log.configure` and tests change."""
    log, process = logging.getLogger(ROOT), logging.getLogger()
    return log.level, log.propagate, log.handlers[:], process.level
