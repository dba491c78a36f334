"""Divides long work in the event loop into portions."""

from __future__ import annotations

import asyncio
import time
from typing import Final

WORK: Final = 0.002
"""Seconds of work between two turns of the event loop."""


class Turns:
    """Gives other tasks a turn after some milliseconds of work."""

    def __init__(self) -> None:
        self._begun = time.monotonic()

    async def take(self) -> None:
        """Wait for a turn of the event loop, if it is due."""
        if time.monotonic() - self._begun >= WORK:
            await asyncio.sleep(0)
            self._begun = time.monotonic()
