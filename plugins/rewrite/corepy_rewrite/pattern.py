"""Regular expressions and the replacements that use their groups.

Names are ASCII, so patterns are applied to bytes, which saves RE2's Python module the conversion of
character offsets.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    import re2

_GROUP: Final = re.compile(r"\{(0|[1-9][0-9]*)\}")
_MOST_COUNTED: Final = 100


class Pattern:
    """A pattern that `Controller.pattern` has validated."""

    def __init__(self, checked: re2._Regexp, *, ignores_case: bool = False) -> None:
        import re2

        options = re2.Options()
        options.log_errors = False
        options.case_sensitive = not ignores_case
        compiled = re2.compile(checked.pattern.encode(), options)
        self._search = compiled.search
        self._numbers = range(compiled.groups + 1)
        self.text = checked.pattern
        self.groups = compiled.groups
        """The number of groups."""

    def find(self, name: str) -> Sequence[str] | None:
        """Return the first match in a name and its groups, "" for unmatched groups."""
        found = self._search(name.encode())
        if found is None:
            return None
        if len(self._numbers) == 1:
            return [found[0].decode()]
        return ["" if text is None else text.decode() for text in found.group(*self._numbers)]


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


class PatternSet:
    """Finds out in one pass which of several patterns match a name.

    The set also has a pattern that always matches: RE2 reports running out of memory as no match.
    """

    def __init__(self, patterns: Sequence[tuple[int, Pattern]]) -> None:
        """Take patterns with the numbers to return for them."""
        self._patterns = patterns
        self._numbers = [-1, *(number for number, _ in patterns)]
        self._set = _compiled_set([pattern for _, pattern in patterns])

    def find(self, name: str) -> tuple[int, ...]:
        """Return the numbers of the patterns that match, in any order."""
        hits = None if self._set is None else self._set.Match(name.encode())
        if not hits:
            return tuple(n for n, pattern in self._patterns if pattern.find(name) is not None)
        if len(hits) == 1:
            return ()
        numbers = self._numbers
        return tuple(numbers[hit] for hit in hits if hit)


def _compiled_set(patterns: Sequence[Pattern]) -> Any:
    """Return a set of the patterns, or None if they are too large for one."""
    import re2

    options = re2.Options()
    options.log_errors = False
    compiled = re2.Set.SearchSet(options)
    compiled.Add(b"")
    try:
        for pattern in patterns:
            compiled.Add(pattern.text.encode())
        compiled.Compile()
    except re2.error:
        return None
    return compiled
