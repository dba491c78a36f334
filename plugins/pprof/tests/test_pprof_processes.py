"""The requests between the leader and the followers, both ends in one event loop."""

import asyncio
import os
import socket
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.plugin import ProcessGroup
from corepy_pprof import processes
from corepy_pprof.cpu import ProfilerUnavailable
from corepy_pprof.measures import Part
from corepy_pprof.measuring import BusyError, Measurement
from corepy_pprof.parameters import Parameters
from corepy_pprof.processes import Followers, MeasuredFollower, pack, unpack
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
    while followers.count:  # noqa: ASYNC110  # the other end has no event
        await asyncio.sleep(0)
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
        while measurement.is_active:  # noqa: ASYNC110  # the other end has no event
            await asyncio.sleep(0)
        assert link.is_open
        followers.close()
        while link.is_open:  # noqa: ASYNC110  # the other end has no event
            await asyncio.sleep(0)
        await link.close()

    asyncio.run(run())


FRAME = st.builds(Frame, st.text(max_size=5), st.text(max_size=5), st.integers(0, 99))
STACKS = st.lists(FRAME, max_size=3).map(tuple)
SAMPLES = st.lists(st.builds(Sample, STACKS, st.tuples(st.integers())), max_size=9)
MOMENTS = st.lists(st.builds(Moment, st.text(max_size=3), st.integers(), st.integers(), STACKS))


@settings(max_examples=40, deadline=None)
@given(SAMPLES, MOMENTS)
def test_what_is_packed_is_unpacked(samples, moments):
    before, processes.AT_ONCE = processes.AT_ONCE, 3  # a few items
    try:
        profile = Profile("x", (COUNT,), samples, COUNT, comments=["c"])
        for content in (profile, Timeline(moments, 7), "text"):
            assert unpack(*pack(content)) == content
    finally:
        processes.AT_ONCE = before
