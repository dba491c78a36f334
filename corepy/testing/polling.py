"""Waiting in an event loop for what has no event."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

INTERVAL: Final = 0.001
"""Seconds between two checks."""


async def until(condition: Callable[[], object], timeout: float = 60.0) -> None:
    """Wait until `condition()` is true; raises TimeoutError after `timeout` seconds."""
    async with asyncio.timeout(timeout):
        while not condition():  # noqa: ASYNC110  # a value may change without an event
            await asyncio.sleep(INTERVAL)
