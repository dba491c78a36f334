"""Hooks and fixtures of every test run, which keep garbage collection and scrapes fast."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest

from corepy.plugin import metrics

if TYPE_CHECKING:
    from collections.abc import Iterator


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
