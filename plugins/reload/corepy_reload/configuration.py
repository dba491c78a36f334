"""Read and hash the configuration: as it was started, and as it is in the files now.

All functions read and parse files, so they must run in a thread.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from corepy.plugin import CorefileError
from corepy.plugin.fingerprint import read_fingerprint

if TYPE_CHECKING:
    from collections.abc import Sequence


class Snapshot(NamedTuple):
    """The configuration at one moment."""

    digest: str
    """SHA512, in hexadecimal, of the configuration, or of the problem with it."""

    files: frozenset[Path]
    """The files to watch."""

    problem: str = ""
    """The reason why this cannot be loaded, if already known."""

    is_empty: bool = False
    """Whether the problem is the lack of a server block."""


class Configuration:
    """A Corefile with its imports, and the files that plugins read."""

    def __init__(self, name: str, text: str, files: Sequence[Path]) -> None:
        """`name` and `text` are the Corefile's, `files` the generation's (`LifecycleContext`)."""
        path = os.path.abspath(name)
        self._name = path
        self._text = text
        # Standard input also has a name, but is not a file.
        self._is_file = bool(files) and files[0] == Path(path)
        self._files = frozenset(files)

    def started(self) -> Snapshot:
        """Return the configuration as it was parsed, even if the Corefile has changed since."""
        return self._read(self._text)

    def now(self) -> Snapshot:
        """Return the configuration that a start would use now."""
        return self._read(None if self._is_file else self._text)

    def _read(self, text: str | None) -> Snapshot:
        try:
            content = read_fingerprint(self._name, text)
        except CorefileError as error:
            return self._broken(str(error))
        except OSError as error:
            return self._broken(f"{error.filename}: {error.strerror}")
        if content.is_empty:
            return self._broken("the Corefile has no server block", is_empty=True)
        digest = hashlib.sha512(content.statement)
        files = self._files.union(content.files)
        for path in sorted(files.difference(content.files, (Path(self._name),))):
            digest.update(b"\0" + os.fsencode(path) + b"\0" + _digest(path))
        return Snapshot(digest.hexdigest(), files)

    def _broken(self, problem: str, *, is_empty: bool = False) -> Snapshot:
        """Return a snapshot of a configuration that cannot be loaded.

        A different mistake, or the same mistake in a different place, has a different digest.
        """
        digest = hashlib.sha512(b"broken\0" + problem.encode("utf-8", "surrogateescape"))
        for path in sorted(self._files):
            digest.update(_digest(path))
        return Snapshot(digest.hexdigest(), self._files, problem, is_empty)


def _digest(path: Path) -> bytes:
    """Return a hash of a file's content, or the reason why it cannot be read."""
    try:
        if not path.is_file():
            return b"no file"
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha512").digest()
    except OSError as error:
        return str(error.errno).encode()
