"""Finds comparisons of a function with a constant that no result of the function fits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from corepy.expr import syntax as s
from corepy.expr.expr_environment import Compiled, Function
from corepy.expr.value_types import type_of

_VERBS: Final = {
    "==": "is never",
    "!=": "is never",
    "in": "is never",
    "contains": "never contains",
    "startsWith": "never starts with",
    "endsWith": "never ends with",
    "matches": "never matches",
}
_EQUALITY: Final = ("==", "!=")
_LONGEST_SHOWN: Final = 80
"""Characters of a constant in a message."""


def pointless(node: s.Binary, left: Compiled, right: Compiled) -> Iterator[s.ExpressionProblem]:
    """Yield a warning for each literal of a comparison that no result of its function fits.

    `left` and `right` are the compiled operands of `node`.
    """
    if left.function is not None:
        yield from _warnings(left.function, node.operator, node.right)
    elif right.function is not None and node.operator in _EQUALITY:
        yield from _warnings(right.function, node.operator, node.left)


def _warnings(function: Function, operator: str, other: s.Node) -> Iterator[s.ExpressionProblem]:
    if function.impossible is None or operator not in _VERBS:
        return
    test = "==" if operator in ("!=", "in") else operator
    literals = other.elements if operator == "in" and isinstance(other, s.Array) else (other,)
    for literal in literals:
        if not isinstance(literal, s.Literal) or type_of(literal.value) != function.result:
            continue
        found = function.impossible(test, literal.value)
        if found is not None:
            message = f"{function.name}() {_VERBS[operator]} {_shown(literal.value)}"
            yield s.ExpressionProblem(f"{message}: {found.reason}", literal.offset, found.hint)


def _shown(value: object) -> str:
    return repr(value[:_LONGEST_SHOWN] if isinstance(value, str) else value)
