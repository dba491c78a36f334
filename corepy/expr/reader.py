"""Reads the text of an expression into a syntax tree."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from corepy.corefile import suggest
from corepy.expr.syntax import ExpressionProblem, Node

if TYPE_CHECKING:
    from collections.abc import Callable

    from lark import UnexpectedInput

LONGEST_TEXT: Final = 65_536
"""Maximum characters of an expression."""

_SHOWN: Final = 20
_OPERATORS: Final = ("and", "or", "not", "in", "contains", "startsWith", "endsWith", "matches")
_UNCLOSED: Final = {"'": "quoted text", '"': "quoted text", "`": "text between backticks"}


def read(text: str) -> Node:
    """Return the syntax tree of an expression; raises `ExpressionProblem`."""
    from lark import UnexpectedInput

    if len(text) > LONGEST_TEXT:
        raise ExpressionProblem(f"the expression is longer than {LONGEST_TEXT} characters", 0)
    try:
        node: Node = _parser()(text)
    except UnexpectedInput as error:
        raise _explain(error, text) from None
    except RecursionError:
        raise ExpressionProblem("the expression is nested too deeply", 0) from None
    return node


@functools.cache
def _parser() -> Callable[[str], Any]:
    """Return the function that parses a text; its result is the node that `TreeBuilder` makes."""
    import lark

    from corepy.expr.tree_builder import TreeBuilder

    grammar = Path(__file__).with_name("language.lark").read_text(encoding="utf-8")
    return lark.Lark(grammar, parser="lalr", lexer="contextual", transformer=TreeBuilder()).parse


def _explain(error: UnexpectedInput, text: str) -> ExpressionProblem:
    """Return the problem with its offset."""
    at = error.pos_in_stream
    token = getattr(error, "token", None)
    if at is None or at < 0 or at >= len(text) or getattr(token, "type", "") == "$END":
        if not text.strip():
            return ExpressionProblem("the expression is empty", 0)
        return ExpressionProblem("the expression ends too early", len(text))
    mark = text[at]
    if mark in _UNCLOSED:
        unclosed = mark == "`" or text.find(mark, at + 1) < 0
        if unclosed or token is None:
            return ExpressionProblem(f"{_UNCLOSED[mark]} is not closed", at)
    if text.startswith("/*", at):
        return ExpressionProblem("the comment is not closed", at)
    word = str(token) if token is not None else mark
    shown = word if len(word) <= _SHOWN else word[: _SHOWN - 3] + "..."
    return ExpressionProblem(f"unexpected {shown!r}", at, _hint(text, at, word))


def _hint(text: str, at: int, word: str) -> str | None:
    """Return a hint for an unexpected word or character, if the mistake is a usual one."""
    if text[at] == "=" and text[at : at + 2] != "==":
        return "== compares two values"
    if text[at] == "&":
        return "&& or and joins two conditions"
    if text[at] == "." and text[at + 1 : at + 2].isdigit():
        return "an address is a string, in single quotes"
    if text[at] == "," and not text[:at].rstrip().endswith(","):
        return "an array has brackets: ['A', 'AAAA']"
    near = suggest(word, _OPERATORS) if word.isalpha() else None
    return f"did you mean {near!r}?" if near else None
