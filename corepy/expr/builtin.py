"""The description of a function of the language: its name, the types of its arguments, its code."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from corepy.expr import expr_values as v
from corepy.expr.expr_environment import Compiled
from corepy.expr.frame import Evaluate, Frame
from corepy.expr.syntax import ExpressionProblem
from corepy.expr.value_types import Kind, Type

TEXT = (Kind.STRING,)
LIST = (Kind.ARRAY,)
TABLE = (Kind.MAP,)
DURATIONS = (Kind.DURATION,)
WHOLE = (Kind.INT,)
NUMBER = (Kind.INT, Kind.FLOAT)
VALUE = tuple(Kind)
"""The kinds of an argument that may be of any kind."""


@dataclass(frozen=True)
class Builtin:
    """A function of the language."""

    name: str
    parameters: tuple[tuple[Kind, ...], ...]
    """The kinds that each argument may have; the last ones may be left out."""

    result: Type | Callable[[Sequence[Type]], Type]
    """The type of the result, or a function that returns it for the types of the arguments."""

    call: Callable[..., Any]
    """Gets the frame and the values of the arguments, which may be of other kinds than declared."""

    optional: int = 0
    """The number of arguments that may be left out."""

    is_variadic: bool = False
    """Whether the last argument may be repeated."""

    is_folded: bool = False
    """Whether a call with constant arguments is made once, when the expression is compiled."""

    checks: Mapping[int, Callable[[object], None]] = field(default_factory=dict)
    """Functions for constant arguments, which raise ExpressionError for one that always fails."""

    def type_for(self, arguments: Sequence[Compiled], offsets: Sequence[int], at: int) -> Type:
        """Return the type of the result; raises ExpressionProblem for wrong arguments."""
        most = len(self.parameters)
        if len(arguments) < most - self.optional:
            raise ExpressionProblem(f"not enough arguments for {self.name}", at)
        if len(arguments) > most and not self.is_variadic:
            raise ExpressionProblem(f"too many arguments for {self.name}", offsets[most])
        for index, argument in enumerate(arguments):
            kinds = self.parameters[min(index, most - 1)]
            if not argument.type.may_be(*kinds):
                wanted = " or ".join(kind.value for kind in kinds)
                raise ExpressionProblem(
                    f"{self.name} needs {wanted}, not {argument.type}", offsets[index]
                )
        if isinstance(self.result, Type):
            return self.result
        return self.result([argument.type for argument in arguments])

    def bind(self, arguments: Sequence[Compiled]) -> Evaluate:
        """Return the call with these arguments."""
        call = self.call
        runs = tuple(argument.run for argument in arguments)
        if len(runs) == 1:
            (only,) = runs
            return lambda frame: call(frame, only(frame))
        if len(runs) == 2:
            first, second = runs
            return lambda frame: call(frame, first(frame), second(frame))
        return lambda frame: call(frame, *[run(frame) for run in runs])


def text_of(frame: Frame, value: object, name: str) -> str:
    """Return an argument that is a string, and count its characters; raises ExpressionError."""
    text = v.as_text(value, name)
    frame.take(len(text))
    return text


def array_of_values(frame: Frame, value: object, name: str) -> Any:
    """Return an argument that is an array, and count its elements; raises ExpressionError."""
    array = v.as_array(value, name)
    frame.take(len(array))
    return array
