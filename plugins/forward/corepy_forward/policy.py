"""Which upstream is asked first (CoreDNS: plugin/forward/policy.go)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corepy_forward.upstream import Upstream

_BLOCK = 512


class Policy(Protocol):
    """Chooses among the upstreams that are fit to be asked."""

    def __call__(self, upstreams: Sequence[Upstream]) -> Upstream:
        """Return one of `upstreams`, which are in the order of the Corefile and not empty."""


class Random:
    """Any of them, as likely as any other."""

    def __init__(self) -> None:
        self._dice: list[int] = []

    def __call__(self, upstreams: Sequence[Upstream]) -> Upstream:
        """Return one at random."""
        count = len(upstreams)
        if count == 1:
            return upstreams[0]
        if not self._dice:
            self._dice = memoryview(os.urandom(4 * _BLOCK)).cast("I").tolist()
        return upstreams[self._dice.pop() % count]


class RoundRobin:
    """One after the other."""

    def __init__(self) -> None:
        self._turn = 0

    def __call__(self, upstreams: Sequence[Upstream]) -> Upstream:
        """Return the next one."""
        self._turn += 1
        return upstreams[self._turn % len(upstreams)]


class Sequential:
    """Always the first that is fit."""

    def __call__(self, upstreams: Sequence[Upstream]) -> Upstream:
        """Return the first one."""
        return upstreams[0]


POLICIES: dict[str, type[Random | RoundRobin | Sequential]] = {
    "random": Random,
    "round_robin": RoundRobin,
    "sequential": Sequential,
}


def make_policy(name: str) -> Policy:
    """Return a new policy of the name used in the Corefile."""
    return POLICIES[name]()
