"""The memory limit of this process."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_NO_LIMIT: Final = 2**60
"""Lower bound of the number that version 1 of cgroups reports for "unlimited"."""


def cgroup_limit(root: Path = Path("/")) -> int | None:
    """Return the lowest memory limit in bytes of the process's cgroup and its ancestors.

    None without a limit.
    """
    limits = [_read_limit(file) for file in _limit_files(root)]
    return min((limit for limit in limits if limit is not None), default=None)


def _limit_files(root: Path) -> Iterator[Path]:
    """Yield the files that may contain a limit, in both versions of cgroups (cgroup(7))."""
    mount = root / "sys/fs/cgroup"
    for line in read_text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, name = mount, "memory.max"
        elif "memory" in controllers.split(","):
            base, name = mount / "memory", "memory.limit_in_bytes"
        else:
            continue
        folder = base / path.lstrip("/")
        # In a container the path is the host's, and the mount is the container's own group.
        yield base / name
        while folder != base:
            yield folder / name
            folder = folder.parent


def _read_limit(file: Path) -> int | None:
    text = read_text(file).strip()
    if not text.isdigit() or int(text) >= _NO_LIMIT:
        return None
    return int(text)


def read_text(file: Path) -> str:
    """Return the content of a kernel file; "" if it does not exist."""
    try:
        return file.read_text()
    except OSError:
        return ""
