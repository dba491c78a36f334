"""Parse the fields of rules that select queries by name, type or class."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from corepy.dns import constants as c
from corepy.dns.names import InvalidName, from_text
from corepy.plugin import parse_unsigned, suggest
from corepy_rewrite.alias import AliasRule
from corepy_rewrite.answer_reading import read_answers, read_pattern, read_replacement
from corepy_rewrite.edns_reading import read_option_rule
from corepy_rewrite.matching import EXACT, KINDS, REGEX, SUFFIX, NameMatch
from corepy_rewrite.pattern import Replacement
from corepy_rewrite.rules import ClassRule, NameRule, ReplyRule, TypeRule
from corepy_rewrite.steps import RcodeChange, TTLLimit
from corepy_rewrite.texts import normal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from corepy.plugin import Controller, Token
    from corepy_rewrite.rules import Rule

    Read = Callable[[Controller, Token, Sequence[Token]], Rule]

_RCODES: Final = {**c.RCODES, "NOTIMPL": c.NOTIMP}  # both spellings, as in miekg/dns
_LAST_RCODE: Final = 23
_MOST_TTL: Final = 0x7FFFFFFF
_RANGE: Final = re.compile(r"([^-]*)(-?)([^-]*)")
_TTL_HINT: Final = "seconds, or a range such as 30-300, 30- or -300; at most 2147483647"
"""RFC 2181 section 8: a TTL is a number of 31 bits."""


def _read_name(controller: Controller, field: Token, words: Sequence[Token]) -> Rule:
    if len(words) < 2:
        raise _count_error(controller, field, words, "name [KIND] FROM TO")
    if len(words) == 2:
        kind, old, new, answers = EXACT, words[0], words[1], words[:0]
    else:
        kind = _kind(controller, words[0])
        old, new, answers = words[1], words[2], words[3:]
    match = _match(controller, kind, old)
    if match.pattern is None:
        replacement = Replacement(normal(new.text))
        if kind in (EXACT, SUFFIX):
            _warn_unless_name(controller, new, replacement.text)
    else:
        replacement = read_replacement(controller, match.pattern, new)
    is_auto, steps = read_answers(controller, answers)
    return NameRule(match, replacement, steps, is_auto=is_auto)


def _read_type(controller: Controller, field: Token, words: Sequence[Token]) -> Rule:
    if len(words) != 2:
        raise _count_error(controller, field, words, "type FROM TO")
    old, new = (_number(controller, word, c.TYPES, "type") for word in words)
    return TypeRule(old, new)


def _read_class(controller: Controller, field: Token, words: Sequence[Token]) -> Rule:
    if len(words) != 2:
        raise _count_error(controller, field, words, "class FROM TO")
    old, new = (_number(controller, word, c.CLASSES, "class") for word in words)
    return ClassRule(old, new)


def _read_ttl(controller: Controller, field: Token, words: Sequence[Token]) -> Rule:
    if len(words) not in (2, 3):
        raise _count_error(controller, field, words, "ttl [KIND] NAME SECONDS")
    limit = _ttl_limit(controller, words[-1])
    return ReplyRule(_name_match(controller, words[:-1]), limit)


def _read_rcode(controller: Controller, field: Token, words: Sequence[Token]) -> Rule:
    if len(words) not in (3, 4):
        raise _count_error(controller, field, words, "rcode [KIND] NAME FROM TO")
    old, new = (_rcode(controller, word) for word in words[-2:])
    return ReplyRule(_name_match(controller, words[:-2]), RcodeChange(old, new))


def _read_alias(controller: Controller, field: Token, words: Sequence[Token]) -> Rule:
    if len(words) not in (2, 3):
        raise _count_error(controller, field, words, "cname [KIND] FROM TO")
    kind = EXACT if len(words) == 2 else _kind(controller, words[0])
    old, new = words[-2:]
    if kind == REGEX:
        pattern = read_pattern(controller, old, ignores_case=True)
        return AliasRule(NameMatch(kind, old.text, pattern), Replacement(new.text.lower()))
    if kind == EXACT:
        return AliasRule(NameMatch(kind, normal(old.text)), Replacement(normal(new.text)))
    return AliasRule(NameMatch(kind, old.text.lower()), Replacement(new.text.lower()))


FIELDS: Final[Mapping[str, Read]] = {
    "name": _read_name,
    "class": _read_class,
    "type": _read_type,
    "edns0": read_option_rule,
    "ttl": _read_ttl,
    "cname": _read_alias,
    "rcode": _read_rcode,
}
"""The fields of rules, with the function that parses the words behind each."""


def _kind(controller: Controller, word: Token) -> str:
    kind = word.text.lower()
    if kind not in KINDS:
        near = suggest(kind, list(KINDS))
        known = f"known kinds: {', '.join(KINDS)}; two names alone are exact"
        hint = f"did you mean {near!r}?" if near else known
        raise controller.error(f"unknown kind of match {word.text!r}", word, hint)
    return kind


def _name_match(controller: Controller, words: Sequence[Token]) -> NameMatch:
    """Parse `[KIND] NAME`."""
    kind = EXACT if len(words) == 1 else _kind(controller, words[0])
    return _match(controller, kind, words[-1])


def _match(controller: Controller, kind: str, word: Token) -> NameMatch:
    if kind == REGEX:
        return NameMatch(kind, word.text, read_pattern(controller, word))
    match = NameMatch(kind, normal(word.text))
    if match.wire is None:
        controller.warn(f"no name can match {word.text!r}", word, "a name has no empty labels")
    return match


def _warn_unless_name(controller: Controller, word: Token, text: str) -> None:
    try:
        from_text(text.removeprefix("."))
    except InvalidName as error:
        controller.warn(f"queries that match get SERVFAIL: {error}", word)


def _number(controller: Controller, word: Token, table: Mapping[str, int], what: str) -> int:
    number = table.get(word.text.upper())
    if number is None:
        near = suggest(word.text.upper(), list(table))
        hint = f"did you mean {near!r}?" if near else f"such as {' or '.join(list(table)[:2])}"
        raise controller.error(f"unknown {what} {word.text!r}", word, hint)
    return number


def _rcode(controller: Controller, word: Token) -> int:
    number = parse_unsigned(word.text, _LAST_RCODE)
    return _number(controller, word, _RCODES, "rcode") if number is None else number


def _ttl_limit(controller: Controller, word: Token) -> TTLLimit:
    found = _RANGE.fullmatch(word.text)
    low, dash, high = found.groups() if found else ("", "", "")
    least = parse_unsigned(low, _MOST_TTL) if low else 0
    most = parse_unsigned(high, _MOST_TTL) if high else _MOST_TTL
    if not dash:
        most = least
    if not (low or high) or least is None or most is None or least > most:
        raise controller.error(f"invalid TTL {word.text!r}", word, _TTL_HINT)
    return TTLLimit(least, most)


def _count_error(
    controller: Controller, field: Token, words: Sequence[Token], usage: str
) -> Exception:
    """Return the error for a wrong number of words behind a field."""
    most = len(re.sub(r"\[\w+\]", "x", usage).split()) - 1
    if len(words) > most:
        hint = f"the rule is: {usage}; a block is one rule, so write one rewrite for each"
        return controller.error(f"too many arguments for {field.text}", words[most], hint)
    last = words[-1] if words else field
    return controller.error(f"too few arguments for {field.text}", last, f"the rule is: {usage}")
