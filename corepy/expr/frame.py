"""The state of one evaluation, with the limits on its work and memory.

Expressions come from the operator, but the values in them come from untrusted queries. So a
predicate and each function whose work grows with its arguments count it while they run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

MOST_STEPS: Final = 50_000
"""Parts of the expression that predicates evaluate, and elements that functions visit."""

MOST_MEMORY: Final = 250_000
"""Elements and characters in all arrays, maps and strings that are made or searched."""

MOST_TEXT: Final = 65_536
"""Characters of one string."""


class ExpressionError(Exception):
    """An expression has no value for this query; the message names the operation that failed."""


class LeftOutError(Exception):
    """The target of `?.` is nil, so the rest of the chain is left out."""


class Frame:
    """The state of one evaluation."""

    __slots__ = (
        "accumulator", "index", "item", "memory", "names", "steps", "subject", "variables"
    )  # fmt: skip

    item: object
    """The element that the predicate is applied to (`#`)."""

    index: int
    accumulator: object

    def __init__(self, subject: Any, names: Any, variables: int) -> None:
        """`subject` is for functions of the environment; `names` has the values of its variables.

        `variables` is the number of variables that the expression declares with `let`.
        """
        self.subject = subject
        self.names = names
        self.variables: list[object] = [None] * variables if variables else _NONE
        self.steps = MOST_STEPS
        self.memory = MOST_MEMORY

    def step(self, steps: int) -> None:
        """Count steps; raises ExpressionError if there are too many."""
        self.steps -= steps
        if self.steps < 0:
            raise ExpressionError(f"the expression needs more than {MOST_STEPS} steps")

    def take(self, size: int) -> None:
        """Count elements or characters; raises ExpressionError if there are too many."""
        self.memory -= size
        if self.memory < 0:
            raise ExpressionError(
                f"the expression needs more than {MOST_MEMORY} elements and characters"
            )

    def text(self, text: str) -> str:
        """Count and return a string that was made; raises ExpressionError if it is too long."""
        self.text_of(len(text))
        return text

    def text_of(self, length: int) -> None:
        """Count a string of this length; raises ExpressionError if it is too long."""
        if length > MOST_TEXT:
            raise ExpressionError(f"a string is longer than {MOST_TEXT} characters")
        self.take(length)


_NONE: Final[list[object]] = []

Evaluate = Callable[[Frame], Any]
"""A compiled part of an expression: returns its value."""
