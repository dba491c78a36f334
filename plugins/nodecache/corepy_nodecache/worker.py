"""The one thread in which the host is read and changed, so that DNS never waits for a lock."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_Result = TypeVar("_Result")


class Worker:
    """A queue of one: libiptc has globals and changes have an order."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="nodecache")

    async def run(self, work: Callable[[], _Result]) -> _Result:
        """Return what `work` returns; if the waiting is cancelled it still runs to its end."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    def close(self) -> None:
        """End the thread once it has done what it is at."""
        self._executor.shutdown()
