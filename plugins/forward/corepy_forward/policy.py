"""Policies that choose the upstream to ask first (CoreDNS: plugin/forward/policy.go)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corepy_forward.upstream import Upstream

_BLOCK = 512


class Policy(Protocol):
    """Chooses one of the healthy upstreams."""

    def __call__(self, upstreams: Sequence[Upstream]) -> Upstream:
        """Return one of `upstreams`, a non-empty sequence in the order of the Corefile."""


class Random:
    """Chooses at random, with equal probabilities."""

    def __init__(self) -> None:
        self._dice: list[int] = []

    def __call__(self, upstreams: Sequence[Upstream]) -> Upstream:
        """Return a random upstream."""
        count = len(upstreams)
        if count == 1:
            return upstreams[0]
        if not self._dice:
            self._dice = memoryview(os.urandom(4 * _BLOCK)).cast("I").tolist()
        return upstreams[self._dice.pop() % count]


class RoundRobin:
    """Chooses the upstreams in turn."""

    def __init__(self) -> None:
        self._turn = 0

    def __call__(self, upstreams: Sequence[Upstream]) -> Upstream:
        """Return the next upstream."""
        self._turn += 1
        return upstreams[self._turn % len(upstreams)]


class Sequential:
    """Always chooses the first healthy upstream."""

    def __call__(self, upstreams: Sequence[Upstream]) -> Upstream:
        """Return the first upstream."""
        return upstreams[0]


POLICIES: dict[str, type[Random | RoundRobin | Sequential]] = {
    "random": Random,
    "round_robin": RoundRobin,
    "sequential": Sequential,
}


def make_policy(name: str) -> Policy:
    """Return a new policy, by its name in the Corefile."""
    return POLICIES[name]()
