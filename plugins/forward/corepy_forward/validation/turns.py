"""`Turns`: divides the time of the event loop among the validations that compute."""

from __future__ import annotations

import asyncio
from heapq import heappop, heappush
from itertools import count


class Turns:
    """Lets one validation compute in each iteration of the event loop.

    Otherwise, a reply from a cache would wait until each of them has computed. The validation with
    the fewest turns so far is the next one, so hostile zones, which take many, delay each other.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._numbers = count()

    def __len__(self) -> int:
        return len(self._waiting)

    async def take(self, taken: int) -> None:
        """Wait for the next turn of a validation; `taken` is the number of its turns so far."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._give)
        heappush(self._waiting, (taken, next(self._numbers), turn))
        await turn

    def _give(self) -> None:
        while self._waiting:
            turn = heappop(self._waiting)[2]
            if not turn.done():  # else the client's time is up
                turn.set_result(None)
                break
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._give)
