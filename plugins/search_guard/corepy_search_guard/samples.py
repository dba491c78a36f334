"""Samples: names that are passed on although a proof denies them.

A server that violates RFC 8020 denies a name that has names below it. With such a denial as a
proof, the guard itself answers all queries for these names, so no reply would ever show that they
exist. Therefore it still passes on some of them: for each covering name, a few different names at
once, and after that one a minute. A name that programs on the node use regularly is soon among
them, and ends the proof.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from corepy_search_guard.covered import Covered

AT_ONCE: Final = 2
"""Samples below one covering name without a pause."""

INTERVAL: Final = 60.0
"""Seconds between two samples after that."""

VALID_FOR: Final = 600.0
"""Seconds for which a name that was denied is not a sample again."""

_MOST: Final = 4096
_ASKED: Final = 0.0


class Samples:
    """The names that were samples, in wire form and lower case."""

    def __init__(self, at_once: int = AT_ONCE) -> None:
        """`at_once` is the number for each covering name without a pause; 0 for no samples."""
        self._at_once = at_once
        self._denied: dict[bytes, float] = {}  # until when; _ASKED if there is no reply yet

    def take(self, name: bytes, covered: Covered, now: float) -> bool:
        """Return whether queries for `name`, which is below `covered`, are to be passed on.

        They are until a reply denies the name: its A and AAAA records are asked for at once.
        """
        until = self._denied.get(name)
        if until == _ASKED:
            return True
        if (until is not None and until > now) or not self._at_once:
            return False
        if covered.next_sample > now + (self._at_once - 1) * INTERVAL:
            return False
        if len(self._denied) >= _MOST:
            self._denied.clear()
        covered.next_sample = max(covered.next_sample, now) + INTERVAL
        self._denied[name] = _ASKED
        return True

    def note_denial(self, name: bytes, now: float) -> None:
        """Note that a query for `name` was denied by the server."""
        if name in self._denied:
            self._denied[name] = now + VALID_FOR

    def forget(self) -> None:
        """Forget all names, because some of them may have been created."""
        self._denied.clear()
