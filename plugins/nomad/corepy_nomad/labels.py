"""`Labels`: the names of namespaces that are not followed, which clients choose."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from corepy_nomad.namespaces import Denial, Failure

FIRST_READ_RATE: Final = 50.0
"""Namespaces per second that are asked for the first time: clients choose their names."""

FIRST_READ_BURST: Final = 1.0
"""Seconds of this rate that may come at once."""

MOST_REMEMBERED: Final = 1000
"""Namespaces without services that are remembered."""

MOST_SEEN: Final = 256
"""Namespaces with services that are known to exist."""


class Labels:
    """Remembers which namespaces exist, and limits the requests for unknown ones."""

    def __init__(self) -> None:
        self.seen: dict[str, None] = {}
        """Namespaces that have had services, which are exempt from the limits of unknown ones."""
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
        """Return `outcome`, after remembering it for some seconds."""
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
