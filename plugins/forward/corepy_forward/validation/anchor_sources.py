"""`AnchorSources`: the configured trust anchors: those of files, and those of the root.

The anchors of the root are built in. They are used unless a file has anchors of the root, so that a
file with those of another zone does not end the validation of all others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from corepy.dns.names import ROOT
from corepy.plugin import plugin_logger
from corepy.plugin.reading import file_version
from corepy_forward.validation.anchor import ROOT_ANCHORS, zones_of
from corepy_forward.validation.anchor_files import read_anchor_file
from corepy_forward.validation.anchor_records import AnchorError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from corepy_forward.validation.anchor import Configured
    from corepy_forward.validation.anchor_files import AnchorFile

log = plugin_logger("forward")


class AnchorSources:
    """The configured anchors; a file is read again when it has changed."""

    def __init__(self, files: Mapping[Path, AnchorFile]) -> None:
        """Use the anchors of files that were read."""
        self._files = dict(files)
        self._problems: dict[Path, str] = {}
        self.zones: dict[bytes, list[Configured]] = {}
        self._combine()

    @property
    def problems(self) -> list[str]:
        """A line for each file whose last version cannot be used."""
        return [f"{it}; its last trust anchors stay in use" for it in self._problems.values()]

    def look(self) -> bool:
        """Read the files that have changed; return whether the anchors have changed."""
        before = self.zones
        for path, known in self._files.items():
            if file_version(path) != known.version:
                self._read(path)
        self._combine()
        return before != self.zones

    def _read(self, path: Path) -> None:
        try:
            self._files[path] = read_anchor_file(path)
        except AnchorError as error:
            if self._problems.get(path) != str(error):
                log.error("%s; its last trust anchors stay in use", error)
            self._problems[path] = str(error)
        else:
            self._problems.pop(path, None)

    def _combine(self) -> None:
        read = [anchor for file in self._files.values() for anchor in file.anchors]
        has_root = any(anchor.zone == ROOT for anchor in read)
        self.zones = zones_of(dict.fromkeys(read if has_root else (*read, *ROOT_ANCHORS)))
