"""Reads the text of an expression into a syntax tree."""

from __future__ import annotations

import functools
import re
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
_WORDS: Final = (*_OPERATORS, "let", "if", "else")
_VALUE: Final = re.compile(rf"['\"`0-9]|(?!(?:{'|'.join(_WORDS)})\b)[^\W\d]")
"""The beginning of a value."""

_BRACKETS: Final = re.compile(
    r"""'(?:[^'\\]|\\.)*+'|"(?:[^"\\]|\\.)*+"|`[^`]*+`|\b\w++\s*+\(|[][(){}]""", re.DOTALL
)
"""A quoted text, the beginning of a call, or a bracket."""

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
    return f"did you mean {near!r}?" if near else _missing_comma(text, at)


def _missing_comma(text: str, at: int) -> str | None:
    """Return the hint for a value behind another one in an array or a call, None elsewhere."""
    if _VALUE.match(text, at) is None:
        return None
    opened: list[str] = []
    for mark in _BRACKETS.findall(text, 0, at):
        if mark[-1] in "([{":
            opened.append(mark)
        elif mark in (")", "]", "}") and opened:
            opened.pop()
    inner = opened[-1] if opened else ""
    before = inner[:-1].rstrip()
    if inner == "[" or before == "in":
        return "a comma separates the elements of an array: ['A', 'AAAA']"
    if before and before not in _OPERATORS:
        return f"a comma separates the arguments of {before}"
    return None
