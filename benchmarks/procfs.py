"""The CPU time and memory of a process tree, as the kernel counts them.

CPU time is utime + stime. It is read from the process's CPU clock (clock_getcpuclockid(3)): the
same count in nanoseconds, including threads that have ended. /proc/PID/stat has it only in
hundredths of a second, which is too coarse for a round of half a second. Reaped children (dnsmasq
forks for each TCP connection) are counted by cutime + cstime.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")
_CPUCLOCK_SCHED = 2  # linux/posix-timers_types.h: the process's clock is (~pid << 3) | 2


def parse_stat(text: str) -> tuple[int, float]:
    """Return the parent's ID and the reaped children's CPU seconds from /proc/PID/stat."""
    fields = text.rpartition(")")[2].split()  # the name, in parentheses, may contain any character
    return int(fields[1]), (int(fields[13]) + int(fields[14])) / _TICKS


def parse_pss(text: str) -> int:
    """Return the proportional set size in KiB from a /proc/PID/smaps_rollup."""
    for line in text.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


def tree(pid: int) -> dict[int, float]:
    """Return `pid` and its descendants, each with the CPU seconds of its reaped children."""
    stats = dict(_stats())
    found = {pid: stats[pid][1]} if pid in stats else {}
    pending = list(found)
    while pending:
        parent = pending.pop()
        children = {child: own for child, (ppid, own) in stats.items() if ppid == parent}
        found |= children
        pending += children
    return found


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds that the tree of `pid` has used so far."""
    return sum(reaped + _clock(member) for member, reaped in tree(pid).items())


def pss_kib(pid: int) -> int:
    """Return the memory of the tree of `pid` in KiB; shared pages are divided among their users."""
    total = 0
    for member in tree(pid):
        try:
            total += parse_pss((PROC / str(member) / "smaps_rollup").read_text())
        except OSError:  # ended meanwhile
            continue
    return total


def _stats() -> list[tuple[int, tuple[int, float]]]:
    found = []
    for folder in PROC.iterdir():
        if folder.name.isdigit():
            try:
                found.append((int(folder.name), parse_stat((folder / "stat").read_text())))
            except OSError:  # ended meanwhile
                continue
    return found


def _clock(pid: int) -> float:
    try:
        return time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED)
    except OSError:  # ended meanwhile
        return 0.0
