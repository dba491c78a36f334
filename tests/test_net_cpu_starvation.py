"""Telling a process that gets no CPU from one that hangs."""

import hashlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from corepy.net.cpu_starvation import (
    CpuTimes,
    ThreadCpu,
    cpu_times,
    is_starved,
    is_stopped,
    seconds_waited,
)
from corepy.testing.command import wait_until

SECOND = 10**9
BEFORE = CpuTimes(at=5 * SECOND, ran=3 * SECOND, waited=SECOND, state="R")


@pytest.mark.parametrize(
    ("ran", "waited", "state", "starved"),
    [
        (0.3, 1.5, "R", True),
        (0.3, 1.5, "S", True),  # it has just got what it waited for
        (0.0, 0.0, "R", True),  # it waits all the time, which is counted when it ends
        (2.0, 0.0, "R", False),  # spins
        (1.2, 0.7, "R", False),
        (0.0, 0.0, "S", False),  # blocked
        (0.1, 0.1, "D", False),
        (0.1, 1.6, "T", False),  # stopped, whatever was before
        (0.1, 1.6, "t", False),
    ],
)
def test_who_waits_for_a_cpu_most_of_the_time_is_starved(ran, waited, state, starved):
    now = CpuTimes(
        BEFORE.at + 2 * SECOND,
        BEFORE.ran + int(ran * SECOND),
        BEFORE.waited + int(waited * SECOND),
        state,
    )
    assert is_starved(BEFORE, now) is starved


def test_of_whom_nothing_is_known_is_not():
    assert not is_starved(None, BEFORE)
    assert not is_starved(BEFORE, None)


def test_the_time_that_a_process_waited():
    now = BEFORE._replace(at=BEFORE.at + 2 * SECOND, waited=BEFORE.waited + SECOND // 2)
    assert seconds_waited(BEFORE, now) == 0.5
    assert (
        seconds_waited(BEFORE, now._replace(waited=BEFORE.waited + 3 * SECOND)) == 2.0
    )  # of two threads
    assert seconds_waited(BEFORE, now._replace(state="T")) == 0.0
    assert seconds_waited(None, now) == seconds_waited(BEFORE, None) == 0.0


def test_the_kernel_is_asked():
    before = cpu_times(os.getpid())
    spent = sum(range(1_000_000))
    now = cpu_times(os.getpid())
    assert spent
    assert now.state == "R"
    assert now.at > before.at
    assert now.ran > before.ran
    assert now.waited >= before.waited


def write_threads(folder, *threads):
    """Write /proc files: the main thread first, each as (state, ran, waited)."""
    for number, (state, ran, waited) in enumerate(threads, 7):
        thread = folder / "7/task" / str(number)
        thread.mkdir(parents=True, exist_ok=True)
        (thread / "stat").write_text(f"{number} (a) b) {state} 1 1")
        (thread / "schedstat").write_text(f"{ran} {waited} 3\n")
    (folder / "7/stat").write_text((folder / "7/task/7/stat").read_text())


@pytest.mark.parametrize(
    ("main", "other", "starved"),
    [
        ("S", "R", True),  # the other thread holds the interpreter's lock, and waits for a CPU
        ("S", "S", True),  # likewise, and it has just had a CPU
        ("T", "R", False),
    ],
)
def test_a_thread_that_waits_for_a_cpu_keeps_the_others_waiting(
    main, other, starved, tmp_path, monkeypatch
):
    monkeypatch.setattr("corepy.net.cpu_starvation._PROC", str(tmp_path))
    write_threads(tmp_path, (main, 5, 5), (other, 10, 20), ("S", 1, 1))
    now = time.monotonic_ns()
    before = cpu_times(7)
    assert before.at >= now
    assert before[1:] == (16, 26, other if starved else main)
    write_threads(tmp_path, (main, 5, 5), (other, 11, 20 + 2 * SECOND), ("S", 1, 1))
    (tmp_path / "7/task/10").mkdir()  # a thread that is ending
    assert is_starved(before._replace(at=before.at - SECOND), cpu_times(7)) is starved


def test_a_stopped_process_is_known_as_such():
    sleeps = [sys.executable, "-c", "input()"]
    with subprocess.Popen(sleeps, stdin=subprocess.PIPE) as process:
        assert not is_stopped(process.pid)
        process.send_signal(signal.SIGSTOP)
        wait_until(lambda: is_stopped(process.pid))
        assert cpu_times(process.pid).state == "T"
        process.kill()
    assert not is_stopped(process.pid)
    assert cpu_times(process.pid) is None


def test_the_cpu_time_of_a_thread():
    """The digests leave the interpreter's lock to this thread, so that the other one runs on."""
    measured: queue.Queue[ThreadCpu] = queue.Queue()
    begun, stop = threading.Event(), threading.Event()

    def compute():
        measured.put(ThreadCpu())
        begun.wait()
        while not stop.is_set():
            hashlib.pbkdf2_hmac("sha256", b"", b"", 10_000)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(compute)
        cpu = measured.get()
        wait_until(lambda: not cpu.is_starved(cpu.ran(), 3600))  # it waits for something else
        ran = cpu.ran()
        begun.set()
        wait_until(lambda: cpu.is_starved(ran, 3600))  # it has had little of an hour
        wait_until(lambda: cpu.ran() > ran + 0.02)
        assert not cpu.is_starved(ran, 0.02)
        stop.set()
