"""A regular expression of `match`, at work.

Names are ASCII, so the pattern is tried on bytes, which spares RE2's module the counting of
characters: measured, 17 instead of 29 us for a match with five groups, 1.4 instead of 4.2 for none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import re2


class Pattern:
    """A pattern that `Controller.pattern` has checked."""

    def __init__(self, checked: re2._Regexp) -> None:
        import re2

        compiled = re2.compile(checked.pattern.encode())
        names = compiled.groupindex.items()
        self._search = compiled.search
        self._numbers = range(compiled.groups + 1)
        self.text = checked.pattern
        self.groups = {name.decode(): number for name, number in names}
        """The groups that have names, by their number."""

    def find(self, name: str) -> Sequence[str] | None:
        """Return the first match in a name and its groups, "" for those that take no part."""
        found = self._search(name.encode())
        if found is None:
            return None
        if len(self._numbers) == 1:
            return [found[0].decode()]
        return ["" if text is None else text.decode() for text in found.group(*self._numbers)]
