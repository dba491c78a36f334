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

    @property
    def usage(self) -> str:
        """The call with the kinds of its arguments, such as `sort(array, [string])`."""
        return f"{self.name}({', '.join(self._shown_parameters())})"

    @property
    def usage_as_method(self) -> str:
        """The call of a method, whose first argument is in front of it: `.In(timezone)`."""
        return f".{self.name}({', '.join(self._shown_parameters()[1:])})"

    def _shown_parameters(self) -> list[str]:
        required = len(self.parameters) - self.optional
        shown = [
            _shown(kinds) if index < required else f"[{_shown(kinds)}]"
            for index, kinds in enumerate(self.parameters)
        ]
        return [*shown[:-1], f"{shown[-1]}..."] if self.is_variadic else shown

    def type_for(
        self,
        arguments: Sequence[Compiled],
        offsets: Sequence[int],
        at: int,
        usage: str | None = None,
    ) -> Type:
        """Return the type of the result; raises ExpressionProblem for wrong arguments.

        `usage` is the hint for a wrong number of them, by default that of a function.
        """
        most = len(self.parameters)
        hint = usage or self.usage
        if len(arguments) < most - self.optional:
            raise ExpressionProblem(f"not enough arguments for {self.name}", at, hint)
        if len(arguments) > most and not self.is_variadic:
            raise ExpressionProblem(f"too many arguments for {self.name}", offsets[most], hint)
        for index, argument in enumerate(arguments):
            kinds = self.parameters[min(index, most - 1)]
            if not argument.type.may_be(*kinds):
                raise ExpressionProblem(
                    f"{self.name} needs {_shown(kinds)}, not {argument.type}", offsets[index]
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


def _shown(kinds: tuple[Kind, ...]) -> str:
    return Kind.ANY.value if kinds == VALUE else " or ".join(kind.value for kind in kinds)


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
