"""The files of the page, which are in the package."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

NAMES: Final = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/console.css": ("console.css", "text/css; charset=utf-8"),
    "/console.js": ("console.js", "text/javascript; charset=utf-8"),
    "/charts.js": ("charts.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}


class Static(NamedTuple):
    """A file with its media type."""

    content: bytes
    kind: str


@cache
def static_files() -> dict[str, Static]:
    """Return the files by the path of their URL; they are read once."""
    folder = Path(__file__).parent / "page"
    return {
        path: Static((folder / name).read_bytes(), kind) for path, (name, kind) in NAMES.items()
    }
