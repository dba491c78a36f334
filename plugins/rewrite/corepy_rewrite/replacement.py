"""Replacements that use the groups of a match."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_GROUP: Final = re.compile(r"\{(0|[1-9][0-9]*)\}")
_MOST_COUNTED: Final = 100


class Replacement:
    """A text with `{N}` for the groups of a match, `{0}` for the whole match."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._pieces = _GROUP.split(text)  # a text, the number of a group, a text, ...
        self.numbers = frozenset(map(int, self._pieces[1::2]))
        """The numbers of the groups in the text."""

    @property
    def counted_groups(self) -> int:
        """The number of groups as CoreDNS counts them: each once, those up to 100."""
        return sum(number <= _MOST_COUNTED for number in self.numbers)

    def fill(self, groups: Sequence[str]) -> str:
        """Return the text with the groups of a match; a group that the pattern lacks stays."""
        if not self.numbers:
            return self.text
        pieces = list(self._pieces)
        for index in range(1, len(pieces), 2):
            number = int(pieces[index])
            pieces[index] = groups[number] if number < len(groups) else f"{{{number}}}"
        return "".join(pieces)
