"""A set of regular expressions that are matched in one pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from corepy_rewrite.literals import required_literals

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from corepy.plugin import NamePattern
    from corepy_rewrite.question import Question

    Literals = tuple[()] | tuple[bytes, "Literals", "Literals"]
    """A literal, those of which one is required beside it, and its alternatives."""

_MOST_SEARCHES: Final = 24
"""More cost more than a pass of RE2."""


class PatternSet:
    """Finds out in one pass which of several patterns match a name.

    RE2's Python module creates lists, and needs the name as a text. So a name is first searched for
    the parts that a match requires, if each pattern requires some.

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
        required = self._required
        if required and not _has_required(question.name_wire, required):
            return ()
        return self._matching(question.name)

    def _matching(self, name: str) -> tuple[int, ...]:
        hits = None if self._set is None else self._set.Match(name.encode())
        if not hits:
            return tuple(n for n, pattern in self._patterns if pattern.find(name) is not None)
        if len(hits) == 1:
            return ()
        numbers = self._numbers
        return tuple(numbers[hit] for hit in hits if hit)


def _has_required(name: bytes, literals: Literals) -> bool:
    """Return whether a name has one of the literals, and one of those that belong to it."""
    while literals:
        literal, others, literals = literals
        if name.find(literal) >= 0 and (not others or _has_required(name, others)):
            return True
    return False


def _required_by_all(patterns: Sequence[NamePattern]) -> Literals:
    """Return what the patterns require, nothing if one requires nothing, or if they differ much."""
    required = {required_literals(pattern.text) for pattern in patterns}
    return () if () in required or len(required) > _MOST_SEARCHES else _nested(required)


def _nested(required: Iterable[tuple[bytes, ...]]) -> Literals:
    """Return alternatives as nested tuples, because a loop over a tuple creates an iterator."""
    groups: dict[bytes, list[tuple[bytes, ...]]] = {}
    for first, *others in sorted(required):
        groups.setdefault(first, []).append(tuple(others))
    literals: Literals = ()
    for first, rest in groups.items():
        literals = (first, () if () in rest else _nested(rest), literals)
    return literals


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
