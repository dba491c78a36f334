"""A compiled regular expression of the `match` option.

Names are ASCII, so the pattern is applied to bytes, which saves RE2's Python module the conversion
of character offsets. Measured: 17 us instead of 29 for a match with five groups, and 1.4 us instead
of 4.2 if the name does not match.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import re2


class Pattern:
    """A pattern that `Controller.pattern` has validated."""

    def __init__(self, checked: re2._Regexp) -> None:
        import re2

        compiled = re2.compile(checked.pattern.encode())
        names = compiled.groupindex.items()
        self._search = compiled.search
        self._numbers = range(compiled.groups + 1)
        self.text = checked.pattern
        self.number_of_groups: int = compiled.groups
        self.groups = {name.decode(): number for name, number in names}
        """The named groups and their numbers."""

    def find(self, name: str) -> Sequence[str] | None:
        """Return the first match in a name and its groups, "" for unmatched groups."""
        found = self._search(name.encode())
        if found is None:
            return None
        if len(self._numbers) == 1:
            return [found[0].decode()]
        return ["" if text is None else text.decode() for text in found.group(*self._numbers)]
