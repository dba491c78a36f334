"""Parse the *log* directives of a block (CoreDNS: plugin/log/setup.go)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corepy.dns.names import InvalidName, from_text
from corepy.dns.response import ReplyClass
from corepy.plugin import Mistakes
from corepy.plugin.placeholders import (
    COMMON,
    CONSTANT,
    VARYING,
    expand,
    labels,
    unknown_placeholders,
)
from corepy_log.log import ALL, OWN_LABELS, Log, LogRule

if TYPE_CHECKING:
    from corepy.plugin import Controller, Token


def setup(controller: Controller) -> None:
    """Add one handler for all *log* directives of the block."""
    rules, mistakes = list[LogRule](), Mistakes()
    for _ in controller.occurrences():
        with controller.statement(mistakes):
            scopes, text = _arguments(controller)
            classes = _options(controller)
            rules.extend(LogRule(scope, text, classes) for scope in scopes)
    mistakes.settle()
    controller.provides_labels(OWN_LABELS, needs_metadata=False)
    controller.add_handler(Log(rules))


def _arguments(controller: Controller) -> tuple[list[str], str]:
    """Parse `[NAMES...] [FORMAT]`; returns the names, fully qualified, and the format.

    The last of several arguments is the format if it contains a brace; a single argument is a name.
    """
    arguments = controller.remaining_tokens()
    text = COMMON
    if len(arguments) > 1 and "{" in arguments[-1].text:
        token = arguments.pop()
        text = expand(token.text)
        for name in unknown_placeholders(text):
            controller.warn(
                f"unknown placeholder {{{name}}}, printed unchanged",
                token,
                f"placeholders: {', '.join((*CONSTANT, *VARYING))}, and /LABEL for metadata",
            )
        for label in labels(text):
            controller.reads_label(label, token, is_shown=True)
    return [_scope(controller, token) for token in arguments] or ["."], text


def _scope(controller: Controller, token: Token) -> str:
    text = token.text
    name = text if text.endswith(".") else text + "."
    if "{" in text:
        hint = f"a format comes after at least one name: log . {text}"
        controller.warn(f"{text!r} is taken for a name, so nothing is logged", token, hint)
        return name
    try:
        from_text(name)
    except InvalidName as error:
        controller.warn(f"no query name can be below {text!r}: {error}", token)
    return name


def _options(controller: Controller) -> frozenset[ReplyClass]:
    classes: set[ReplyClass] = set()
    controller.options({"class": lambda: classes.update(_classes(controller))})
    return frozenset(classes) or ALL


def _classes(controller: Controller) -> list[ReplyClass]:
    arguments = controller.remaining_tokens()
    if not arguments:
        raise controller.arg_error()
    return [_class(controller, token) for token in arguments]


def _class(controller: Controller, token: Token) -> ReplyClass:
    try:
        return ReplyClass(token.text)
    except ValueError:
        known = ", ".join(each.value for each in ReplyClass)
        message = f"unknown class of replies: {token.text!r}"
        raise controller.error(message, token, f"classes: {known}") from None
