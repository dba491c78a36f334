"""Reads the search domains in a file such as /etc/resolv.conf (resolv.conf(5))."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corepy.plugin.reading import read_file

if TYPE_CHECKING:
    from pathlib import Path

_KEYWORDS: Final = ("search", "domain")
_MOST_BYTES: Final = 1 << 20


def read_search(path: Path) -> list[str]:
    """Return the search domains of the last `search` or `domain` line; raises OSError."""
    content, _ = read_file(path, _MOST_BYTES)
    found: list[str] = []
    for line in content.decode("utf-8-sig", "replace").split("\n"):
        words = line.split()
        if words and words[0] in _KEYWORDS:
            found = words[1:2] if words[0] == "domain" else words[1:]
    return found
