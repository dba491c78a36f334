"""Finds the starts, ends and middles of names that rules select, without creating an object.

Slices of a name would be temporary objects, and a loop over a tuple creates an iterator. The length
of a name and its bytes are numbers that Python has already. So names are compared in place, and
parts that are tried one after the other are chains of tuples. `bytes.find` does the work of `in`,
which first tries to read a number, and creates an exception.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from corepy_rewrite.question import Question

    Chain = tuple[()] | tuple["Part", "Chain"]
    SubstringChain = tuple[()] | tuple["Substring", "SubstringChain"]

_NEVER: Final = 256  # no name is so long


class Part(NamedTuple):
    """The start or the end of a name in wire form, and the number of its rule."""

    wire: bytes
    number: int
    partial: int = 0
    """Bytes of a suffix that are the end of a label; the others are whole labels."""


class Substring(NamedTuple):
    """A part of names that ends with a label, and the number of its rule.

    Its wire form does not show where its first label begins, so the text is compared as well.
    """

    wire: bytes
    """Without the length of the first label, if that may be the end of a label."""

    least: int
    """The number of bytes of a name that precede it at least."""

    text: str
    number: int


class _Node:
    """Parts that have all bytes in common which were compared on the way to them."""

    __slots__ = ("branches", "here", "index", "least")

    def __init__(self, parts: Sequence[Part], *, are_ends: bool) -> None:
        """Split parts by one of their bytes.

        That is the byte in which most of them differ. Parts that all others begin (or end) with
        stay here.
        """
        shortest = min(len(part.wire) for part in parts)
        places = range(-1, ~shortest, -1) if are_ends else range(shortest)
        index = max(places, key=lambda place: len({part.wire[place] for part in parts}))
        self.here: Chain = ()
        if all(part.wire[index] == parts[0].wire[index] for part in parts):
            for part in parts:
                if len(part.wire) == shortest:
                    self.here = (part, self.here)
            parts = [part for part in parts if len(part.wire) > shortest]
            index = ~shortest if are_ends else shortest
        self.index = index
        self.least = _NEVER if not parts else ~index if are_ends else index
        """A name is longer than this if it may have one of the other parts."""
        groups: dict[int, list[Part]] = {}
        for part in parts:
            groups.setdefault(part.wire[index], []).append(part)
        self.branches = {byte: _Node(some, are_ends=are_ends) for byte, some in groups.items()}


class Parts:
    """Finds the starts, or the ends, of a name."""

    def __init__(self, parts: Sequence[Part], *, are_ends: bool = False) -> None:
        """Take at least one part. Starts are whole labels; ends may begin within a label."""
        self._root = _Node(parts, are_ends=are_ends)
        self._has = ends_with if are_ends else _starts_with

    def find(self, name: bytes) -> tuple[int, ...]:
        """Return the numbers of the parts of a name, in any order."""
        found: tuple[int, ...] = ()
        node: _Node | None = self._root
        while node is not None:
            chain = node.here
            while chain:
                part, chain = chain
                if self._has(name, part):
                    found += (part.number,)
            node = node.branches.get(name[node.index]) if len(name) > node.least else None
        return found


def _starts_with(name: bytes, prefix: Part) -> bool:
    return name.startswith(prefix.wire)


def ends_with(name: bytes, suffix: Part) -> bool:
    """Return whether a name ends with a suffix, whose whole labels follow another label."""
    if not name.endswith(suffix.wire):
        return False
    start = len(name) - len(suffix.wire)
    whole, at, before = start + suffix.partial, 0, -1
    while at < whole:
        before = at
        at += name[at] + 1
    return at == whole and -1 < before < start


class Substrings:
    """Finds the substrings of a name, which end with a label. They are tried one by one."""

    def __init__(self, substrings: Iterable[Substring]) -> None:
        self._chain: SubstringChain = ()
        for each in substrings:
            self._chain = (each, self._chain)

    def find(self, question: Question) -> tuple[int, ...]:
        """Return the numbers of the substrings of a query's name, in any order."""
        found: tuple[int, ...] = ()
        name, chain = question.name_wire, self._chain
        while chain:
            each, chain = chain
            if name.find(each.wire) >= 0 and _ends_label(name, each) and each.text in question.name:
                found += (each.number,)
        return found


def _ends_label(name: bytes, substring: Substring) -> bool:
    """Return whether a label of a name ends with the bytes of a substring."""
    wire, least, at = substring.wire, substring.least, 0
    while size := name[at]:
        at += size + 1
        if name.endswith(wire, least, at):
            return True
    return False
