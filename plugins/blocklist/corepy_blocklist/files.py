"""The files of a directive: named ones, those that match a pattern, and transferred zones."""

from __future__ import annotations

import glob
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from corepy.plugin.reading import FileVersion, file_version
from corepy_blocklist.rule import SourceFile, SourceKind
from corepy_blocklist.transferring import TransferredZone, ZoneContent

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST_FILES: Final = 1000
"""Files of a directive; later ones in the order of their names are not used."""


class Pattern(NamedTuple):
    """A file, or several by a shell pattern."""

    kind: SourceKind
    path: str
    zone: str = ""

    @property
    def identity(self) -> tuple[object, ...]:
        """The values that determine the files."""
        return tuple(self)

    def files(self) -> list[SourceFile]:
        """Return the files, in the order of their names; a single one need not exist."""
        paths = [self.path]
        if glob.has_magic(self.path):
            paths = sorted(path for path in glob.glob(self.path) if os.path.isfile(path))
        return [SourceFile(self.kind, path, self.zone) for path in paths]


Source = Pattern | TransferredZone


class Found(NamedTuple):
    """The files at a moment, with their versions."""

    files: tuple[SourceFile, ...]
    versions: tuple[FileVersion | None, ...]

    @property
    def names(self) -> tuple[tuple[SourceKind, str, str], ...]:
        """The kinds, labels and zones of the files, whatever their versions."""
        return tuple((file.kind, file.label, file.zone) for file in self.files)

    @property
    def descriptors(self) -> list[int]:
        """The descriptors of files in memory."""
        contents = (file.content for file in self.files)
        return [content.descriptor for content in contents if isinstance(content, ZoneContent)]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(version.size for version in self.versions if version is not None)


def find_files(sources: Iterable[Source]) -> Found:
    """Return the files of all sources now."""
    files = dict.fromkeys(file for source in sources for file in source.files())
    kept = tuple(files)[:MOST_FILES]
    return Found(kept, tuple(map(_version_of, kept)))


def _version_of(file: SourceFile) -> FileVersion | None:
    content = file.content
    return content.version if isinstance(content, ZoneContent) else file_version(Path(file.path))
