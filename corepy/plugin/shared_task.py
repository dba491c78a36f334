"""Waiting for a task that several callers share."""

from __future__ import annotations

import asyncio
from typing import TypeVar

T = TypeVar("T")


async def shared_result(task: asyncio.Future[T]) -> T:
    """Return the result of a task, or raise its exception.

    A cancellation of the caller does not reach the task: other callers wait for it, or its result
    is of use later. `asyncio.shield` does the same, but after it was cancelled, Python 3.14 reports
    an exception of the task as an error of the event loop, even if others handle it.
    """
    try:
        await asyncio.wait((task,))
        return task.result()
    finally:
        del task  # its exception refers to this frame
