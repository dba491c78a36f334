"""Distinguishes a process that gets no CPU time from one that hangs.

On an overloaded node, a healthy process may be unresponsive for seconds. Killing it makes matters
worse: its successor gets no CPU time either, and has to start up first. The scheduling statistics
of the kernel distinguish the two cases (proc_pid_schedstat in the kernel's sched-stats
documentation, proc_pid_stat(5)).

All threads of the process count: one that waits for a CPU may hold the interpreter's lock, for
which the others sleep.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from typing import Final, NamedTuple

STARVED_SHARE: Final = 0.5
"""Share of the time that a starved process waits for a CPU."""

RUNNING_SHARE: Final = 0.05
"""Maximum share of CPU time of a starved process that is still in the run queue.

The kernel adds a wait to its statistics only at the end of the wait.
"""

_PROC = "/proc"
_STOPPED = "T", "t"


class CpuTimes(NamedTuple):
    """Scheduling statistics of a process, the sums of its threads; times in nanoseconds."""

    at: int
    """Time of measurement on the monotonic clock."""

    ran: int
    waited: int
    """Time in a run queue, without a CPU."""

    state: str
    """State as in /proc/PID/stat: R runs or waits for a CPU, S sleeps, T is stopped.

    R if it is that of any thread, otherwise that of the main thread.
    """


def cpu_times(pid: int) -> CpuTimes | None:
    """Return the statistics of process `pid`; None if it is gone, or without kernel support."""
    at, ran, waited = time.monotonic_ns(), 0, 0
    try:
        state = _state(pid)
        threads = f"{_PROC}/{pid}/task"
        for thread in os.listdir(threads):  # four times a second, so not pathlib
            with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
                spent = _read(f"{threads}/{thread}/schedstat").split()
                ran += int(spent[0])
                waited += int(spent[1])
                if state == "S" and _state_in(_read(f"{threads}/{thread}/stat")) == "R":
                    state = "R"
    except (OSError, ValueError, IndexError):
        return None
    return CpuTimes(at, ran, waited, state)


def is_starved(before: CpuTimes | None, now: CpuTimes | None) -> bool:
    """Return whether a process that was unresponsive from `before` to `now` lacked CPU time."""
    if before is None or now is None or now.state in _STOPPED:
        return False
    silence = now.at - before.at
    if now.waited - before.waited >= STARVED_SHARE * silence:
        return True
    return now.state == "R" and now.ran - before.ran <= RUNNING_SHARE * silence


def seconds_waited(before: CpuTimes | None, now: CpuTimes | None) -> float:
    """Return the seconds from `before` to `now` in which a process waited for a CPU.

    0.0 if it is not known, and for a process that is stopped.
    """
    if before is None or now is None or now.state in _STOPPED:
        return 0.0
    return min(now.waited - before.waited, now.at - before.at) / 1e9


class ThreadCpu:
    """The CPU time of the thread that creates it; for other threads of the process."""

    def __init__(self) -> None:
        self._id = threading.get_native_id()
        self._clock: int | None = None
        if hasattr(time, "pthread_getcpuclockid"):  # not on macOS
            self._clock = time.pthread_getcpuclockid(threading.get_ident())

    def ran(self) -> float:
        """Return the thread's CPU time in seconds; 0.0 without support of the platform."""
        return 0.0 if self._clock is None else time.clock_gettime(self._clock)

    def is_starved(self, since: float, seconds: float) -> bool:
        """Return whether the thread waits for a CPU, and did so for most of the last `seconds`.

        `since` is what `ran` returned at their beginning.
        """
        if self._clock is None or self.ran() - since > (1 - STARVED_SHARE) * seconds:
            return False
        try:
            return _state(self._id) == "R"
        except (OSError, ValueError):
            return False


def is_stopped(pid: int) -> bool:
    """Return whether process `pid` is stopped by a signal (SIGSTOP) or a debugger."""
    try:
        return _state(pid) in _STOPPED
    except (OSError, ValueError):
        return False


def _state(pid: int) -> str:
    return _state_in(_read(f"{_PROC}/{pid}/stat"))


def _read(path: str) -> bytes:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(file, 4096)
    finally:
        os.close(file)


def _state_in(stat: bytes) -> str:
    return stat.rpartition(b")")[2].split()[0].decode()  # the name before it may contain anything
