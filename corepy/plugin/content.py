"""What a Corefile says, as bytes to compare: for plugins that look whether it has changed.

Two Corefiles with the same statement are the same to every plugin. Comments, blank lines and the
width of spaces are left out; imports and variables are in it as what they stand for.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from corepy import corefile

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from corepy.corefile import ServerBlock, Token


class Content(NamedTuple):
    """See the module."""

    statement: bytes
    files: tuple[Path, ...]
    """Every file that was read: imports, and the Corefile itself if it is one."""

    is_empty: bool
    """Whether there is no server block in it: a file that is still being written, most likely."""


def read_content(name: str, text: str | None = None) -> Content:
    """Return what the Corefile `name` says; with `text`, what that says if it stands there.

    Raises `CorefileError`, or `OSError` for a file that cannot be read.
    """
    parsed = corefile.load(name) if text is None else corefile.parse(text, name)
    blocks = [_block(block) for block in (*parsed.blocks, *parsed.zoneless)]
    statement = json.dumps(blocks).encode()
    return Content(statement, tuple(map(Path, parsed.files)), parsed.is_empty)


def _block(block: ServerBlock) -> list[object]:
    tokens = [list(_words(directive.tokens)) for directive in block.statements]
    return [[key.text for key in block.keys], tokens]


def _words(tokens: Sequence[Token]) -> Iterator[tuple[str, bool]]:
    """Yield each word, and whether it begins a line: that is what separates options."""
    before: Token | None = None
    for token in tokens:
        yield token.text, before is None or before.before_line(token)
        before = token
