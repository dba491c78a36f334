"""Shares the turns of the event loop between the connections of a listener.

A client may send thousands of queries at once over each of hundreds of connections. If all of them
were answered in one turn of the event loop, the queries of other clients, over UDP as well, would
wait until the last one is answered. The requests of HTTP are queries here, too.
"""

from __future__ import annotations

from asyncio import get_running_loop
from typing import Final, Protocol

QUERIES_PER_TURN: Final = 128
"""Queries of all connections of a listener that are processed in one turn of the event loop."""

QUERIES_PER_STEP: Final = 32
"""Queries of one connection that are processed before the connections that wait."""


class Waiting(Protocol):
    """A connection that has queries to process."""

    def go_on(self) -> None:
        """Process some queries that were read before."""


class Turns:
    """Counts the queries that a listener's connections process, and keeps those that wait."""

    def __init__(self, per_turn: int = QUERIES_PER_TURN, per_step: int = QUERIES_PER_STEP) -> None:
        """Take the limits of a turn, and of one connection while others wait."""
        self._per_turn = per_turn
        self._per_step = per_step
        self._processed = 0
        self._waiting: dict[Waiting, None] = {}  # in order of arrival
        self._is_scheduled = False

    def step(self) -> int:
        """Return how many queries a connection may process now; 0 if it has to wait."""
        left = self._per_turn - self._processed
        return min(left, self._per_step) if self._waiting else left

    def count(self, queries: int) -> None:
        """Count queries that a connection has processed in this turn.

        A few queries a turn are counted together with those of the next turns, so that a listener
        with little load does not schedule a callback for each turn.
        """
        self._processed += queries
        if self._processed >= self._per_step:
            self._schedule()

    def wait(self, connection: Waiting) -> None:
        """Let `connection` continue in a later turn, after those that wait already."""
        self._waiting[connection] = None
        self._schedule()

    def forget(self, connection: Waiting) -> None:
        """Do not let `connection` continue: it is closed."""
        self._waiting.pop(connection, None)

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        """Begin a turn with the connections that wait, in their order."""
        self._is_scheduled = False
        self._processed = 0
        try:
            for connection in list(self._waiting):
                if self.step() <= 0:
                    break
                if connection in self._waiting:
                    del self._waiting[connection]
                    connection.go_on()
        finally:
            if self._waiting:
                self._schedule()
