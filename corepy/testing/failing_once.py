"""A step of a background task that fails the first time."""

from __future__ import annotations

import asyncio

PATIENCE = 60.0
"""Seconds after which the step counts as not repeated."""


class FailsOnce:
    """Raises ValueError at the first call; takes any arguments."""

    def __init__(self) -> None:
        self._calls = 0
        self._again = asyncio.Event()

    async def __call__(self, *_: object) -> bool:
        """Return False from the second call on."""
        self._calls += 1
        if self._calls == 1:
            raise ValueError("a fault")
        self._again.set()
        return False

    async def repeated(self) -> None:
        """Wait for the second call; raises TimeoutError."""
        async with asyncio.timeout(PATIENCE):
            await self._again.wait()
