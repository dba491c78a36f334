"""The CPU profiler, in the main thread of the test."""

import asyncio
import signal
import threading
import time

import pytest

from corepy_pprof import collectors, cpu
from corepy_pprof.cpu import CpuProfiler, ProfilerUnavailable


@pytest.fixture(autouse=True)
def nothing_is_left():
    """No profiler is active after a test."""
    yield
    assert signal.getsignal(signal.SIGPROF) is signal.SIG_DFL
    assert signal.getitimer(signal.ITIMER_PROF) == (0.0, 0.0)


def burn(seconds):
    """Use CPU time of this thread."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        sum(range(200))


def burn_until_sampled(profiler, seconds):
    """The same, and go on to the next sample: how far apart they are depends on the kernel."""
    burn(seconds)
    before = samples_of(profiler)
    while samples_of(profiler) == before:
        burn(0.01)


def samples_of(profiler):
    return sum(count for count, _ in list(profiler.stacks.values()))


def used_in(profile, function):
    return sum(
        sample.values[1]
        for sample in profile.samples
        if any(frame.function.endswith(f".{function}") for frame in sample.stack)
    )


def profile_of(work, profiler=None):
    profiler = profiler or CpuProfiler()

    async def run():
        profiler.start()
        try:
            result = work()
            if result is not None:
                await result
        finally:
            profiler.stop()

    asyncio.run(run())
    return collectors.cpu(profiler)


def test_the_time_is_where_it_was_spent():
    profiler = CpuProfiler()
    profile = profile_of(lambda: burn_until_sampled(profiler, 0.3), profiler)
    spent = sum(sample.values[1] for sample in profile.samples)
    assert 0.2e9 < spent < 1.5e9
    assert used_in(profile, "burn") > 0.8 * spent
    assert used_in(profile, "test_the_time_is_where_it_was_spent.<locals>.<lambda>") > 0.8 * spent
    assert all(sample.values[0] > 0 for sample in profile.samples)
    assert (profile.period_type, profile.period) == (("cpu", "nanoseconds"), 10_000_000)
    assert profile.duration > 0
    assert profile.comments == []


def test_other_threads_have_their_own_samples():
    profiler = CpuProfiler()

    async def work():
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def burn_and_tell():
            burn_until_sampled(profiler, 0.3)
            loop.call_soon_threadsafe(done.set)

        worker = threading.Thread(target=burn_and_tell, name="worker")
        worker.start()
        await done.wait()
        worker.join()

    profile = profile_of(work, profiler)
    labels = {
        sample.labels
        for sample in profile.samples
        if any(frame.function.endswith(".burn") for frame in sample.stack)
    }
    assert labels == {(("thread", "worker"),)}
    assert used_in(profile, "burn") > 0.1e9


def test_an_idle_program_is_not_interrupted():
    async def run():
        profiler.start()
        await asyncio.sleep(0)
        profiler.stop()
        profiler.stop()  # harmless

    profiler = CpuProfiler()
    asyncio.run(run())
    assert sum(count for count, _ in profiler.stacks.values()) <= 1


def test_only_the_main_thread_can_be_interrupted():
    failures = []

    def start():
        try:
            CpuProfiler().start()
        except ProfilerUnavailable as error:
            failures.append(str(error))

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert failures == ["the event loop does not run in the main thread"]


def test_another_profiler_is_left_alone():
    def theirs(number, frame):
        pass

    signal.signal(signal.SIGPROF, theirs)
    try:
        with pytest.raises(ProfilerUnavailable, match="another profiler uses SIGPROF"):
            CpuProfiler().start()
        assert signal.getsignal(signal.SIGPROF) is theirs
    finally:
        signal.signal(signal.SIGPROF, signal.SIG_DFL)


def test_a_late_signal_does_not_end_the_process():
    def work():
        signal.raise_signal(signal.SIGPROF)

    for _ in range(20):
        profile_of(work)
    # SIGPROF that is pending when the profiler stops is discarded: SIG_DFL would end the process.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGPROF])
    try:
        profile_of(work)
        assert signal.SIGPROF not in signal.sigpending()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGPROF])


def test_a_failure_to_sample_does_not_surface(monkeypatch):
    def fail(frame):
        raise RuntimeError("no stack")

    monkeypatch.setattr(cpu, "raw_stack", fail)

    def burn_until_failed():
        """The kernel counts ticks of its clock: beside other processes they may be few."""
        end = time.thread_time() + 60
        while not profiler.failures and time.thread_time() < end:
            burn(0.01)

    profiler = CpuProfiler()
    profile = profile_of(burn_until_failed, profiler)
    assert profiler.failures > 0
    assert profile.comments == [f"{profiler.failures} samples could not be taken"]


def test_samples_are_rare_while_the_loop_is_stalled():
    """Each signal writes to the socket that wakes the loop, which must have room for SIGTERM."""

    def next_signal():
        profiler._interrupted(signal.SIGPROF, None)
        return signal.getitimer(signal.ITIMER_PROF)[0]

    async def run():
        profiler.start()
        try:
            assert 0 < next_signal() < 2 * cpu.PERIOD
            for _ in range(cpu.STALLED):
                last = next_signal()
            assert 5 * cpu.PERIOD < last < 15 * cpu.PERIOD
            profiler._turned()
            assert 0 < next_signal() < 2 * cpu.PERIOD
        finally:
            profiler.stop()

    profiler = CpuProfiler()
    asyncio.run(run())


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(cpu, "MAX_STACKS", 3)
    monkeypatch.setattr(cpu, "MAX_EVENTS", 5)
    profiler = CpuProfiler(keeps_order=True)
    for number in range(10):
        profiler._add(f"thread {number % 5}", cpu.OTHER._replace(offsets=(number,)), 1)
    assert len(profiler.stacks) <= 3 + 5
    assert sum(used for _, used in profiler.stacks.values()) == 10
    assert len(profiler.events) == 5
