"""Selects the queries to look at: all while there are few, else a random sample.

A sampler has a budget of queries per second. Above that rate it skips a random number of queries
before each one that it selects. A selected query stands for all since the one before it: this
number is its weight. So the sum of the weights is the number of queries, and each estimate made of
them is unbiased. The step is random, so that a periodic client is neither always nor never seen.

A listener subtracts each query from `left`, and calls `select` when nothing is left. This is all
that a query costs which is not selected.
"""

from __future__ import annotations

import os
from math import ceil
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

BUDGET: Final = 100
"""Queries to look at per second.

Each costs as much as one or two answers of the packet cache. On a busy machine a server may get a
tenth of a CPU, of which this is the hundredth part.
"""

WATCHED_BUDGET: Final = 8192
"""The same while `corepy tail` runs: a tenth of a CPU, since queries are also compared and kept."""

BURST_SHARE: Final = 8
"""When the budget of a second is used up, the step doubles after each further eighth of it."""

_PERIOD: Final = 1.0
"""Seconds after which the step follows the rate of queries."""


class Sampler:
    """Selects queries of one kind; see the module for its use."""

    __slots__ = (
        "_began",
        "_random",
        "_room",
        "_seen",
        "budget",
        "left",
        "selected",
        "step",
        "weight",
    )

    def __init__(self, random: Callable[[int], bytes] = os.urandom) -> None:
        """`random` returns a number of random bytes."""
        self.left = 1
        """Queries until the next selected one, which it includes."""
        self.weight = 1
        """The number of queries that the next selected one stands for."""
        self.step = 1
        """The mean of the weights."""
        self.budget = BUDGET
        self.selected = 0
        """The number of queries selected so far."""
        self._random = random
        self._began = 0.0
        self._room = BUDGET
        self._seen = 0

    def select(self, now: float) -> int:
        """Return the weight of the query that is selected at `now`, and choose the next one.

        Sets `left` to the distance of the next one. `now` is monotonic, in seconds.
        """
        weight = self.weight
        self.selected += 1
        self._seen += weight
        elapsed = now - self._began
        if elapsed >= _PERIOD:
            self._adapt(now, elapsed)
        else:
            self._room -= 1
            if self._room <= 0:  # a burst
                self.step *= 2
                self._room = max(1, self.budget // BURST_SHARE)
        self.left = self.weight = 1 if self.step == 1 else self._distance()
        return weight

    def _distance(self) -> int:
        """Return a random distance, uniform from 1 to twice the step, with the step as the mean."""
        return 1 + int.from_bytes(self._random(4), "big") % (2 * self.step - 1)

    def _adapt(self, now: float, elapsed: float) -> None:
        """Set the step so that the budget lasts at the rate of the last period."""
        self.step = max(1, ceil(self._seen / (elapsed * self.budget)))
        self._began = now
        self._seen = 0
        self._room = self.budget

    def look_sooner(self, now: float) -> None:
        """Shorten the distance to the next selected query if the rate has fallen.

        To be called every few seconds: after a flood, the distance would span minutes.
        """
        elapsed = now - self._began
        if elapsed >= _PERIOD:
            self._seen += self.weight - self.left
            self._adapt(now, elapsed)
            self._shorten(2 * self.step - 1)

    def set_budget(self, budget: int) -> None:
        """Use another budget from the next query on, which is selected."""
        self.budget = self._room = budget
        self.step = 1
        self._began = 0.0  # the rate until now does not matter
        self._seen = 0
        self._shorten(1)

    def _shorten(self, most: int) -> None:
        """Select one of the next `most` queries at the latest."""
        if self.left > most:
            self.weight -= self.left - most
            self.left = most
