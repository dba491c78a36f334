"""A compiled expression, and the function that makes one of a text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from corepy.expr.calls import RESERVED
from corepy.expr.compiler import Compiler
from corepy.expr.expr_environment import Compiled, Environment
from corepy.expr.frame import MOST_MEMORY, MOST_STEPS, ExpressionError, Frame
from corepy.expr.reader import read
from corepy.expr.syntax import ExpressionProblem, Name, Node, operands
from corepy.expr.value_types import Type
from corepy.plugin.handler import Cacheability

_NO_NAMES: Final[Mapping[str, object]] = {}


class Expression:
    """A compiled expression."""

    __slots__ = (
        "_frame",
        "depends",
        "is_about_question",
        "is_stateless",
        "labels",
        "reads_metadata",
        "run",
        "slots",
        "text",
        "type",
        "warnings",
    )

    def __init__(self, text: str, compiled: Compiled, compiler: Compiler) -> None:
        """`compile_expression` makes it."""
        self.text = text
        self.type: Type = compiled.type
        """The type of the value; `ANY` if it is known only when the expression runs."""

        self.depends: Cacheability = compiler.depends
        """The inputs that the value depends on, beside the query's bytes."""

        self.is_about_question = compiler.is_about_question
        """Whether the value depends only on name, type and class, which *cache* stores replies by.

        Variables of the environment are not considered.
        """

        self.warnings: tuple[ExpressionProblem, ...] = tuple(compiler.warnings)
        """Mistakes that make the expression fail whenever it comes to them.

        Also comparisons with constants whose result is the same for all queries.
        """

        self.labels: tuple[tuple[str, int], ...] = tuple(compiler.labels)
        """The constant labels of metadata that it reads, with their offsets in the text."""

        self.reads_metadata = compiler.reads_metadata
        """Whether the value depends on metadata, of any label: other directives set it.

        Variables of the environment are not considered.
        """

        self.run = compiled.run
        """Computes the value in a frame."""

        self.slots = compiler.slots
        """The number of variables that it declares."""

        self.is_stateless = compiler.is_stateless
        """Whether its frame can be used again: it keeps no variables and elements of a query."""

        self._frame: Frame | None = None
        """The frame of the last evaluation, which saves making one; None while it is in use."""

    def evaluate(self, subject: Any, names: Mapping[str, object] = _NO_NAMES) -> Any:
        """Return the value; raises ExpressionError, and nothing else.

        The functions of the environment get `subject`, usually a `Request`; `names` has the values
        of its variables.
        """
        frame = self._frame
        if frame is None:
            frame = Frame(subject, names, self.slots)
        else:
            self._frame = None
            frame.subject, frame.names = subject, names
            frame.steps, frame.memory = MOST_STEPS, MOST_MEMORY
        try:
            return self.run(frame)
        except ExpressionError:
            raise
        except Exception as error:  # a function of the environment may fail in any way
            raise failure(error) from error
        finally:
            if self.is_stateless:
                frame.subject, frame.names = None, _NO_NAMES
                self._frame = frame

    def __repr__(self) -> str:
        return f"<Expression {self.text!r}: {self.type}>"


def failure(error: Exception) -> ExpressionError:
    """Return the ExpressionError for an exception of an evaluation."""
    if isinstance(error, ExpressionError):
        return error
    if isinstance(error, RecursionError):
        return ExpressionError("the values are nested too deeply")
    return ExpressionError(f"{type(error).__name__}: {error}")


def is_free(name: str, environment: Environment) -> bool:
    """Return whether a variable can have this name: it means nothing else in an expression."""
    try:
        node = read(name)
    except ExpressionProblem:
        return False
    is_taken = name in RESERVED or name in environment.functions or name in environment.variables
    return isinstance(node, Name) and node.name == name and not is_taken


def compile_expression(text: str, environment: Environment) -> Expression:
    """Return the compiled expression; raises `ExpressionProblem`."""
    return _compiled(text, read(text), environment)


def compile_conditions(text: str, environment: Environment) -> list[Expression]:
    """Return the conditions that `text` joins with `and`, each as an expression of its own.

    So each of them has a cacheability of its own. Raises `ExpressionProblem`, as
    `compile_expression` does.
    """
    node = read(text)
    whole = _compiled(text, node, environment)
    parts = operands(node, "and")
    if len(parts) == 1:
        return [whole]
    return [_compiled(text, part, environment) for part in parts]


def _compiled(text: str, node: Node, environment: Environment) -> Expression:
    compiler = Compiler(environment)
    try:
        compiled = compiler.compile(node)
    except RecursionError:
        raise ExpressionProblem("the expression is nested too deeply", 0) from None
    return Expression(text, compiled, compiler)
