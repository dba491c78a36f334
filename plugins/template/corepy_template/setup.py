"""Parse the *template* directives of a server block (CoreDNS: plugin/template/setup.go)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corepy.dns import constants as c
from corepy.plugin import Mistakes, ZoneMatcher, parse_unsigned, suggest
from corepy_template.handler import Templates
from corepy_template.rule import Expressions, TemplateRule

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from corepy.plugin import Controller, NamePattern, Token
    from corepy_template.rendering import Template

_RCODES: Final = {**c.RCODES, "NOTIMPL": c.NOTIMP}  # both spellings, as in miekg/dns
_MOST_CODE: Final = 0xFFFF


def setup(controller: Controller) -> None:
    """Add one handler for all *template* directives of the block."""
    rules, mistakes = list[TemplateRule](), Mistakes()
    for _ in controller.occurrences():
        with controller.statement(mistakes):
            rules.append(_rule(controller))
    mistakes.settle()
    controller.add_handler(Templates(rules))


def _rule(controller: Controller) -> TemplateRule:
    qclass = _number(controller, c.CLASSES, "query class")
    qtype = _number(controller, c.TYPES, "query type")
    zones = controller.zones_from(controller.remaining_tokens())
    rule = TemplateRule(qclass, qtype, ZoneMatcher(zones))
    controller.options(_options(controller, rule))
    if rule.patterns or rule.templates or rule.expressions is not None:
        from corepy_template.writer import ConditionalWriter, Writer

        expressions = rule.expressions
        rule.writer = Writer(rule) if expressions is None else ConditionalWriter(rule, expressions)
    return rule


def _options(controller: Controller, rule: TemplateRule) -> Mapping[str, Callable[[], None]]:
    def add(templates: list[Template]) -> Callable[[], None]:
        return lambda: templates.extend(
            _template(controller, text) for text in controller.arguments(1)
        )

    return {
        "match": lambda: rule.patterns.extend(_patterns(controller)),
        "answer": add(rule.answer),
        "additional": add(rule.additional),
        "authority": add(rule.authority),
        "rcode": lambda: setattr(rule, "rcode", _number(controller, _RCODES, "rcode")),
        "ederror": lambda: setattr(rule, "ede", _ederror(controller)),
        "fallthrough": lambda: setattr(rule, "fallthrough", controller.fallthrough()),
        "upstream": lambda: _ignore(controller),
        "var": lambda: _expressions(rule).read_variable(controller),
        "expr": lambda: _expressions(rule).read_condition(controller),
    }


def _expressions(rule: TemplateRule) -> Expressions:
    """Return the expressions of a rule, which the first `var` or `expr` makes."""
    if rule.expressions is None:
        from corepy_template.expressions import RuleExpressions

        rule.expressions = RuleExpressions()
    return rule.expressions


def _number(controller: Controller, table: Mapping[str, int], what: str) -> int:
    """Parse a mnemonic, which must be in upper case, as in CoreDNS."""
    token = controller.next_argument()
    number = table.get(token.text)
    if number is None:
        near = suggest(token.text, list(table)) or suggest(token.text.upper(), list(table))
        hint = f"did you mean {near!r}?" if near else None
        raise controller.error(f"unknown {what} {token.text!r}", token, hint)
    return number


def _patterns(controller: Controller) -> list[NamePattern]:
    return [controller.name_pattern(token) for token in controller.arguments(1)]


def _template(controller: Controller, token: Token) -> Template:
    from corepy_template.data import FIELDS
    from corepy_template.language import SyntaxProblem, compile_template

    try:
        template, warnings = compile_template(token.text, FIELDS)
    except SyntaxProblem as problem:
        message = f"could not compile template: {problem}"
        raise controller.error(message, _at(token, problem.offset), problem.hint) from None
    template.location = token.location
    for warning in warnings:
        message = f"this template fails for every query: {warning}"
        controller.warn(message, _at(token, warning.offset), warning.hint)
    if template.is_constant:
        _check_record(controller, token)
    return template


def _check_record(controller: Controller, token: Token) -> None:
    """Warn if a constant template is not a valid record: CoreDNS loads it and answers SERVFAIL."""
    from corepy.dns.presentation import RecordError
    from corepy_template.writer import record_of

    try:
        record_of(token.text)
    except RecordError as error:
        location = token if error.offset is None else _at(token, error.offset)
        controller.warn(
            f"this is not a valid record, so every query gets SERVFAIL: {error}", location
        )


def _at(token: Token, offset: int) -> Token:
    """Return the position of a character in a token, or the token if quoting hides the position."""
    before = token.text[:offset]
    if token.text != token.raw or '"' in before or "\n" in before:
        return token
    return token._replace(column=token.column + token.quoted + offset, length=1)


def _ederror(controller: Controller) -> tuple[int, str]:
    code, *reason = controller.arguments(1, 2)
    number = parse_unsigned(code.text, _MOST_CODE)
    if number is None:
        hint = f"a number from 0 to {_MOST_CODE}, see RFC 8914"
        raise controller.error(f"invalid extended DNS error code {code.text!r}", code, hint)
    text = reason[0].text if reason else ""
    return number, text.encode("utf-8", "replace").decode()


def _ignore(controller: Controller) -> None:
    """Skip the arguments of an obsolete option, which CoreDNS also ignores."""
    controller.remaining_args()
