"""Telling a process that gets no CPU from one that hangs.

On a node with more work than CPUs a healthy process may be silent for seconds. Who killed it for
that would make matters worse: its successor starves, too, and has to start first. What the kernel
knows of the process tells the two apart (proc_pid_schedstat in the kernel's
sched-stats documentation, proc_pid_stat(5)).
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final, NamedTuple

HUNGRY: Final = 0.5
"""Share of the time that a starved process waits for a CPU."""

IDLE: Final = 0.05
"""Share of the time that one may have run at most if it has waited since before the time began:
the kernel counts what a process has waited when it gets a CPU, not before.
"""

_PROC = Path("/proc")
_STOPPED = "T", "t"


class Diet(NamedTuple):
    """What the main thread of a process has got so far; times in nanoseconds."""

    at: int
    """When this was looked up, by the monotonic clock."""

    ran: int
    waited: int
    """In a run queue, without a CPU."""

    state: str
    """As in /proc/PID/stat: R runs or waits for a CPU, S sleeps, T is stopped."""


def diet(pid: int) -> Diet | None:
    """Return what process `pid` has got; None if it is gone, or the kernel does not say."""
    try:
        ran, waited, _ = (_PROC / str(pid) / "schedstat").read_text().split()
        return Diet(time.monotonic_ns(), int(ran), int(waited), _state(pid))
    except (OSError, ValueError):
        return None


def is_starved(before: Diet | None, now: Diet | None) -> bool:
    """Return whether a process that was silent from `before` to `now` was so for want of a CPU."""
    if before is None or now is None or now.state in _STOPPED:
        return False
    silence = now.at - before.at
    if now.waited - before.waited >= HUNGRY * silence:
        return True
    return now.state == "R" and now.ran - before.ran <= IDLE * silence


def is_stopped(pid: int) -> bool:
    """Return whether a signal (SIGSTOP), or a debugger, holds process `pid`."""
    try:
        return _state(pid) in _STOPPED
    except (OSError, ValueError):
        return False


def _state(pid: int) -> str:
    stat = (_PROC / str(pid) / "stat").read_text()
    return stat.rpartition(")")[2].split()[0]  # the name before may hold anything
