"""The single thread that reads and changes the host, so the event loop never waits for a lock."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_Result = TypeVar("_Result")


class HostThread:
    """Runs functions in one thread, in order, because libiptc has globals and order matters."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="nodecache")

    async def run(self, work: Callable[[], _Result]) -> _Result:
        """Return the result of `work`, which runs to its end even if the caller is cancelled."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    def close(self) -> None:
        """Stop the thread after its current function."""
        self._executor.shutdown()
