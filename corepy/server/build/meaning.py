"""The meaning of the replies in a generation: all inputs that decide them, to compare generations.

Two chains have the same meaning if they would give the same reply to every query, as far as the
server can know: the zones of the server block, the text of the directives, the contents of the
files that their setup has declared, and `Handler.inputs` are equal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from corepy.plugin import StatefulHandler
from corepy.plugin.failures import report
from corepy.plugin.reading import file_version

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from corepy.plugin import Handler
    from corepy.plugin.reading import FileVersion

Inputs = tuple[object, ...] | None
"""All inputs of one directive: strings, numbers, bytes; None if one of them is not known."""


class DirectiveMeaning:
    """The inputs of one directive of a server block."""

    __slots__ = ("_fixed", "directive", "files", "handlers", "words")

    def __init__(
        self,
        directive: str,
        words: tuple[tuple[str, bool], ...],
        files: Mapping[Path, FileVersion | None],
        handlers: Sequence[Handler],
    ) -> None:
        """Take the normalized text (`corepy.plugin.fingerprint`), the files and the handlers.

        `files` are those that the setup has declared, with their versions at that time.
        """
        self.directive = directive
        self.words = words
        self.files = files
        self.handlers = handlers
        self._fixed: Inputs = None

    def read(self) -> None:
        """Read the files; must run in a thread, and before `inputs`."""
        contents = {str(path): _content(path, version) for path, version in self.files.items()}
        if None not in contents.values():
            self._fixed = (self.words, tuple(contents.items()))

    @property
    def inputs(self) -> Inputs:
        """The current inputs."""
        if self._fixed is None:
            return None
        found = tuple(map(_inputs_of, self.handlers))
        return None if None in found else (*self._fixed, *found)


class BlockMeaning(NamedTuple):
    """The inputs of one server block."""

    place: str
    """The position of the block, such as "Corefile:3"."""

    zones: tuple[str, ...]
    addresses: tuple[str, ...]
    """The transport, zone and port of each key, and the hosts that the block listens on."""

    directives: Sequence[DirectiveMeaning]
    """In the order of the chain."""

    def stateful(self) -> Iterator[tuple[int, StatefulHandler]]:
        """Yield each handler that may have a successor, and the index of its directive."""
        for index, directive in enumerate(self.directives):
            for handler in directive.handlers:
                if isinstance(handler, StatefulHandler):
                    yield index, handler


def _inputs_of(handler: Handler) -> bytes | None:
    try:
        inputs = handler.inputs
    except Exception as error:  # plugin code
        report(handler.name, "hook", "inputs failed", error)
        return None
    return inputs if isinstance(inputs, bytes) else None


def _content(path: Path, version: FileVersion | None) -> bytes | None:
    """Return a digest of a file, b"" if it does not exist.

    None if it cannot be read, or has changed since `version`: its content then is not known.
    """
    digest: bytes | None = b""
    if version is not None:
        try:
            if not path.is_file():
                return None  # a FIFO, which would block
            import hashlib  # loads OpenSSL, which a server may not need otherwise

            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").digest()
        except OSError:
            return None
    return digest if file_version(path) == version else None
