"""The requests between the leader and the followers, both ends in one event loop."""

import asyncio
import os
import socket
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.plugin import ProcessGroup
from corepy.testing import until
from corepy_pprof import packing, processes
from corepy_pprof.cpu import ProfilerUnavailable
from corepy_pprof.measures import Part
from corepy_pprof.measuring import BusyError, Measurement
from corepy_pprof.packing import pack, unpack
from corepy_pprof.parameters import Parameters
from corepy_pprof.processes import Followers, MeasuredFollower
from corepy_pprof.profile import Frame, Profile, Sample, ValueType
from corepy_pprof.timeline import Moment, Timeline

ANY = Parameters(None, 0, False)
COUNT = ValueType("goroutine", "count")
PROFILE = Profile("goroutine", (COUNT,), [Sample((Frame("f", "/f.py", 3),), (1,))], COUNT)


class Group(ProcessGroup):
    """A leader of several processes that are all this one."""

    size = 3

    def listen(self, name, connected):
        assert name == "pprof"
        self.connected = connected

    async def connect(self, name):
        mine, theirs = socket.socketpair()
        for each in (mine, theirs):
            each.setblocking(False)
        self.connected(theirs)
        return mine


class Measures:
    """Returns or raises what the test decides."""

    def __init__(self, outcome):
        self.outcome = outcome
        self.begun = asyncio.Event()

    async def take(self, name, parameters):
        self.begun.set()
        if isinstance(self.outcome, Measurement):
            with self.outcome.hold(name, 300):
                await self.outcome.wait(300)
            return Part(1, f"{name}, ended")
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return Part(1, self.outcome)


def measures_with(outcome: object) -> Any:
    """Return such measures in place of the ones of a process."""
    return Measures(outcome)


async def found_with(*outcomes):
    group = Group()
    followers = Followers(group)
    linked = [
        MeasuredFollower(await group.connect("pprof"), measures_with(each), Measurement())
        for each in outcomes
    ]
    found = await followers.take("goroutine", ANY)
    for each in linked:
        await each.close()
    await until(lambda: not followers.count)
    followers.close()
    return found


def test_the_answers_of_all_followers():
    found = asyncio.run(found_with(PROFILE, "text"))
    assert found.parts == [Part(os.getpid(), PROFILE), Part(os.getpid(), "text")]
    assert found.problems == []


def test_each_follower_that_is_missing_has_a_reason(caplog):
    found = asyncio.run(found_with(BusyError("busy"), ProfilerUnavailable("no signal")))
    assert found.parts == []
    missing = f"process {os.getpid()} is missing: "
    assert found.problems == [missing + "busy", missing + "no signal"]
    found = asyncio.run(found_with(LookupError("no data")))
    assert found.problems == [
        f"{missing}LookupError: no data",
        "1 more processes are missing: they do not run yet",
    ]
    assert "failed to measure goroutine: LookupError: no data" in caplog.text


def test_a_follower_that_does_not_answer(monkeypatch):
    monkeypatch.setattr(processes, "PATIENCE", 0.01)
    monkeypatch.setattr(processes, "PROFILE_SECONDS", 0.0)
    monkeypatch.setattr(processes, "HEAP_SECONDS", 0.0)
    monkeypatch.setattr(processes, "FLUSH_TIMEOUT", 0.01)

    async def run():
        return await found_with(Measurement())

    assert asyncio.run(run()).problems[0].endswith("is missing: it does not answer")


def test_a_request_that_is_cancelled_ends_the_measurement():
    async def run():
        group, measurement = Group(), Measurement()
        followers = Followers(group)
        measures = measures_with(measurement)
        link = MeasuredFollower(await group.connect("pprof"), measures, measurement)
        task = asyncio.create_task(followers.take("heap", ANY))
        await measures.begun.wait()
        assert measurement.is_active
        task.cancel()
        await asyncio.wait([task])
        await until(lambda: not measurement.is_active)
        assert link.is_open
        followers.close()
        await until(lambda: not link.is_open)
        await link.close()

    asyncio.run(run())


class Endless:
    """Measures for a long time, unless the request is for one moment: that one never answers."""

    def __init__(self, measurement):
        self.measurement = measurement
        self.begun = []

    async def take(self, name, parameters):
        self.begun.append(name)
        if name == "goroutine":
            await asyncio.Event().wait()
        with self.measurement.hold(name, 300):
            await self.measurement.wait(300)
        return Part(1, "ended")


def test_a_request_of_one_moment_that_is_cancelled_ends_no_measurement():
    async def run():
        group, measurement = Group(), Measurement()
        followers, measures = Followers(group), Endless(measurement)
        several: Any = measures
        MeasuredFollower(await group.connect("pprof"), several, measurement)
        heap = asyncio.create_task(followers.take("heap", ANY))
        snapshot = asyncio.create_task(followers.take("goroutine", ANY))
        await until(lambda: len(measures.begun) == 2)
        snapshot.cancel()
        await asyncio.wait([snapshot])
        (channel,) = followers._channels
        channel.begin("goroutine", ANY)  # arrives after all that was sent because of `cancel`
        await until(lambda: len(measures.begun) == 3)
        assert measurement.is_active
        heap.cancel()
        await asyncio.wait([heap])
        await until(lambda: not measurement.is_active)
        followers.close()

    asyncio.run(run())


FRAME = st.builds(Frame, st.text(max_size=5), st.text(max_size=5), st.integers(0, 99))
STACKS = st.lists(FRAME, max_size=3).map(tuple)
LABELS = st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5)), max_size=2).map(tuple)
SAMPLES = st.lists(st.builds(Sample, STACKS, st.tuples(st.integers()), LABELS), max_size=9)
MOMENTS = st.lists(st.builds(Moment, STACKS, st.text(max_size=3), st.integers(), st.integers()))


@settings(max_examples=40, deadline=None)
@given(SAMPLES, MOMENTS, st.text("a\xe4\n\udc80\udcff"))
def test_content_is_unpacked_as_it_was(samples, moments, text):
    profile = Profile("x", (COUNT, COUNT), samples, COUNT, 1, 2, 3, ["c"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "AT_ONCE", 3)  # a few samples, so that there are several portions
        for content in (profile, Timeline(moments, 7), text):
            assert unpack(*pack(content)) == content
