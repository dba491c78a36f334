"""A step that is repeated in the background."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from corepy.server.contain.failure_report import report_background

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

SETTLE: Final = 1.0
"""Seconds from a request to the step: several requests often follow each other."""


class Schedule:
    """Repeats a step at intervals, and soon after a request."""

    def __init__(self, title: str, step: Callable[[], Awaitable[float]]) -> None:
        """Repeat `step`, which returns the seconds until the next time.

        A failure is logged under `title`, and the step is repeated nevertheless.
        """
        self._title = title
        self._step = step
        self._due = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def runs(self) -> bool:
        """Whether it was started, and not stopped."""
        return self._task is not None

    def start(self, interval: float) -> None:
        """Start with the first step in `interval` seconds."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(interval), name="corepy-snapshots")

    async def stop(self) -> None:
        """Stop, and cancel a step in progress."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    def hurry(self) -> None:
        """Take the next step soon."""
        self._due.set()

    async def _run(self, interval: float) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(interval):
                    await self._due.wait()
            if self._due.is_set():
                await asyncio.sleep(SETTLE)
            self._due.clear()
            try:
                interval = await self._step()
            except Exception as error:
                report_background(error, f"{self._title} has failed")
