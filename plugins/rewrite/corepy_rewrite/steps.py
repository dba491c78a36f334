"""The steps that rules leave for a reply (CoreDNS: plugin/rewrite/reverter.go)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from corepy.dns.names import ROOT, InvalidName, from_text, is_subdomain, lower, to_text
from corepy_rewrite.exchange import UnusableError
from corepy_rewrite.parts import ends_with

if TYPE_CHECKING:
    from corepy.plugin import NamePattern
    from corepy_rewrite.answer import Answer
    from corepy_rewrite.parts import Part
    from corepy_rewrite.replacement import Replacement

_LONGEST_NAME = 255


class Renaming(NamedTuple):
    """Maps a name, and the names below it, back to the name before a rule."""

    name: bytes
    before: bytes
    maps_values: bool = True

    def apply(self, answer: Answer) -> None:
        """Map owners and values."""
        answer.map_names(self._map, owners=True, values=self.maps_values)

    def _map(self, name: bytes) -> bytes:
        folded = lower(name)
        if folded == self.name:
            return self.before
        if self.name == ROOT or not is_subdomain(folded, self.name):
            return name  # all names are below the root
        mapped = name[: len(name) - len(self.name)] + self.before
        if len(mapped) > _LONGEST_NAME:
            raise UnusableError(f"{to_text(mapped)} in the reply is longer than 255 bytes")
        return mapped


class SuffixRenaming(NamedTuple):
    """Replaces the end of names, which need not be whole labels."""

    suffix: Part
    length: int
    """The number of characters of the suffix in the presentation form of names."""

    replacement: str

    def apply(self, answer: Answer) -> None:
        """Map owners and values."""
        answer.map_names(self._map, owners=True, values=True)

    def _map(self, name: bytes) -> bytes:
        if self.suffix.wire != ROOT and not ends_with(lower(name), self.suffix):
            return name
        text = to_text(name)
        start = text[: len(text) - self.length]
        if not start and self.replacement.startswith("."):
            return name  # no name below the old suffix was changed to it
        return name_from(start + self.replacement, "in the reply")


class PatternRenaming(NamedTuple):
    """Replaces names that match a pattern; `of_values` replaces values instead of owners."""

    pattern: NamePattern
    replacement: Replacement
    of_values: bool

    def apply(self, answer: Answer) -> None:
        """Map owners or values."""
        answer.map_names(self._map, owners=not self.of_values, values=self.of_values)

    def _map(self, name: bytes) -> bytes:
        groups = self.pattern.find(to_text(name))
        return name if groups is None else name_from(self.replacement.fill(groups), "in the reply")


class TTLLimit(NamedTuple):
    """Moves the TTLs of all records into a range, in seconds."""

    least: int
    most: int

    def apply(self, answer: Answer) -> None:
        """Change the TTLs."""
        answer.limit_ttls(self.least, self.most)


class RcodeChange(NamedTuple):
    """Replaces one rcode by another."""

    old: int
    new: int

    def apply(self, answer: Answer) -> None:
        """Change the rcode, if it is the old one."""
        if answer.rcode == self.old:
            answer.rcode = self.new


class OptionReversal(NamedTuple):
    """Gives an EDNS option the data that the query had before a rule; None removes it."""

    code: int
    data: bytes | None

    def apply(self, answer: Answer) -> None:
        """Change the options of the reply."""
        answer.options.revert(self.code, self.data)


def name_from(text: str, where: str) -> bytes:
    """Return the wire form of a name that a rule has made; raises UnusableError."""
    try:
        return from_text(text)
    except InvalidName:
        raise UnusableError(f"invalid name {where}: {text}") from None
