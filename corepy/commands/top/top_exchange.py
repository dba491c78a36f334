"""What the screen of `corepy top` and the thread that asks the server pass to each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

NEXT: Final = "next"
"""A request of the screen: show the next server of this host."""

NOW: Final = "now"
"""A request of the screen: refresh the figures now."""


@dataclass(frozen=True, slots=True)
class Polled:
    """The outcome of the last question to the server."""

    document: dict[str, Any] | None = None
    """The last document, which may be old."""
    before: dict[str, Any] | None = None
    """The document before, of the same server."""
    problem: str = ""
    """The reason why there is no newer document."""
    servers: tuple[int, ...] = ()
    """The process IDs of the servers of this host."""
