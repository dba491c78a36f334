"""Chooses the upstreams for a query, in the order in which they are asked (policy.go)."""

from __future__ import annotations

from itertools import accumulate
from secrets import randbelow
from typing import TYPE_CHECKING, Protocol

from corepy_fanout.settings import WEIGHTED

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from corepy_fanout.settings import Settings


class Selection(Protocol):
    """Returns the indexes of the upstreams to ask, the first one first."""

    def __call__(self) -> Sequence[int]:
        """Return indexes, each at most once."""


def selection_of(settings: Settings) -> Selection:
    """Return the policy of the directive, whose settings are complete."""
    if settings.policy == WEIGHTED:
        return WeightedRandom(settings.weights, settings.server_count)
    order = range(settings.server_count)
    return lambda: order


class WeightedRandom:
    """Draws upstreams without replacement, with probabilities that their weights give."""

    def __init__(
        self,
        weights: Sequence[int],
        count: int,
        draw: Callable[[int], int] = randbelow,
    ) -> None:
        """Draw `count` of the upstreams; `draw(n)` returns a random number from 0 to n - 1."""
        self._weights = tuple(weights)
        self._count = count
        self._draw = draw

    def __call__(self) -> Sequence[int]:
        """Return the upstreams in the order in which they were drawn."""
        left = dict(enumerate(self._weights))
        total = sum(self._weights)
        drawn: list[int] = []
        while len(drawn) < self._count:
            at = self._draw(total)
            index = next(
                it for it, last in zip(left, accumulate(left.values()), strict=True) if at < last
            )
            drawn.append(index)
            total -= left.pop(index)
        return drawn
