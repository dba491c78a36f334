"""Finds the zone files of a folder (CoreDNS: plugin/auto/walk.go)."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from corepy.zone import ZoneError, origin_from_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from corepy.plugin import NamePattern

DEFAULT_PATTERN: Final = r"db\.(.*)"
DEFAULT_TEMPLATE: Final = "{1}"

_HIDDEN: Final = ".."
"""The beginning of the names that Kubernetes gives to the versions of a volume."""

_REFERENCE: Final = re.compile(r"\$\$|\$?\{([^{}]*)\}|\$(\w+)", re.ASCII)


class FoundFiles(NamedTuple):
    """The result of walking a folder."""

    paths: dict[bytes, Path]
    """The file of each origin."""

    problems: list[str]


class Folder:
    """A folder, the expression that file names match, and the template that makes origins."""

    def __init__(self, path: Path, pattern: NamePattern, template: str = DEFAULT_TEMPLATE) -> None:
        self.path = path
        self.pattern = pattern
        self.template = template

    def walk(self) -> FoundFiles:
        """Return the zone files in the folder and below it, in a thread; raises `OSError`.

        Of several files for one origin, the first one is used, in the order of their paths. The
        folder itself may be a link, and so may files, but not folders in it.
        """
        found = FoundFiles({}, [])
        for path in _files_below(Path(os.path.realpath(self.path)), found.problems):
            text = self.origin_of(path.name)
            if text is None:
                continue
            try:
                origin = origin_from_text(text)
            except ZoneError as error:
                found.problems.append(f"{path}: {error}")
                continue
            first = found.paths.setdefault(origin, path)
            if first != path:
                problem = f"{first} and {path} are both for {text}: the first is used"
                found.problems.append(problem)
        return found

    def origin_of(self, name: str) -> str | None:
        """Return the origin for a file name, None if it does not match (Go: ExpandString)."""
        try:
            groups = self.pattern.find(name)
        except UnicodeEncodeError:  # a name that is not UTF-8
            groups = None
        if groups is None:
            return None

        def value(reference: re.Match[str]) -> str:
            if reference[0] == "$$":
                return "$"
            number = _group(self.pattern, reference)
            return groups[number] if 0 <= number < len(groups) else ""

        origin = _REFERENCE.sub(value, self.template)
        return origin if origin.endswith(".") else f"{origin}."


def unknown_groups(pattern: NamePattern, template: str) -> list[str]:
    """Return the references in `template` to groups that `pattern` does not have."""
    references = (it for it in _REFERENCE.finditer(template) if it[0] != "$$")
    return [it[0] for it in references if not 0 <= _group(pattern, it) <= pattern.groups]


def _group(pattern: NamePattern, reference: re.Match[str]) -> int:
    """Return the number of the group that a reference names; -1 for an unknown name."""
    key = reference[1] if reference[1] is not None else reference[2]
    return int(key) if key.isdigit() else pattern.named_groups.get(key, -1)


def _files_below(folder: Path, problems: list[str]) -> Iterator[Path]:
    """Yield all entries except folders, in the order of names; the top folder must be readable.

    Folders may be nested deeper than Python functions.
    """
    waiting = _entries(folder)
    while waiting:
        entry = waiting.pop()
        if not entry.is_dir(follow_symlinks=False):
            yield Path(entry.path)
        elif not entry.name.startswith(_HIDDEN):
            try:
                waiting += _entries(entry.path)
            except OSError as error:
                problems.append(f"cannot read {entry.path}: {error.strerror}")


def _entries(folder: str | Path) -> list[os.DirEntry[str]]:
    """Return the entries of a folder, the last one first; raises OSError."""
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name, reverse=True)
