"""Replaces the targets of aliases, and looks up the new ones (plugin/rewrite/cname_target.go)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from corepy.dns import constants as c
from corepy.dns.names import lower, to_text
from corepy.dns.wire import ANSWER, walk
from corepy.plugin import Cacheability, lookup
from corepy_rewrite.exchange import UnusableError
from corepy_rewrite.matching import EXACT, PREFIX, SUBSTRING, SUFFIX, NameMatch
from corepy_rewrite.records import read_records
from corepy_rewrite.steps import name_from

if TYPE_CHECKING:
    from corepy.dns import Reply, Request
    from corepy_rewrite.answer import Answer
    from corepy_rewrite.exchange import Exchange
    from corepy_rewrite.records import Record
    from corepy_rewrite.replacement import Replacement

_LOOKUPS_LEFT: Final = "rewrite/lookups-left"
"""Metadata label of a list with the number of look-ups that a client's query may still cause."""

_MOST_LOOKUPS: Final = 16
"""Each of several rules may look up a target, and so may the rules for that query."""


class AliasRule:
    """Replaces the target of the first alias in a reply that matches.

    The reply is a function of the query's bytes, but the packet cache must not repeat it
    (`Answer.replace_records`): its parts are valid for different times.
    """

    cacheability = Cacheability.SAFE
    selector = None
    applies_always = True

    def __init__(self, match: NameMatch, replacement: Replacement) -> None:
        """Replace targets that `match` selects; its text and that of `replacement` are plain."""
        self._match = match
        self._replacement = replacement

    def apply(self, exchange: Exchange) -> bool:
        """Add the step for the reply."""
        exchange.steps.append(AliasStep(self))
        exchange.follows_aliases = True
        return True

    def target(self, name: bytes) -> bytes | None:
        """Return the new target for an old one, None if the rule does not match.

        Raises UnusableError if the new one is not a domain name.
        """
        text = self._replaced(to_text(lower(name)))
        return None if text is None else name_from(text, "as the target of an alias")

    def _replaced(self, name: str) -> str | None:
        kind, old, pattern = self._match
        new = self._replacement.text
        if pattern is not None:
            groups = pattern.find(name)
            return None if groups is None else self._replacement.fill(groups)
        if kind == EXACT:
            return new if name == old else None
        if kind == PREFIX and name.startswith(old):
            return new + name[len(old) :]
        if kind == SUFFIX and name.endswith(old):
            return name[: len(name) - len(old)] + new
        return name.replace(old, new) if kind == SUBSTRING and old in name else None


class AliasStep(NamedTuple):
    """Replaces the target of an alias in a reply."""

    rule: AliasRule

    def apply(self, answer: Answer) -> None:
        """Leave a reply as it is that has no alias, or that is a zone transfer."""

    async def resolve(self, answer: Answer) -> None:
        """Replace the target in a reply, and all records behind it by those of the new target.

        A query for aliases does not ask what is behind them. Raises UnusableError if the new target
        cannot be resolved.
        """
        kept: list[Record] = []
        target = None
        for record in answer.records:
            if record.section == ANSWER and record.rtype == c.TYPE_CNAME and record.value:
                kept.append(record)
                target = self.rule.target(record.value)
                if target is not None:
                    break
        if target is None:
            return
        kept[-1].value = target
        if answer.asked.qtype == c.TYPE_CNAME:
            answer.replace_records(kept)
            return
        found = await _look_up(answer.asked, target)
        answer.replace_records([*kept, *read_records(found.wire)])
        answer.rcode = found.rcode
        answer.is_truncated = found.tc


async def _look_up(asked: Request, target: bytes) -> Reply:
    """Return this server's reply for a target; raises UnusableError."""
    text = to_text(target)
    # The list is shared by all look-ups that one query of a client causes.
    left: list[int] = dict.setdefault(asked.metadata, _LOOKUPS_LEFT, [_MOST_LOOKUPS])
    left[0] -= 1
    found = await lookup(asked, target) if left[0] >= 0 else None
    if found is None:
        raise UnusableError(f"too many look-ups for the target {text} of an alias")
    if found.is_dropped or found.rcode not in (c.NOERROR, c.NXDOMAIN):
        rcode = "no reply" if found.is_dropped else c.rcode_name(found.rcode)
        raise UnusableError(f"{rcode} for the target {text} of an alias")
    return found


def has_aliases(reply: Reply) -> bool:
    """Return whether the answer section of a reply has an alias; raises FormError."""
    if not reply.ancount:
        return False
    return any(
        section == ANSWER and rtype == c.TYPE_CNAME for section, rtype, *_ in walk(reply.wire)
    )
