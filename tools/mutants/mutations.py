"""Finds the small faults that a module can have in its syntax tree, and makes them in its text."""

from __future__ import annotations

import ast
import re
from typing import Final, NamedTuple

_COMPARISONS: Final[dict[type[ast.cmpop], str]] = {
    ast.Lt: "<=",
    ast.LtE: "<",
    ast.Gt: ">=",
    ast.GtE: ">",
    ast.Eq: "!=",
    ast.NotEq: "==",
    ast.Is: "is not",
    ast.IsNot: "is",
    ast.In: "not in",
    ast.NotIn: "in",
}
_ARITHMETIC: Final[dict[type[ast.operator], str]] = {
    ast.Add: "-",
    ast.Sub: "+",
    ast.Mult: "+",
    ast.BitAnd: "|",
    ast.BitOr: "&",
    ast.LShift: ">>",
    ast.RShift: "<<",
}

_GAP: Final = re.compile(r"((?:\s*\))*).*?((?:\(\s*)*)", re.DOTALL)
"""The text between two operands: closing parentheses, the operator, opening parentheses."""


class Mutation(NamedTuple):
    """One small fault: the text from `start` to `end` (character offsets) becomes `new`."""

    kind: str
    line: int
    start: int
    end: int
    new: str

    def apply(self, text: str) -> str:
        """Return `text` with the fault."""
        return text[: self.start] + self.new + text[self.end :]


def find(text: str) -> list[Mutation]:
    """Return every mutation of a module's `text`, in the order of its lines."""
    finder = _Finder(text)
    finder.visit(ast.parse(text))
    return sorted(finder.found, key=lambda it: (it.line, it.start, it.kind))


class _Finder(ast.NodeVisitor):
    """Collects mutations; skips annotations, docstrings, type checking and assertions."""

    def __init__(self, text: str) -> None:
        self.found: list[Mutation] = []
        self._text = text
        self._starts = [0]
        for line in text.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))
        self._lines = text.splitlines()

    def _offset(self, line: int, column: int) -> int:
        """Return the character offset of a position; `column` counts bytes, as in `ast`."""
        prefix = self._lines[line - 1].encode()[:column].decode() if column else ""
        return self._starts[line - 1] + len(prefix)

    def _span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        start = self._offset(node.lineno, node.col_offset)
        return start, self._offset(node.end_lineno, node.end_col_offset)

    def _source(self, node: ast.expr) -> str:
        start, end = self._span(node)
        return self._text[start:end]

    def _add(self, kind: str, node: ast.expr | ast.stmt, new: str) -> None:
        self.found.append(Mutation(kind, node.lineno, *self._span(node), new))

    def _add_between(self, kind: str, left: ast.expr, right: ast.expr, new: str) -> None:
        """Replace the operator between two operands; keep the parentheses around them."""
        start, end = self._span(left)[1], self._span(right)[0]
        gap = _GAP.fullmatch(self._text[start:end])
        assert gap is not None
        closing, opening = gap.groups()
        self.found.append(Mutation(kind, left.lineno, start, end, f"{closing} {new} {opening}"))

    def visit_If(self, node: ast.If) -> None:
        """Negate the condition, unless it is for type checkers."""
        if self._source(node.test).endswith("TYPE_CHECKING"):
            return
        self._negate(node.test)
        self.generic_visit(node)

    def visit_While(self, node: ast.While) -> None:
        """Negate the condition."""
        if not isinstance(node.test, ast.Constant):
            self._negate(node.test)
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        """Swap the branches."""
        body, orelse, test = (self._source(it) for it in (node.body, node.orelse, node.test))
        self._add("swapped branches", node, f"{orelse} if {test} else {body}")
        self.generic_visit(node)

    def _negate(self, test: ast.expr) -> None:
        self._add("negated condition", test, f"not ({self._source(test)})")

    def visit_Compare(self, node: ast.Compare) -> None:
        """Move a boundary or flip a comparison."""
        left = node.left
        for operator, right in zip(node.ops, node.comparators, strict=True):
            self._add_between("comparison", left, right, _COMPARISONS[type(operator)])
            left = right
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        """Exchange `and` and `or`."""
        new = "or" if isinstance(node.op, ast.And) else "and"
        self._add_between("and, or", node.values[0], node.values[1], new)
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        """Exchange an arithmetic operator."""
        new = _ARITHMETIC.get(type(node.op))
        if new and not isinstance(node.left, ast.Constant | ast.JoinedStr):
            self._add_between("arithmetic", node.left, node.right, new)
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        """Change a number or a truth value."""
        if isinstance(node.value, bool):
            self._add("constant", node, str(not node.value))
        elif isinstance(node.value, int):
            self._add("constant", node, str(node.value + 1))
        elif isinstance(node.value, float):
            self._add("constant", node, repr(node.value * 2 + 1))

    def visit_Expr(self, node: ast.Expr) -> None:
        """Drop a call."""
        if isinstance(node.value, ast.Constant):
            return  # a docstring
        if isinstance(node.value, ast.Call | ast.Await):
            self._add("dropped call", node, "pass")
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        """Drop an assignment to an attribute or item."""
        if isinstance(node.targets[0], ast.Attribute | ast.Subscript):
            self._add("dropped statement", node, "pass")
        if not (isinstance(node.targets[0], ast.Name) and node.targets[0].id == "__slots__"):
            self.visit(node.value)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        """Drop a change in place."""
        self._add("dropped statement", node, "pass")
        self.visit(node.value)

    def visit_Delete(self, node: ast.Delete) -> None:
        """Drop a deletion."""
        self._add("dropped statement", node, "pass")

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        """Leave the annotation alone."""
        if node.value is not None:
            self.visit(node.value)

    def visit_Assert(self, node: ast.Assert) -> None:
        """Leave assertions alone."""

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        """Leave decorators and annotations alone."""
        for default in (*node.args.defaults, *(it for it in node.args.kw_defaults if it)):
            self.visit(default)
        for statement in node.body:
            self.visit(statement)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        """Leave imports alone."""


def changed_line(text: str, mutation: Mutation) -> tuple[str, str]:
    """Return the first line that the fault changes, before and after."""
    before, after = text.splitlines(), mutation.apply(text).splitlines()
    index = mutation.line - 1
    return before[index].strip(), after[index].strip()
