"""The rules for names, types, classes, TTLs and rcodes (CoreDNS: plugin/rewrite/name.go, ...)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from corepy.dns.names import lower
from corepy.plugin import Cacheability
from corepy_rewrite.matching import (
    EXACT,
    PREFIX,
    SUBSTRING,
    SUFFIX,
    ClassMatch,
    NameMatch,
    Selector,
    TypeMatch,
    part_of,
)
from corepy_rewrite.steps import Renaming, SuffixRenaming, name_from

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corepy_rewrite.exchange import Exchange, Step
    from corepy_rewrite.replacement import Replacement


class Rule(Protocol):
    """One *rewrite* directive."""

    @property
    def selector(self) -> Selector:
        """Selects the queries that the rule may apply to."""

    @property
    def cacheability(self) -> Cacheability:
        """The inputs that the effect of the rule depends on."""

    @property
    def applies_always(self) -> bool:
        """Whether it applies to every query."""

    def apply(self, exchange: Exchange) -> bool:
        """Change a selected query, add steps for its reply; return whether the rule applies.

        Raises UnusableError if the result is not a valid query.
        """


class NameRule:
    """Changes the name of a query, and names in its reply."""

    cacheability = Cacheability.SAFE
    applies_always = False

    def __init__(
        self,
        match: NameMatch,
        replacement: Replacement,
        answers: Sequence[Step] = (),
        *,
        is_auto: bool = False,
    ) -> None:
        """Replace what `match` selects.

        `answers` are the steps for the reply. With `is_auto`, and always for an exact name, names
        in the reply are changed back first.
        """
        self.selector = match
        self._match = match
        self._replacement = replacement
        self._renames_back = match.kind == EXACT or (is_auto and match.kind != SUFFIX)
        self._answers = list(answers)
        if is_auto and match.kind == SUFFIX:
            self._answers[:0] = _reversals(match.text, replacement.text)

    def apply(self, exchange: Exchange) -> bool:
        """Change the name."""
        text = self._renamed(exchange.name)
        if text is None:
            return False
        before = exchange.name_wire
        after = lower(name_from(text, "after rewrite"))
        exchange.rename(after)
        if self._renames_back:
            exchange.steps.append(Renaming(after, before))
        exchange.steps += self._answers
        return True

    def _renamed(self, name: str) -> str | None:
        match, text = self._match, self._replacement.text
        if match.kind == EXACT:
            return text
        if match.kind == PREFIX:
            return text + name[len(match.text) :]
        if match.kind == SUFFIX:
            return name[: len(name) - len(match.text)] + text
        if match.kind == SUBSTRING:
            return name.replace(match.text, text)
        groups = match.pattern.find(name) if match.pattern else None
        return None if groups is None else self._replacement.fill(groups)


def _reversals(old: str, new: str) -> list[Step]:
    """Return the step that replaces a new suffix by the old one, if names can have the new one."""
    suffix = NameMatch(SUFFIX, new).as_in_names
    wire = suffix.wire
    if wire is None:
        return []
    return [SuffixRenaming(part_of(suffix, wire), len(suffix.text), old)]


class TypeRule:
    """Changes the type of a query."""

    cacheability = Cacheability.SAFE
    applies_always = False

    def __init__(self, old: int, new: int) -> None:
        self.selector = TypeMatch(old)
        self.new = new

    def apply(self, exchange: Exchange) -> bool:
        """Change the type."""
        exchange.qtype = self.new
        return True


class ClassRule:
    """Changes the class of a query."""

    cacheability = Cacheability.SAFE
    applies_always = False

    def __init__(self, old: int, new: int) -> None:
        self.selector = ClassMatch(old)
        self.new = new

    def apply(self, exchange: Exchange) -> bool:
        """Change the class."""
        exchange.qclass = self.new
        return True


class ReplyRule:
    """Changes the replies to the queries for some names: their TTLs or their rcode."""

    cacheability = Cacheability.SAFE
    applies_always = False

    def __init__(self, match: NameMatch, step: Step) -> None:
        self.selector = match
        self.step = step

    def apply(self, exchange: Exchange) -> bool:
        """Add the step for the reply."""
        exchange.steps.append(self.step)
        return True
