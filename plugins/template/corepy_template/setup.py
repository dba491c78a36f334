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
_LINE_HINT: Final = "class and type come first, such as: template IN A example.org"
_MATCH_HINT: Final = "such as: match ^www[.]example[.]org[.]$"
_RECORD_HINT: Final = 'such as: answer "{{ .Name }} 60 IN A 192.0.2.1"'
_RCODE_HINT: Final = "such as: rcode NXDOMAIN"
_EDE_HINT: Final = 'a code and a text in quotes, such as: ederror 15 "blocked here"'


def setup(controller: Controller) -> None:
    """Add one handler for all *template* directives of the block."""
    rules, mistakes = list[TemplateRule](), Mistakes()
    for _ in controller.occurrences():
        with controller.statement(mistakes):
            rules.append(_rule(controller))
    mistakes.settle()
    controller.add_handler(Templates(rules))


def _rule(controller: Controller) -> TemplateRule:
    location = controller.token.location if controller.token else ""
    qclass = _number(controller, c.CLASSES, "query class", _LINE_HINT)
    qtype = _number(controller, c.TYPES, "query type", _LINE_HINT)
    zones = controller.zones_from(controller.remaining_tokens())
    rule = TemplateRule(qclass, qtype, ZoneMatcher(zones), location)
    written: list[tuple[Token, Template]] = []
    controller.options(_options(controller, rule, written))
    if written:
        from corepy_template.checking import warn_of_failures

        warn_of_failures(controller, rule, written)
    if rule.patterns or rule.templates or rule.expressions is not None:
        from corepy_template.writer import ConditionalWriter, Writer

        expressions = rule.expressions
        rule.writer = Writer(rule) if expressions is None else ConditionalWriter(rule, expressions)
    return rule


def _options(
    controller: Controller, rule: TemplateRule, written: list[tuple[Token, Template]]
) -> Mapping[str, Callable[[], None]]:
    """Return the options, which add to `rule`, and templates with their words to `written`."""

    def add(templates: list[Template]) -> Callable[[], None]:
        def read() -> None:
            for token in controller.arguments(1, hint=_RECORD_HINT):
                template = _template(controller, token)
                templates.append(template)
                written.append((token, template))

        return read

    return {
        "match": lambda: rule.patterns.extend(_patterns(controller)),
        "answer": add(rule.answer),
        "additional": add(rule.additional),
        "authority": add(rule.authority),
        "rcode": lambda: setattr(rule, "rcode", _number(controller, _RCODES, "rcode", _RCODE_HINT)),
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


def _number(controller: Controller, table: Mapping[str, int], what: str, usual: str) -> int:
    """Parse a mnemonic, which must be in upper case, as in CoreDNS; `usual` is a hint."""
    token = controller.next_argument(usual)
    number = table.get(token.text)
    if number is None:
        near = suggest(token.text, list(table)) or suggest(token.text.upper(), list(table))
        hint = f"did you mean {near!r}?" if near else usual
        raise controller.error(f"unknown {what} {token.text!r}", token, hint)
    return number


def _patterns(controller: Controller) -> list[NamePattern]:
    return [controller.name_pattern(it) for it in controller.arguments(1, hint=_MATCH_HINT)]


def _template(controller: Controller, token: Token) -> Template:
    from corepy_template.checking import UNQUOTED_HINT, position
    from corepy_template.data import FIELDS
    from corepy_template.language import SyntaxProblem, compile_template

    try:
        template, warnings = compile_template(token.text, FIELDS)
    except SyntaxProblem as problem:
        message = f"could not compile template: {problem}"
        hint = problem.hint if token.quoted else UNQUOTED_HINT
        raise controller.error(message, position(token, problem.offset), hint) from None
    template.location = token.location
    for warning in warnings:
        message = f"this template fails for every query: {warning}"
        controller.warn(message, position(token, warning.offset), warning.hint)
    for label, offset in template.labels:
        controller.reads_label(label, position(token, offset))
    return template


def _ederror(controller: Controller) -> tuple[int, str]:
    code, *reason = controller.arguments(1, 2, _EDE_HINT)
    number = parse_unsigned(code.text, _MOST_CODE)
    if number is None:
        hint = f"a number from 0 to {_MOST_CODE}, see RFC 8914"
        raise controller.error(f"invalid extended DNS error code {code.text!r}", code, hint)
    text = reason[0].text if reason else ""
    return number, text.encode("utf-8", "replace").decode()


def _ignore(controller: Controller) -> None:
    """Skip the arguments of an obsolete option, which CoreDNS also ignores."""
    controller.remaining_args()
