"""Distinguishes a process that gets no CPU time from one that hangs.

On an overloaded node, a healthy process may be unresponsive for seconds. Killing it makes matters
worse: its successor gets no CPU time either, and has to start up first. The scheduling statistics
of the kernel distinguish the two cases (proc_pid_schedstat in the kernel's sched-stats
documentation, proc_pid_stat(5)).
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Final, NamedTuple

STARVED_SHARE: Final = 0.5
"""Share of the time that a starved process waits for a CPU."""

RUNNING_SHARE: Final = 0.05
"""Maximum share of CPU time of a starved process that is still in the run queue.

The kernel adds a wait to its statistics only at the end of the wait.
"""

_PROC = Path("/proc")
_STOPPED = "T", "t"


class CpuTimes(NamedTuple):
    """Scheduling statistics of the main thread of a process; times in nanoseconds."""

    at: int
    """Time of measurement on the monotonic clock."""

    ran: int
    waited: int
    """Time in a run queue, without a CPU."""

    state: str
    """State as in /proc/PID/stat: R runs or waits for a CPU, S sleeps, T is stopped."""


def cpu_times(pid: int) -> CpuTimes | None:
    """Return the statistics of process `pid`; None if it is gone, or without kernel support."""
    try:
        ran, waited, _ = (_PROC / str(pid) / "schedstat").read_text().split()
        return CpuTimes(time.monotonic_ns(), int(ran), int(waited), _state(pid))
    except (OSError, ValueError):
        return None


def is_starved(before: CpuTimes | None, now: CpuTimes | None) -> bool:
    """Return whether a process that was unresponsive from `before` to `now` lacked CPU time."""
    if before is None or now is None or now.state in _STOPPED:
        return False
    silence = now.at - before.at
    if now.waited - before.waited >= STARVED_SHARE * silence:
        return True
    return now.state == "R" and now.ran - before.ran <= RUNNING_SHARE * silence


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
    stat = (_PROC / str(pid) / "stat").read_text()
    return stat.rpartition(")")[2].split()[0]  # the name before it may contain anything
