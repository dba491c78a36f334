"""`UnknownNamespaces`: the namespaces that are not followed, whose names clients choose."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from corepy.net.fair_queue import FairQueue

if TYPE_CHECKING:
    from corepy_nomad.namespaces import Denial, Failure

AT_A_TIME: Final = 2
"""Requests for unknown namespaces at a time."""

MOST_WAITING: Final = 50
"""Unknown namespaces that wait for their requests; clients share the places."""

FIRST_READ_RATE: Final = 50.0
"""Namespaces per second that are asked for the first time: clients choose their names."""

FIRST_READ_BURST: Final = 1.0
"""Seconds of this rate that may come at once."""

MOST_REMEMBERED: Final = 1000
"""Namespaces without services that are remembered."""

MOST_SEEN: Final = 256
"""Namespaces with services that are known to exist."""


class Turns:
    """Lets some tasks run at a time. The others wait, and clients take turns."""

    def __init__(self, running: int, waiting: int) -> None:
        self._free = running
        self._waiting: FairQueue[asyncio.Future[None]] = FairQueue(waiting)

    def request(self, client: bytes) -> asyncio.Future[None] | None:
        """Return a future that is done when a task of `client` may run; `end` must follow.

        None if too many wait. `client` is from `client_of`.
        """
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._free:
            self._free -= 1
            turn.set_result(None)
        elif not self._waiting.put(client, turn):
            return None
        return turn

    def end(self) -> None:
        """Let the next task run instead of one that has ended."""
        for turn in self._waiting.take(len(self._waiting)):
            if not turn.done():  # those of cancelled tasks are
                turn.set_result(None)
                return
        self._free += 1


class UnknownNamespaces:
    """Remembers which namespaces exist, and limits the requests for unknown ones."""

    def __init__(self) -> None:
        self.seen: dict[str, None] = {}
        """Namespaces that have had services, which are exempt from the limits of unknown ones."""
        self.turns = Turns(AT_A_TIME, MOST_WAITING)
        self._next_read = 0.0  # the theoretical arrival time of GCRA
        self._remembered: dict[str, tuple[float, Denial | Failure]] = {}

    def __len__(self) -> int:
        """Return the number of namespaces that are remembered."""
        return len(self._remembered)

    def find(self, label: str, now: float) -> Denial | Failure | None:
        """Return the answer for all names of a namespace, None if Nomad has to be asked."""
        until, outcome = self._remembered.get(label, (0.0, None))
        return outcome if now < until else None

    def add(self, label: str) -> bool:
        """Record that a namespace has services; return whether its names were denied before."""
        was_denied = self._remembered.pop(label, None) is not None
        self.seen.pop(label, None)
        self.seen[label] = None
        if len(self.seen) > MOST_SEEN:
            del self.seen[next(iter(self.seen))]
        return was_denied

    def remember(self, label: str, outcome: Denial | Failure, seconds: float) -> Denial | Failure:
        """Return `outcome`, and remember it for some seconds."""
        self._remembered.pop(label, None)
        self._remembered[label] = time.monotonic() + seconds, outcome
        if len(self._remembered) > MOST_REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        return outcome

    async def pace(self) -> None:
        """Wait until another unknown namespace may be asked for."""
        now = time.monotonic()
        begin = max(now - FIRST_READ_BURST, self._next_read)
        self._next_read = begin + 1 / FIRST_READ_RATE
        await asyncio.sleep(max(0.0, begin - now))
