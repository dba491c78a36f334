"""How rules select queries, and how the rules for a query are found without trying each of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from corepy.dns.names import ROOT, InvalidName, from_text, lower, to_text
from corepy_rewrite.parts import Part, Parts, Substring, Substrings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from corepy.plugin import NamePattern
    from corepy_rewrite.question import Question

EXACT: Final = "exact"
PREFIX: Final = "prefix"
SUFFIX: Final = "suffix"
SUBSTRING: Final = "substring"
REGEX: Final = "regex"
KINDS: Final = (EXACT, PREFIX, SUFFIX, SUBSTRING, REGEX)

_NONE: Final[tuple[int, ...]] = ()

_Key = TypeVar("_Key", bytes, int)


class NameMatch(NamedTuple):
    """Selects queries by name.

    `text` is the name or its part, in lower case and with the final dot, or a pattern. It is
    compared with the presentation form of names, as in CoreDNS: `suffix example.org.` also selects
    `badexample.org.`, and `prefix` and `substring` select whole labels at their end.
    """

    kind: str
    text: str
    pattern: NamePattern | None = None

    @property
    def ends_all_names(self) -> bool:
        """Whether it is the dot at the end of each name, also of the root."""
        return self.text == "." and self.kind in (SUFFIX, SUBSTRING)

    @property
    def wire(self) -> bytes | None:
        """The wire form of the text, None if it is no part of a domain name.

        A suffix or substring with a dot in front is without it here.
        """
        text = self.text
        if self.kind in (SUFFIX, SUBSTRING) and text != ".":
            text = text.removeprefix(".")
            if text == ".":
                return None
        try:
            return lower(from_text(text))
        except InvalidName:
            return None

    @property
    def as_in_names(self) -> NameMatch:
        """The same with the escapes that names have in presentation form."""
        wire = self.wire
        if wire is None or wire == ROOT:
            return self
        has_dot = self.kind in (SUFFIX, SUBSTRING) and self.text.startswith(".")
        return NameMatch(self.kind, f".{to_text(wire)}" if has_dot else to_text(wire))


class TypeMatch(NamedTuple):
    """Selects queries of one type."""

    qtype: int


class ClassMatch(NamedTuple):
    """Selects queries of one class."""

    qclass: int


Selector = NameMatch | TypeMatch | ClassMatch | None
"""The criterion by which a rule selects queries; None selects all."""


class RuleIndex:
    """Finds the numbers of the selectors of a list that select a query.

    A query costs a look-up for exact names, and a few comparisons of one byte each for all prefixes
    and for all suffixes. Only substrings are tried one by one. It costs a pass of RE2 if there are
    patterns, unless the name lacks bytes that a match requires. A query that is not selected causes
    no allocation in all but the last case.
    """

    def __init__(self, selectors: Iterable[Selector]) -> None:
        self._always: tuple[int, ...] = ()
        self._exact: dict[bytes, tuple[int, ...]] = {}
        self._types: dict[int, tuple[int, ...]] = {}
        self._classes: dict[int, tuple[int, ...]] = {}
        parts: dict[str, list[Part]] = {PREFIX: [], SUFFIX: []}
        substrings: list[Substring] = []
        patterns: list[tuple[int, NamePattern]] = []
        for number, selector in enumerate(selectors):
            if selector is None:
                self._always += (number,)
            elif isinstance(selector, TypeMatch):
                _add(self._types, selector.qtype, number)
            elif isinstance(selector, ClassMatch):
                _add(self._classes, selector.qclass, number)
            elif selector.pattern is not None:
                patterns.append((number, selector.pattern))
            elif selector.ends_all_names:
                self._always += (number,)
            elif (wire := selector.wire) is None:
                continue  # a warning was printed at setup
            elif selector.kind == EXACT or wire == ROOT:
                _add(self._exact, wire, number)
            elif selector.kind == SUBSTRING:
                substrings.append(_substring(selector.text, wire, number))
            else:
                parts[selector.kind].append(part_of(selector, wire, number))
        self._prefixes = Parts(parts[PREFIX]) if parts[PREFIX] else None
        self._suffixes = Parts(parts[SUFFIX], are_ends=True) if parts[SUFFIX] else None
        self._substrings = Substrings(substrings) if substrings else None
        self._patterns = None
        if patterns:
            from corepy_rewrite.pattern_set import PatternSet

            self._patterns = PatternSet(patterns)

    def find(self, question: Question) -> tuple[int, ...]:
        """Return the numbers of the selectors that select a question, in any order."""
        name = question.name_wire
        found = self._always + self._exact.get(name, _NONE)
        if self._types:
            found += self._types.get(question.qtype, _NONE)
        if self._classes:
            found += self._classes.get(question.qclass, _NONE)
        if self._suffixes is not None:
            found += self._suffixes.find(name)
        if self._prefixes is not None:
            found += self._prefixes.find(name)
        if self._substrings is not None:
            found += self._substrings.find(question)
        if self._patterns is not None:
            found += self._patterns.find(question)
        return found


def part_of(match: NameMatch, wire: bytes, number: int = 0) -> Part:
    """Return a prefix or suffix, whose wire form is `wire`, for the index."""
    if match.kind == PREFIX:
        return Part(wire[:-1], number)
    if match.text.startswith("."):
        return Part(wire, number)
    return Part(wire[1:], number, wire[0])


def _substring(text: str, wire: bytes, number: int) -> Substring:
    if text.startswith("."):
        return Substring(wire[:-1], 1, text, number)
    return Substring(wire[1:-1], 0, text, number)


def _add(table: dict[_Key, tuple[int, ...]], key: _Key, number: int) -> None:
    table[key] = (*table.get(key, ()), number)
