"""Parse the fields of rules that select queries by name, type or class."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from corepy.dns import constants as c
from corepy.dns.names import InvalidName, from_text
from corepy.plugin import parse_unsigned, suggest
from corepy.plugin.pattern import compile_pattern
from corepy_rewrite.alias import AliasRule
from corepy_rewrite.answer_reading import read_answers, read_pattern, read_replacement
from corepy_rewrite.edns_reading import read_option_rule
from corepy_rewrite.matching import EXACT, KINDS, PREFIX, REGEX, SUBSTRING, SUFFIX, NameMatch
from corepy_rewrite.replacement import Replacement
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
_EXAMPLES: Final = {"type": "A or AAAA", "class": "IN or CH", "rcode": "NOERROR or NXDOMAIN"}
_RANGE: Final = re.compile(r"([^-]*)(-?)([^-]*)")
_UNLIKE_NAMES: Final = re.compile(r"[\\*+?(){\[]")
"""Characters that a pattern may be invalid with."""

_LITERAL: Final = "write regex in front of a pattern, or suffix in front of a domain"
_TTL_HINT: Final = "seconds, or a range such as 30-300, 30- or -300; at most 2147483647"
"""RFC 2181 section 8: a TTL is a number of 31 bits."""


def _read_name(controller: Controller, field: Token, words: Sequence[Token]) -> Rule:
    if len(words) < 2:
        raise _count_error(controller, field, words, "name [KIND] FROM TO")
    if len(words) == 2:
        kind, old, new, answers = EXACT, words[0], words[1], words[:0]
        _warn_of_kind(controller, old)
    else:
        kind = _kind(controller, words[0])
        old, new, answers = words[1], words[2], words[3:]
    if kind == EXACT:
        _check_exact(controller, old, new)
    match = _match(controller, kind, old)
    if match.pattern is None:
        replacement = Replacement(normal(new.text))
        _warn_unless_usable(controller, new, kind)
    else:
        replacement = read_replacement(controller, match.pattern, new)
    is_auto, steps = read_answers(controller, answers)
    return NameRule(match, replacement, steps, is_auto=is_auto)


def _check_exact(controller: Controller, old: Token, new: Token) -> None:
    """Refuse a rule that CoreDNS refuses, because it lacks the word `regex`.

    CoreDNS compiles the new name as a pattern, and the old one may not use more groups than that
    has (plugin/rewrite/name.go, newNameRule).
    """
    if not _UNLIKE_NAMES.search(new.text) and "{" not in old.text:
        return
    try:
        groups = compile_pattern(normal(new.text)).groups
    except ValueError as error:
        message = f"{new.text!r} is neither a name nor a pattern: {error}"
        raise controller.error(message, new, _LITERAL) from None
    if Replacement(normal(old.text)).counted_groups > groups:
        message = f"{old.text!r} uses groups of a pattern in a rule for an exact name"
        raise controller.error(message, old, _LITERAL)


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
    if len(words) == 2:
        _warn_of_kind(controller, old)
    if kind == REGEX:
        pattern = read_pattern(controller, old, ignores_case=True)
        return AliasRule(NameMatch(kind, old.text, pattern), Replacement(new.text.lower()))
    _warn_of_pattern(controller, old)
    if kind == EXACT:
        _warn_unless_usable(controller, new, kind)
        match = NameMatch(kind, normal(old.text)).as_in_names
        return AliasRule(match, Replacement(normal(new.text)))
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


def _warn_of_kind(controller: Controller, word: Token) -> None:
    """Warn of a name that is probably a kind of match, behind which the name is missing."""
    if word.text.lower() in KINDS:
        message = f"{word.text!r} is taken as a name, not as a kind of match"
        controller.warn(message, word, f"write the name behind it: {word.text} NAME ...")


def _name_match(controller: Controller, words: Sequence[Token]) -> NameMatch:
    """Parse `[KIND] NAME`."""
    kind = EXACT if len(words) == 1 else _kind(controller, words[0])
    if len(words) == 1:
        _warn_of_kind(controller, words[0])
    return _match(controller, kind, words[-1])


def _match(controller: Controller, kind: str, word: Token) -> NameMatch:
    if kind == REGEX:
        return NameMatch(kind, word.text, read_pattern(controller, word))
    match = NameMatch(kind, normal(word.text)).as_in_names
    if match.wire is None:
        controller.warn(f"no name can match {word.text!r}", word, "a name has no empty labels")
    else:
        _warn_of_pattern(controller, word)
    return match


def _warn_of_pattern(controller: Controller, word: Token) -> None:
    """Warn of a name that seems to be a pattern or a wildcard, or is not ASCII."""
    if "*" in word.text or "(" in word.text:
        controller.warn(f"{word.text!r} selects only names with these characters", word, _LITERAL)
    elif not word.text.isascii():
        hint = "write it as clients query it, such as xn--mnchen-3ya.de for münchen.de"
        controller.warn(f"{word.text!r} selects only names with these bytes in UTF-8", word, hint)


def _warn_unless_usable(controller: Controller, word: Token, kind: str) -> None:
    """Warn of the replacement of a name, or of its start or end, that cannot make a valid name."""
    text = normal(word.text)
    if kind == SUBSTRING:
        return  # it depends on the rest of the name
    if kind == PREFIX:
        text += "a"
    elif kind == SUFFIX and text.startswith("."):
        text = f"a{text}"
    try:
        from_text(text)
    except InvalidName as error:
        controller.warn(f"queries that match get SERVFAIL: {error}", word)


def _number(controller: Controller, word: Token, table: Mapping[str, int], what: str) -> int:
    number = table.get(word.text.upper())
    if number is None:
        near = suggest(word.text.upper(), list(table))
        hint = f"did you mean {near!r}?" if near else f"such as {_EXAMPLES[what]}"
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
