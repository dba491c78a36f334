"""Compiles an expression in a Corefile; a mistake in it points at its column.

As in CoreDNS, the words of a line are joined with a space. Words in double quotes lose them before
the plugin sees them, and a `#` outside of them begins a comment; both are usual mistakes in an
expression, so the hints mention them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

from corepy.expr.expression import Expression, compile_conditions, compile_expression
from corepy.expr.syntax import ExpressionProblem
from corepy.expr.value_types import ANY, BOOL

if TYPE_CHECKING:
    from corepy.expr.expr_environment import Environment
    from corepy.plugin import Controller, Token

_T = TypeVar("_T")
_QUOTE_HINT: Final = (
    "the Corefile removes double quotes around a word; a string is in single quotes"
)
_COMMENT_HINT: Final = "# begins a comment in a Corefile; put the expression in double quotes"
_BRACE_HINT: Final = "{ opens a block in a Corefile; put the expression in double quotes"


def read_expression(
    controller: Controller, tokens: Sequence[Token], environment: Environment
) -> Expression:
    """Return the expression that these words of a line are; raises `CorefileError`.

    Mistakes that make it fail for every query are reported as warnings, and so are comparisons with
    a constant that a function never returns, and labels of metadata that no plugin sets.
    """
    expression = _read(controller, tokens, lambda text: compile_expression(text, environment))
    _warn(controller, tokens, [expression])
    return expression


def read_conditions(
    controller: Controller, tokens: Sequence[Token], environment: Environment
) -> list[Expression]:
    """Return the conditions that these words join with `and`; as `read_expression`.

    One whose value is of another type than bool, and so never true, is reported as a warning, too.
    """
    conditions = _read(controller, tokens, lambda text: compile_conditions(text, environment))
    _warn(controller, tokens, conditions)
    for condition in conditions:
        if condition.type not in (BOOL, ANY):
            controller.warn(
                f"the value of the expression is never true: its type is {condition.type}",
                tokens[0],
                "an expression compares values, such as type() == 'A'",
            )
    return conditions


def _read(controller: Controller, tokens: Sequence[Token], compile_: Callable[[str], _T]) -> _T:
    text = " ".join(token.text for token in tokens)
    try:
        return compile_(text)
    except ExpressionProblem as problem:
        place = _place(tokens, problem.offset)
        hint = _corefile_hint(tokens, problem, place, len(text)) or problem.hint
        raise controller.error(f"invalid expression: {problem}", place, hint) from None


def _warn(
    controller: Controller, tokens: Sequence[Token], expressions: Sequence[Expression]
) -> None:
    for expression in expressions:
        for problem in expression.warnings:
            controller.warn(str(problem), _place(tokens, problem.offset), problem.hint)
        for label, offset in expression.labels:
            controller.reads_label(label, _place(tokens, offset))


def _place(tokens: Sequence[Token], offset: int) -> Token:
    """Return the position of a character of the joined words, or the word if it is unknown."""
    for token in tokens:
        if offset < len(token.text):
            break
        offset -= len(token.text) + 1
    else:
        token = tokens[-1]
        offset = len(token.text) - 1
    before = token.text[:offset]
    if offset < 0 or token.text != token.raw or '"' in before or "\n" in before:
        return token
    return token._replace(column=token.column + token.quoted + offset, length=1)


def _corefile_hint(
    tokens: Sequence[Token], problem: ExpressionProblem, place: Token, length: int
) -> str | None:
    """Return a hint for a mistake that the rules of a Corefile have caused, None for others."""
    if problem.offset >= length:
        last = tokens[-1]
        rest = last.source.line(last.line)[last.column - 1 + last.length :].lstrip()
        if rest.startswith("#"):
            return _COMMENT_HINT
        if rest.startswith("{"):
            return _BRACE_HINT
    words = [token for token in tokens if token.quoted]
    if len(tokens) > 1 and any(
        token.line == place.line and token.column <= place.column < token.column + token.length
        for token in words
    ):
        return _QUOTE_HINT
    return None
