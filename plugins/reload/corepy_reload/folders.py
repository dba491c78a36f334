"""Find the folders to watch so that every change of a file is detected.

The kubelet changes a mounted ConfigMap by replacing one symbolic link on the path to the file
(`..data`). So each folder with a link on the path is watched, and the folder of the file itself.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_MOST_LINKS = 40  # the kernel's limit


class Folder(NamedTuple):
    """A folder at a path; a different folder at the same path is a different `Folder`."""

    path: str
    device: int
    inode: int


def folders_of(files: Iterable[Path]) -> frozenset[Folder]:
    """Return the folders to watch for `files`, which need not exist."""
    paths = {path for file in files for path in _on_the_way(str(file))}
    return frozenset(folder for path in paths if (folder := _folder(path)))


def _on_the_way(file: str) -> set[str]:
    found: set[str] = set()
    parts, at, links = _reversed(file), "/", 0
    while parts:
        part = parts.pop()
        path = os.path.dirname(at) if part == ".." else os.path.join(at, part)
        if not parts:
            found.add(at)
        target = _link(path) if links < _MOST_LINKS else None
        if target is None:
            at = path
            continue
        links += 1
        found.add(at)
        parts += _reversed(target)
        if target.startswith("/"):
            at = "/"
    return found


def _reversed(path: str) -> list[str]:
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]


def _link(path: str) -> str | None:
    try:
        return os.readlink(path)
    except OSError:
        return None


def _folder(path: str) -> Folder | None:
    """Return the folder at `path`, or the nearest existing one above it."""
    while True:
        try:
            status = os.stat(path)
        except OSError:
            if path == "/":
                return None
            path = os.path.dirname(path)
            continue
        return Folder(path, status.st_dev, status.st_ino)
