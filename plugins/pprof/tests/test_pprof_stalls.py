"""The block profile: what keeps the event loop from turning."""

import asyncio
import time

import pytest

from corepy_pprof import collectors, stalls
from corepy_pprof.frames import RawStack
from corepy_pprof.stalls import Place, StallRecorder


def place(number, *, is_starved=False):
    return Place(RawStack((), (number,)), is_starved)


def block(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def test_code_that_blocks_is_found():
    async def run():
        recorder = StallRecorder(asyncio.get_running_loop())
        recorder.set_rate(1)
        try:
            for _ in range(200):  # once, unless this machine is busy
                block(0.1)
                await asyncio.sleep(0.01)
                profile = collectors.block(recorder.stalls)
                if any("block" in frame.function for it in profile.samples for frame in it.stack):
                    break
        finally:
            recorder.set_rate(0)
        return profile

    profile = asyncio.run(run())
    assert profile.types == (("contentions", "count"), ("delay", "nanoseconds"))
    (found, *_) = [
        it for it in profile.samples if any("block" in frame.function for frame in it.stack)
    ]
    assert found.values[1] > 10_000_000
    assert found.labels in ((), (("cause", "no processor"),))


def test_nothing_runs_unless_it_is_asked_for():
    async def run():
        recorder = StallRecorder(asyncio.get_running_loop())
        recorder.set_rate(0)
        assert recorder._thread is None
        recorder.set_rate(5)
        first = recorder._thread
        recorder.set_rate(7)
        assert recorder._thread is first
        recorder.set_rate(0)
        assert recorder._thread is None
        assert not first.is_alive()

    asyncio.run(run())


@pytest.fixture
def recorder():
    loop = asyncio.new_event_loop()
    yield StallRecorder(loop)
    loop.close()


def test_a_stall_counts_once_and_its_time_where_it_was(recorder):
    recorder.record([(place(1), 30), (place(2), 20), (place(1), 5)])
    recorder.record([(place(2, is_starved=True), 40)])
    assert recorder.stalls == {
        place(1): (1, 35),
        place(2): (0, 20),
        place(2, is_starved=True): (1, 40),
    }
    labels = [it.labels for it in collectors.block(recorder.stalls).samples]
    assert labels == [(), (("cause", "no processor"),)]


@pytest.mark.parametrize(("dice", "stalls_seen"), [(99, {}), (25, {place(1): (4, 100)})])
def test_short_stalls_are_sampled(recorder, monkeypatch, dice, stalls_seen):
    monkeypatch.setattr(stalls.secrets, "randbelow", lambda limit: min(dice, limit - 1))
    recorder._rate = 100
    recorder.record([(place(1), 25)])
    assert recorder.stalls == stalls_seen


def test_memory_is_bounded(recorder, monkeypatch):
    monkeypatch.setattr(stalls, "MAX_STACKS", 2)
    for number in range(5):
        recorder.record([(place(number), 1)])
    assert recorder.stalls == {
        place(0): (1, 1),
        place(1): (1, 1),
        Place(stalls.OTHER, is_starved=False): (3, 3),
    }
