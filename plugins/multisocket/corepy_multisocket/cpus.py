"""Determine the number of processors that this process may use."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def usable(root: Path = Path("/")) -> int:
    """Return the number of processors that affinity and cgroup allow, at least 1.

    A fraction of a processor counts as one, as in Go's GOMAXPROCS. (Go uses at least two. Its
    threads cost almost nothing, unlike processes here.)
    """
    quotas = [quota for folder in _folders(root) if (quota := _read_quota(folder))]
    return min([len(os.sched_getaffinity(0)), *quotas])


def _folders(root: Path) -> Iterator[Path]:
    """Yield the folders of this cgroup and its parents, in both versions (cgroup(7))."""
    mount = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        base = mount / "cpu" if controllers else mount
        yield base  # in a container the path is the host's, and the mount its own group
        folder = base / path.lstrip("/")
        while folder != base:
            yield folder
            folder = folder.parent


def _read_quota(folder: Path) -> int | None:
    """Return the processors that a cgroup may use, rounded up; None if it has no limit."""
    words = _read(folder / "cpu.max").split() or [
        _read(folder / "cpu.cfs_quota_us").strip(),
        _read(folder / "cpu.cfs_period_us").strip(),
    ]
    if len(words) != 2 or not all(word.isdigit() and int(word) for word in words):
        return None
    quota, period = map(int, words)
    return -(-quota // period)


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
