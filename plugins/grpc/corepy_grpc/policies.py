"""Orders the upstreams for a query (CoreDNS: plugin/grpc/policy.go)."""

from __future__ import annotations

from secrets import SystemRandom
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

_T = TypeVar("_T")
_random: Final = SystemRandom()


class Policy(Protocol):
    """Returns the upstreams in the order in which they are asked."""

    def __call__(self, upstreams: Sequence[_T]) -> Sequence[_T]:
        """Return all of `upstreams`, of which there is at least one."""


class Random:
    """A random order, with equal probabilities."""

    def __call__(self, upstreams: Sequence[_T]) -> Sequence[_T]:
        """Return the upstreams in a random order."""
        if len(upstreams) == 1:
            return upstreams
        return _random.sample(upstreams, len(upstreams))


class RoundRobin:
    """Each upstream is the first one in turn; the others follow in the order of the Corefile."""

    def __init__(self) -> None:
        self._turn = 0

    def __call__(self, upstreams: Sequence[_T]) -> Sequence[_T]:
        """Return the upstreams, beginning with the next one."""
        self._turn += 1
        first = self._turn % len(upstreams)
        return [*upstreams[first:], *upstreams[:first]]


class Sequential:
    """The order of the Corefile."""

    def __call__(self, upstreams: Sequence[_T]) -> Sequence[_T]:
        """Return the upstreams unchanged."""
        return upstreams


POLICIES: Final[dict[str, type[Policy]]] = {
    "random": Random,
    "round_robin": RoundRobin,
    "sequential": Sequential,
}
