"""A normalized form of a Corefile, for plugins that detect changes.

Two Corefiles with the same fingerprint are equal for every plugin. Comments, blank lines and
amounts of white space are left out; imports and variables are expanded.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from corepy import corefile

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from corepy.corefile import ServerBlock, Token


class Fingerprint(NamedTuple):
    """The normalized content of a Corefile, and the files that it was read from."""

    statement: bytes
    files: tuple[Path, ...]
    """Every file that was read: imports, and the Corefile itself if it is a file."""

    is_empty: bool
    """Whether it has no server blocks: most likely a file that is still being written."""


def read_fingerprint(name: str, text: str | None = None) -> Fingerprint:
    """Return the content of the Corefile `name`, or of `text` as if it were in that file.

    Raises `CorefileError`, or `OSError` for a file that cannot be read.
    """
    parsed = corefile.load(name) if text is None else corefile.parse(text, name)
    blocks = [_block(block) for block in (*parsed.blocks, *parsed.zoneless)]
    statement = json.dumps(blocks).encode()
    return Fingerprint(statement, tuple(map(Path, parsed.files)), parsed.is_empty)


def _block(block: ServerBlock) -> list[object]:
    tokens = [list(words(directive.tokens)) for directive in block.statements]
    return [[key.text for key in block.keys], tokens]


def words(tokens: Sequence[Token]) -> Iterator[tuple[str, bool]]:
    """Yield each word, and whether it begins a line, which separates options."""
    before: Token | None = None
    for token in tokens:
        yield token.text, before is None or before.before_line(token)
        before = token
