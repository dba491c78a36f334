"""Folds a flat sequence of operands and operators (expr-lang: parser/operator, parser.go).

The table and the rules are those of expr-lang: comparisons can be chained (`1 < port < 1024`), a
prefix operator extends over all operators to its right that bind tighter, and `??` must be in
parentheses where it meets another operator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from corepy.expr.syntax import Binary, ExpressionProblem, Node, Unary

_UNARY: Final = {"not": 50, "-": 90, "+": 90}
_BINARY: Final = {
    "|": 0,
    "or": 10,
    "and": 15,
    "==": 20, "!=": 20, "<": 20, ">": 20, "<=": 20, ">=": 20,
    "in": 20, "matches": 20, "contains": 20, "startsWith": 20, "endsWith": 20,
    "..": 25,
    "+": 30, "-": 30,
    "*": 60, "/": 60, "%": 60,
    "**": 100,
    "??": 500,
}  # fmt: skip
_ALIASES: Final = {"||": "or", "&&": "and", "^": "**", "!": "not"}
_COMPARISONS: Final = frozenset(("<", ">", "<=", ">="))


class Operator(NamedTuple):
    """An operator as written, with its offset."""

    text: str
    offset: int


class Operand(NamedTuple):
    """An operand with the prefix operators before it."""

    prefixes: Sequence[Operator]
    node: Node


class Pipe(NamedTuple):
    """The call after a `|`, which is made when its first argument is known."""

    offset: int
    call: Callable[[Node], Node]


def fold(parts: Sequence[Operand | Operator | Pipe]) -> Node:
    """Return the tree for operands with operators between them; raises `ExpressionProblem`.

    A `Pipe` is operator and operand in one.
    """
    if len(parts) == 1 and isinstance(parts[0], Operand) and not parts[0].prefixes:
        return parts[0].node
    return _Folder(parts).expression(0)


class _Folder:
    def __init__(self, parts: Sequence[Operand | Operator | Pipe]) -> None:
        self._parts = parts
        self._at = 0

    def expression(self, least: int) -> Node:
        """Return the operand here with all operators after it of at least this precedence."""
        operand = self._parts[self._at]
        assert isinstance(operand, Operand)
        self._at += 1
        return self._climb(self._prefixed(operand, 0), least)

    def _prefixed(self, operand: Operand, index: int) -> Node:
        """Return an operand with its prefix operators from `index` on, and all they extend over."""
        if index == len(operand.prefixes):
            return operand.node
        prefix = operand.prefixes[index]
        operator = _ALIASES.get(prefix.text, prefix.text)
        inner = self._climb(self._prefixed(operand, index + 1), _UNARY[operator])
        return Unary(prefix.offset, operator, inner)

    def _climb(self, left: Node, least: int) -> Node:
        """Return `left` with all operators after it of at least this precedence."""
        before = ""
        while self._at < len(self._parts):
            part = self._parts[self._at]
            if isinstance(part, Pipe):
                if least > 0:
                    break
                self._at += 1
                left, before = part.call(left), "|"
                continue
            assert isinstance(part, Operator)
            negated = part.text.startswith("not ")
            operator = part.text.removeprefix("not ").lstrip()
            operator = _ALIASES.get(operator, operator)
            if _BINARY[operator] < least:
                break
            if before == "??" and operator != "??":
                raise ExpressionProblem(
                    f"{part.text} cannot follow ?? without parentheses",
                    part.offset,
                    "put ?? and its operands in parentheses",
                )
            self._at += 1
            left = self._joined(left, operator, part.offset)
            if negated:
                left = Unary(part.offset, "not", left)
            before = operator
        return left

    def _joined(self, left: Node, operator: str, offset: int) -> Node:
        precedence = _BINARY[operator]
        if operator in _COMPARISONS:
            return self._comparison(left, operator, offset)
        right = self.expression(precedence + (operator != "**"))
        return Binary(offset, operator, left, right)

    def _comparison(self, left: Node, operator: str, offset: int) -> Node:
        """Return `a < b`, or `a < b and b < c` for `a < b < c`."""
        result: Node | None = None
        while True:
            right = self.expression(_BINARY[operator] + 1)
            compared = Binary(offset, operator, left, right)
            result = compared if result is None else Binary(offset, "and", result, compared)
            following = self._parts[self._at] if self._at < len(self._parts) else None
            if not isinstance(following, Operator) or following.text not in _COMPARISONS:
                return result
            self._at += 1
            left, operator, offset = right, following.text, following.offset
