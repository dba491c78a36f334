"""A Corefile that a program makes, such as from a template, instead of reading it from a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class GeneratedCorefile(NamedTuple):
    """The text of a Corefile, and where its lines come from."""

    name: str
    """The path that the text would have as a file; imports are relative to its folder."""

    text: str

    origins: Sequence[tuple[str, int]] = ()
    """The file and line to name in a message about each line; lines without one have `name`."""
