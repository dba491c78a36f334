"""The interface of both iptables back ends, and a helper that runs a change for each IP family."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from corepy_nodecache.model import HostError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from corepy_nodecache.model import Family, FilterRule

FAMILIES: Final[tuple[Family, ...]] = (4, 6)


class RuleTables(Protocol):
    """The raw and filter tables of this network namespace; used by one thread at a time."""

    name: str

    def read(self, adopted: Collection[FilterRule] = frozenset()) -> list[FilterRule]:
        """Return all rules with one of `COMMENTS`, and those in `adopted`, which have no comment.

        Duplicates are included. Raises `HostError`.
        """

    def reconcile(
        self,
        wanted: set[FilterRule],
        removable: Callable[[FilterRule], bool],
        adopted: Collection[FilterRule] = frozenset(),
        shared: Collection[FilterRule] = frozenset(),
    ) -> tuple[int, int]:
        """Make corepy's rules equal to `wanted`; returns how many were added and removed.

        Removes other rules with one of `COMMENTS`, and rules in `adopted`, which have no comment,
        if `removable` returns true for them. For `shared` see `difference`. Each table changes
        atomically. Raises `HostError`.
        """

    def check(self, families: Iterable[Family]) -> None:
        """Raise `HostError` if rules of `families` cannot be written; may create tables."""


def each_family(work: Callable[[Family], tuple[int, int]]) -> tuple[int, int]:
    """Run `work` for both families, even if the first one fails, and return the sums of its counts.

    Raises the first `HostError` after both. If the lock is unavailable, it raises at once, because
    the second family would wait for the same lock.
    """
    added = removed = 0
    failure: HostError | None = None
    for family in FAMILIES:
        try:
            counts = work(family)
        except HostError as error:
            failure = failure or error
            if error.kind == "iptables_lock":
                break
        else:
            added, removed = added + counts[0], removed + counts[1]
    if failure:
        raise failure
    return added, removed
