"""Parse the *rewrite* directives of a server block (plugin/rewrite/setup.go, rewrite.go)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corepy.plugin import CorefileError, Mistakes, suggest
from corepy_rewrite.edns import OptionRule
from corepy_rewrite.handler import PlacedRule, Rewrite, RewriteOfClasses
from corepy_rewrite.reading import FIELDS
from corepy_rewrite.rules import ClassRule, NameRule, TypeRule

if TYPE_CHECKING:
    from corepy.plugin import Controller, Token

_MODES: Final = ("continue", "stop")


def setup(controller: Controller) -> None:
    """Add one handler for all *rewrite* directives of the block."""
    rules, mistakes, reach = list[PlacedRule](), Mistakes(), _Reach()
    for _ in controller.occurrences():
        with controller.statement(mistakes):
            directive = controller.token
            assert directive is not None
            placed = _rule(controller, directive.location)
            problem = reach.add(placed)
            if problem is not None:
                controller.warn(problem, directive, "write continue in front of that rule")
            rules.append(placed)
    mistakes.settle()
    for placed in rules:
        if isinstance(placed.rule, OptionRule) and placed.rule.is_local:
            controller.echo_option(placed.rule.code)
    has_classes = any(isinstance(placed.rule, ClassRule) for placed in rules)
    controller.add_handler(RewriteOfClasses(rules) if has_classes else Rewrite(rules))


class _Reach:
    """Finds rules that no query reaches, because an earlier one stops at all that they select."""

    def __init__(self) -> None:
        self._stopping: dict[object, str] = {}
        """The places of rules that stop, by what they select; None is every query."""

    def add(self, placed: PlacedRule) -> str | None:
        """Add the next rule; return why no query reaches it, None if one may."""
        rule, stopping = placed.rule, self._stopping
        selector = rule.selector
        selected = None if selector is None else (type(selector), *selector[:2])
        if None in stopping:
            return f"this rule is never used: the one at {stopping[None]} stops at every query"
        if selector is not None and selected in stopping:
            place = stopping[selected]
            return f"this rule is never used: the one at {place} stops at the same queries"
        if not placed.stops:
            if isinstance(rule, (NameRule, TypeRule, ClassRule)):
                stopping.clear()  # later rules may select what this one makes
        elif selector is not None or rule.applies_always:
            stopping[selected] = placed.location
        return None


def _rule(controller: Controller, location: str) -> PlacedRule:
    """Parse one directive."""
    words = _words(controller)
    mode = words[0].text.lower()
    if mode in _MODES:
        words = words[1:]
        if not words:
            hint = f"write a field behind it: {', '.join(FIELDS)}"
            raise controller.error(f"{mode} without a rule", None, hint)
    field, *arguments = words
    read = FIELDS.get(field.text.lower())
    if read is None:
        raise _unknown_field(controller, field)
    try:
        rule = read(controller, field, arguments)
    except CorefileError:
        last = words[-1]
        if last.text.lower() not in _MODES:
            raise
        hint = f"write it in front of the rule: rewrite {last.text} {field.text} ..."
        raise controller.error(f"{last.text} at the end of a rule", last, hint) from None
    return PlacedRule(rule, location, stops=mode != "continue")


def _words(controller: Controller) -> list[Token]:
    """Return the words of a rule: those on the line, or all in its block."""
    directive = controller.token
    words = controller.remaining_tokens()
    if len(words) < 2:
        before = len(words)
        while controller.next_block():
            assert controller.token is not None
            words.append(controller.token)
        if len(words) == before and controller.val == "}":
            hint = f"write a field and its words in it: {', '.join(FIELDS)}"
            raise controller.error("the block has no rule", directive, hint)
    elif controller.next_arg():
        hint = "write the rule on one line, or its field and everything behind it in the block"
        raise controller.error("a block behind a whole rule", None, hint)
    if not words:
        raise controller.arg_error()
    return words


def _unknown_field(controller: Controller, field: Token) -> Exception:
    text = field.text
    if text.lower() == "answer":
        hint = "write the name rule in front of it: name regex FROM TO answer ..."
        return controller.error("response rewrites must begin with a name rule", field, hint)
    if text.lower() in _MODES:
        hint = f"write one of {' and '.join(_MODES)}, and the field behind it"
        return controller.error(f"{text} behind another mode", field, hint)
    near = suggest(text.lower(), [*FIELDS, *_MODES])
    hint = f"did you mean {near!r}?" if near else f"known fields: {', '.join(FIELDS)}"
    return controller.error(f"unknown field {text!r}", field, hint)
