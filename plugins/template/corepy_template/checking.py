"""Warns about templates that CoreDNS loads, but that fail for every query."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from corepy.dns.presentation import RecordError
from corepy.plugin import suggest
from corepy_template.writer import record_of

if TYPE_CHECKING:
    from corepy.plugin import Controller, Token
    from corepy_template.rendering import Template
    from corepy_template.rule import TemplateRule

UNQUOTED_HINT: Final = "put the record in double quotes: it is one word of the Corefile"

_HINTS: Final = {
    "Group": "a group has a name in the pattern: (?P<{}>...)",
    "Var": "set it in the block: var {} EXPRESSION",
}
_USUAL_FIELD: Final = re.compile(r"\{\{[ \t]*\.(Name|Zone|Type|Class)[ \t]*\}\}")


def warn_of_failures(
    controller: Controller, rule: TemplateRule, written: Sequence[tuple[Token, Template]]
) -> None:
    """Report the templates of a complete rule that are never valid records, with their words."""
    reported = 0  # the line of a record without quotes, each of whose words is a template
    for token, template in written:
        if token.line != reported and _warn_of_record(controller, rule, token) and not token.quoted:
            reported = token.line
        for field, member, offset in template.members:
            known = list(_members(rule, field))
            if member not in known:
                source = "match has such a group" if field == "Group" else "var sets it"
                message = f"the value of .{field}.{member} is always '<no value>': no {source}"
                near = suggest(member, known)
                hint = f"did you mean {near!r}?" if near else _HINTS[field].format(member)
                controller.warn(message, position(token, offset), hint)


def position(token: Token, offset: int) -> Token:
    """Return the position of a character in a token, or the token if quoting hides the position."""
    before = token.text[:offset]
    if token.text != token.raw or '"' in before or "\n" in before:
        return token
    return token._replace(column=token.column + token.quoted + offset, length=1)


def _members(rule: TemplateRule, field: str) -> Iterator[str]:
    """Yield the names of the groups or variables that the templates of a rule can use."""
    if field == "Var":
        yield from () if rule.expressions is None else rule.expressions.names
        return
    yield "0"
    for pattern in rule.patterns:
        yield from pattern.named_groups
        yield from map(str, range(1, pattern.groups + 1))


def _warn_of_record(controller: Controller, rule: TemplateRule, token: Token) -> bool:
    """Warn if a text is not a record, with the usual values in place of simple fields.

    Return whether it is not.
    """
    text = _sample(rule, token.text)
    if text is None:
        return False
    try:
        record_of(text)
        return False
    except RecordError as error:
        is_place_known = text == token.text and error.offset is not None
        location = position(token, error.offset or 0) if is_place_known else token
        message = f"this is not a valid record, so every query gets SERVFAIL: {error}"
        controller.warn(message, location, None if token.quoted else UNQUOTED_HINT)
        return True


def _sample(rule: TemplateRule, text: str) -> str | None:
    """Return the text that a template makes of a query, None if this is not known at setup.

    Text in front of the root's dot makes no name, so another zone of the rule is preferred.
    """
    zone = next((zone for zone in rule.zones.zones if zone != "."), ".")
    qtype, qclass = rule.own_names
    values = {"Zone": zone, "Name": "a." if zone == "." else zone, "Type": qtype, "Class": qclass}
    text = _USUAL_FIELD.sub(lambda field: values[field[1]] or field[0], text)
    return None if "{{" in text else text
