"""A set of regular expressions that are matched in one pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from corepy_rewrite.literals import required_literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corepy.plugin import NamePattern
    from corepy_rewrite.question import Question

    Chain = tuple[()] | tuple[bytes, "Chain"]

_MOST_REQUIRED: Final = 24
"""More searches cost more than a pass of RE2."""


class PatternSet:
    """Finds out in one pass which of several patterns match a name.

    RE2's Python module creates lists, and needs the name as a text. So a name is first searched for
    the bytes that a match requires, if each pattern requires some.

    The set also has a pattern that always matches: RE2 reports running out of memory as no match.
    """

    def __init__(self, patterns: Sequence[tuple[int, NamePattern]]) -> None:
        """Take patterns with the numbers to return for them."""
        self._patterns = patterns
        self._numbers = [-1, *(number for number, _ in patterns)]
        self._set = _compiled_set([pattern for _, pattern in patterns])
        self._required = _required_by_all([pattern for _, pattern in patterns])

    def find(self, question: Question) -> tuple[int, ...]:
        """Return the numbers of the patterns that match a name, in any order."""
        return self._matching(question.name) if self._may_match(question.name_wire) else ()

    def _may_match(self, name: bytes) -> bool:
        """Return whether a name contains bytes that one of the patterns requires."""
        chain = self._required
        if chain is None:
            return True
        while chain:
            required, chain = chain
            if name.find(required) >= 0:
                return True
        return False

    def _matching(self, name: str) -> tuple[int, ...]:
        hits = None if self._set is None else self._set.Match(name.encode())
        if not hits:
            return tuple(n for n, pattern in self._patterns if pattern.find(name) is not None)
        if len(hits) == 1:
            return ()
        numbers = self._numbers
        return tuple(numbers[hit] for hit in hits if hit)


def _required_by_all(patterns: Sequence[NamePattern]) -> Chain | None:
    """Return the bytes that the patterns require, None if one requires none, or if they are many.

    They are nested pairs, because a loop over a tuple creates an iterator.
    """
    found = [required_literal(pattern.text) for pattern in patterns]
    required = {each for each in found if each is not None}
    if None in found or len(required) > _MOST_REQUIRED:
        return None
    chain: Chain = ()
    for each in sorted(required):
        chain = (each, chain)
    return chain


def _compiled_set(patterns: Sequence[NamePattern]) -> Any:
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
