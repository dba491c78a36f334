"""What both kinds of iptables have in common: their interface, and going family by family."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from corepy_nodecache.model import HostError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from corepy_nodecache.model import Family, Rule

FAMILIES: Final[tuple[Family, ...]] = (4, 6)


class RuleTables(Protocol):
    """The raw and filter tables of this network namespace, for one thread at a time."""

    name: str

    def read(self) -> list[Rule]:
        """Return all marked rules, repeated ones as often as they are there; raises `HostError`."""

    def reconcile(self, wanted: set[Rule], removable: Callable[[Rule], bool]) -> tuple[int, int]:
        """Make the marked rules those `wanted`; returns how many were added and removed.

        Marked rules beyond those go if `removable`. Each table changes in one step. Raises
        `HostError`.
        """

    def check(self, families: Iterable[Family]) -> None:
        """Raise `HostError` if rules of `families` could not be written; may create tables."""


def each_family(work: Callable[[Family], tuple[int, int]]) -> tuple[int, int]:
    """Run `work` for both families and add up what it changed; both get their turn.

    Raises the first `HostError` in the end, and at once when the lock is not to be had: the second
    would wait as long.
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
