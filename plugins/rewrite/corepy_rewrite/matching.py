"""How rules select queries, and how the rules for a query are found without trying each of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypeVar

from corepy.dns.names import ROOT, InvalidName, from_text, lower, parent_offsets, to_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from corepy_rewrite.pattern import Pattern

EXACT: Final = "exact"
PREFIX: Final = "prefix"
SUFFIX: Final = "suffix"
SUBSTRING: Final = "substring"
REGEX: Final = "regex"
KINDS: Final = (EXACT, PREFIX, SUFFIX, SUBSTRING, REGEX)

_NONE: Final[tuple[int, ...]] = ()
_FEW: Final = 8
"""Ends of names, or lengths, that cost less to try than a walk over the labels of a name."""

_Key = TypeVar("_Key", bytes, int)


class Question(Protocol):
    """The question of a query: a `Request`, or an `Exchange` in which rules have changed it."""

    @property
    def name(self) -> str:
        """The name in presentation form and lower case."""

    @property
    def name_wire(self) -> bytes:
        """The name in wire form and lower case."""

    @property
    def qtype(self) -> int:
        """The number of the type."""

    @property
    def qclass(self) -> int:
        """The number of the class."""


class NameMatch(NamedTuple):
    """Selects queries by name.

    `text` is the name or its part, in lower case and with the final dot, or a pattern. It is
    compared with the presentation form of names, as in CoreDNS: `suffix example.org.` also selects
    `badexample.org.`, and `prefix` and `substring` select whole labels at their end.
    """

    kind: str
    text: str
    pattern: Pattern | None = None

    @property
    def wire(self) -> bytes | None:
        """The wire form of the text, None if it is no part of a domain name.

        A suffix or substring with a dot in front is without it here.
        """
        text = self.text
        if self.kind in (SUFFIX, SUBSTRING) and len(text) > 1:
            text = text.removeprefix(".")
        try:
            return lower(from_text(text))
        except InvalidName:
            return None


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

    A query costs a look-up for exact names, one for each label if its name ends as suffixes do, and
    one pass of RE2 if there are patterns. Only substrings are tried one by one.
    """

    def __init__(self, selectors: Iterable[Selector]) -> None:
        self._always: tuple[int, ...] = ()
        self._exact: dict[bytes, tuple[int, ...]] = {}
        self._types: dict[int, tuple[int, ...]] = {}
        self._classes: dict[int, tuple[int, ...]] = {}
        # Prefixes by their first label; by the names that follow them, the ends of labels.
        self._prefixes: dict[bytes, list[tuple[bytes, int]]] = {}
        self._suffixes: dict[bytes, list[tuple[bytes, int]]] = {}
        self._substrings: list[tuple[str, int]] = []
        patterns: list[tuple[int, Pattern]] = []
        for number, selector in enumerate(selectors):
            if selector is None:
                self._always += (number,)
            elif isinstance(selector, TypeMatch):
                _add(self._types, selector.qtype, number)
            elif isinstance(selector, ClassMatch):
                _add(self._classes, selector.qclass, number)
            elif selector.pattern is not None:
                patterns.append((number, selector.pattern))
            elif selector.kind == SUBSTRING:
                self._substrings.append((selector.text, number))
            else:
                self._add_name(selector, number)
        self._lengths = tuple(set(map(len, self._suffixes)))
        self._starts = _few(it for each in self._prefixes.values() for it, _ in each) or (b"",)
        self._ends = self._few_ends()
        self._patterns = None
        if patterns:
            from corepy_rewrite.pattern import PatternSet

            self._patterns = PatternSet(patterns)

    def _add_name(self, selector: NameMatch, number: int) -> None:
        wire = selector.wire
        if wire is None:
            return  # a warning was printed at setup
        if selector.kind == SUFFIX:
            self._add_suffix(selector.text, wire, number)
        elif selector.kind == EXACT or wire == ROOT:
            _add(self._exact, wire, number)
        else:
            first = wire[: wire[0] + 1]
            self._prefixes.setdefault(first, []).append((wire[:-1], number))

    def _add_suffix(self, text: str, wire: bytes, number: int) -> None:
        """Add a suffix as the end of a label, and the name that follows that label."""
        if wire == ROOT:  # the text is ".", which ends every name, also the root
            self._suffixes.setdefault(ROOT, []).append((b"", number))
            _add(self._exact, ROOT, number)
        elif text.startswith("."):
            self._suffixes.setdefault(wire, []).append((b"", number))
        else:
            start = wire[0] + 1
            self._suffixes.setdefault(wire[start:], []).append((wire[1:start], number))

    def _few_ends(self) -> tuple[bytes, ...]:
        """Return ends of all names that suffixes select, to reject other names fast.

        These are the suffixes if they are few, or else their last labels, or else the root.
        """
        names = self._suffixes
        last_labels = (name[parent_offsets(name)[-2:][0] :] for name in names)
        ends = (label + name for name, labels in names.items() for label, _ in labels)
        return _few(ends) or _few(last_labels) or (ROOT,)

    def find(self, question: Question) -> tuple[int, ...]:
        """Return the numbers of the selectors that select a question, in any order."""
        name = question.name_wire
        found = self._always + self._exact.get(name, _NONE)
        if self._types:
            found += self._types.get(question.qtype, _NONE)
        if self._classes:
            found += self._classes.get(question.qclass, _NONE)
        if self._suffixes and name.endswith(self._ends):
            found += self._suffixes_of(name)
        if self._prefixes and name.startswith(self._starts):
            for prefix, number in self._prefixes.get(name[: name[0] + 1], ()):
                if name.startswith(prefix):
                    found += (number,)
        if self._substrings:
            for text, number in self._substrings:
                if text in question.name:
                    found += (number,)
        if self._patterns is not None:
            found += self._patterns.find(question.name)
        return found

    def _suffixes_of(self, name: bytes) -> tuple[int, ...]:
        """Look up the ends of a name that are as long as those of the suffixes."""
        found, total = _NONE, len(name)
        for length in self._lengths if len(self._lengths) <= _FEW else _lengths_of(name):
            endings = self._suffixes.get(name[-length:])
            if endings is not None:
                label = _label_before(name, total - length)
                if label is not None:
                    found += tuple(number for end, number in endings if label.endswith(end))
        return found


def _lengths_of(name: bytes) -> list[int]:
    """Return the lengths of the names above a name."""
    lengths, at, left = list[int](), 0, len(name)
    while size := name[at]:
        at += size + 1
        left -= size + 1
        lengths.append(left)
    return lengths


def _label_before(name: bytes, offset: int) -> bytes | None:
    """Return the label in front of an offset, None if no label ends there."""
    offsets = parent_offsets(name)
    if offset not in offsets[1:]:
        return None
    return name[offsets[offsets.index(offset) - 1] + 1 : offset]


def _few(texts: Iterable[bytes]) -> tuple[bytes, ...]:
    """Return the different ones of some texts, none if they are many."""
    different = tuple(set(texts))
    return different if len(different) <= _FEW else ()


def _add(table: dict[_Key, tuple[int, ...]], key: _Key, number: int) -> None:
    table[key] = (*table.get(key, ()), number)


def length_in_names(match: NameMatch) -> int:
    """Return the number of characters that a prefix or suffix takes in a name's text."""
    wire = match.wire
    if wire is None or match.text == ".":
        return len(match.text)
    has_dot = match.kind == SUFFIX and match.text.startswith(".")
    return len(to_text(wire)) + has_dot
