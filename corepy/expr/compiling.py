"""The state that the parts of the compiler share: names in scope, limits, mistakes."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Final

from corepy.corefile import suggest
from corepy.expr.expr_environment import Compiled, Environment
from corepy.expr.expr_values import SHORT
from corepy.expr.frame import ExpressionError, Frame
from corepy.expr.operators import TypeProblem
from corepy.expr.syntax import ExpressionProblem, Node
from corepy.expr.value_types import Type
from corepy.plugin.handler import Cacheability

MOST_NODES: Final = 10_000
"""Maximum nodes of an expression, as in expr-lang."""

MOST_NESTING: Final = 100
"""Maximum depth of nested operations; `and` and `or` do not nest."""


class Compilation(ABC):
    """The state of compiling one expression."""

    def __init__(self, environment: Environment) -> None:
        """`environment` has the functions and variables of the expression."""
        self.environment = environment
        self.depends = Cacheability.SAFE
        """The inputs that the value depends on, beside the query's bytes."""

        self.warnings: list[ExpressionProblem] = []
        """Mistakes that make the expression fail for every query, or a comparison pointless."""

        self.labels: list[tuple[str, int]] = []
        """The constant labels of metadata that the expression reads, with their offsets."""

        self.reads_metadata = False
        """Whether the expression reads metadata, of any label."""

        self.slots = 0
        """The number of variables that the expression declares."""

        self.is_about_question = True
        """Whether all functions of the environment that it calls are about the question."""

        self.is_stateless = True
        """Whether the expression has neither variables nor predicates."""

        self.nodes = 0
        """The number of nodes compiled so far."""

        self._locals: dict[str, tuple[Type, int]] = {}
        self._depth = 0

    def compile(self, node: Node) -> Compiled:
        """Return the compiled node; raises ExpressionProblem."""
        self.nodes += 1
        self._depth += 1
        if self._depth > MOST_NESTING:
            raise ExpressionProblem("the expression is nested too deeply", node.offset)
        if self.nodes > MOST_NODES:
            raise ExpressionProblem(f"the expression has more than {MOST_NODES} parts", node.offset)
        compiled = self._build(node)
        self._depth -= 1
        return compiled

    @abstractmethod
    def _build(self, node: Node) -> Compiled:
        """Return the compiled node."""

    @contextlib.contextmanager
    def at(self, offset: int) -> Iterator[None]:
        """Give a TypeProblem the position of the operation."""
        try:
            yield
        except TypeProblem as problem:
            raise ExpressionProblem(str(problem), offset, problem.hint) from None

    def warn(self, error: ExpressionError, offset: int) -> None:
        """Note that an operation on constant values fails."""
        self.warnings.append(ExpressionProblem(f"{error}, so the expression fails", offset))

    def folded(self, compiled: Compiled, operands: Sequence[Compiled], offset: int) -> Compiled:
        """Return a constant for an operation whose operands are all constant.

        If the operation fails, it stays an operation, as it may never be evaluated.
        """
        if not all(each.is_constant for each in operands):
            return compiled
        try:
            value = compiled.run(Frame(None, {}, 0))
        except ExpressionError as error:
            self.warn(error, offset)
            return compiled
        is_short = type(value) is not str or len(value) <= SHORT
        return Compiled(compiled.type, lambda frame: value, value, is_short)

    def depend(self, cacheability: Cacheability) -> None:
        """Note an input that the value depends on."""
        self.depends = Cacheability.combined((self.depends, cacheability))

    def local(self, name: str) -> tuple[Type, int] | None:
        """Return the type and slot of a variable that `let` has declared."""
        return self._locals.get(name)

    @contextlib.contextmanager
    def declared(self, name: str, type_: Type, offset: int) -> Iterator[int]:
        """Declare a variable for the body of a `let`, and return its slot."""
        if name in self._locals or name in self.environment.variables or self.is_function(name):
            raise ExpressionProblem(f"{name!r} is already the name of something else", offset)
        slot = self.slots
        self.slots += 1
        self.is_stateless = False
        self._locals[name] = type_, slot
        yield slot
        del self._locals[name]

    @abstractmethod
    def is_function(self, name: str) -> bool:
        """Return whether there is a function of this name."""

    @abstractmethod
    def functions(self) -> list[str]:
        """Return the names of all functions."""

    def unknown_name(self, name: str, offset: int) -> ExpressionProblem:
        """Return the problem for an unknown name of a variable."""
        if name == "$env":
            return ExpressionProblem("$env is not supported", offset)
        if self.is_function(name):
            return ExpressionProblem(
                f"{name!r} is a function", offset, f"a call has parentheses: {name}()"
            )
        variables = [*self._locals, *self.environment.variables]
        # A word in capitals is a type or class, such as IN, rather than a misspelt function.
        near = None if name.isupper() else suggest(name, [*variables, *self.functions()])
        hint = f"did you mean {near!r}?" if near else "a string is in single quotes"
        return ExpressionProblem(f"unknown name {name!r}", offset, hint)
