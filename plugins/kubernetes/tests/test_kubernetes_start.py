"""The start: how long it waits for the first objects."""

import asyncio
import logging
from typing import Any

import pytest

from corepy.testing import helper_module
from corepy_kubernetes import kubernetes
from corepy_kubernetes.objects import Kind

kube = helper_module(__file__, "kubernetes_cluster")


class Source:
    """A source that has all objects after some turns of the event loop; None for never."""

    def __init__(self, index, turns):
        self.index = index
        self.turns = turns
        self.calls = []
        self.task = None

    async def start(self, context):
        self.calls.append("start")
        self.task = asyncio.create_task(self._sync())

    async def _sync(self):
        for _ in range(self.turns or 0):
            await asyncio.sleep(0)
        if self.turns is not None:
            for kind in Kind:
                self.index.relist(kind).finish()

    async def stop(self):
        self.calls.append("stop")

    def status(self):
        return {"state": "synced", "problems": []}


def started(turns, *, timeout=60.0, keeps=False, rehearsed=False):
    """A handler after its start and its end."""
    cluster = kube.Cluster(synced=False)
    handler = cluster.handler
    handler.source = Source(cluster.index, turns)
    handler.startup_timeout = timeout
    handler.keeps = keeps

    async def main():
        context: Any = None
        await (handler.rehearse if rehearsed else handler.before_listen)(context)
        was_ready = handler.ready()
        await handler.shutdown(context)
        return was_ready

    return handler.source, asyncio.run(main())


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(kubernetes, "POLL", 0.0)
    monkeypatch.setattr(kubernetes, "LOG_AFTER", 0.0)


def lines(caplog):
    return [it.getMessage() for it in caplog.records if it.name == "corepy.plugin.kubernetes"]


def test_a_start_waits_for_the_first_objects(caplog):
    caplog.set_level(logging.INFO)
    source, was_ready = started(5)
    assert was_ready
    assert source.calls == ["start", "stop"]
    assert lines(caplog) == ["waiting for Kubernetes API before starting server"]


@pytest.mark.parametrize(("timeout", "longest"), [(0.0, 50.0), (3600.0, 0.0)])
def test_a_start_does_not_wait_for_ever(timeout, longest, monkeypatch, caplog):
    monkeypatch.setattr(kubernetes, "LONGEST_START", longest)
    caplog.set_level(logging.INFO)
    _, was_ready = started(None, timeout=timeout)
    assert not was_ready
    assert lines(caplog) == ["starting server with unsynced Kubernetes API"]


@pytest.mark.parametrize(("keeps", "calls"), [(True, ["start", "stop"]), (False, ["stop"])])
def test_without_a_server_only_a_file_is_read(keeps, calls):
    source, was_ready = started(0, keeps=keeps, rehearsed=True)
    assert source.calls == calls
    assert was_ready is keeps


def test_status():
    cluster = kube.Cluster(kube.objects())
    cluster.handler.source = Source(cluster.index, None)
    assert cluster.handler.status() == {
        "state": "synced",
        "problems": [],
        "zones": ["cluster.local."],
        "namespaces": 4,
        "services": 10,
        "endpointslices": 6,
    }
