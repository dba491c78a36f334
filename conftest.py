"""What every test run has in common: the process of the tests stays small enough to be quick."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest

from corepy.plugin import metrics

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Keep the garbage collector off the collected tests: each reload collects, and would walk over
    all of them.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def _series_of_upstreams_go() -> Iterator[None]:
    """Forget the series of a module's upstreams: each test has its own, and each scrape shows all
    that the process has had.
    """
    yield
    for metric in metrics.registered():
        if "to" in metric.label_names:
            for labels, _ in metric.children():
                metric.remove(*labels)
