"""Compiles calls of functions: those of the environment, and those of the language."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from corepy.expr import syntax as s
from corepy.expr.array_functions import ARRAY_FUNCTIONS
from corepy.expr.builtin import Builtin
from corepy.expr.compiling import Compilation
from corepy.expr.conversions import CONVERSIONS
from corepy.expr.expr_environment import Compiled, Function
from corepy.expr.expr_values import kind_name
from corepy.expr.frame import Evaluate, ExpressionError, Frame
from corepy.expr.number_functions import NUMBER_FUNCTIONS
from corepy.expr.text_functions import TEXT_FUNCTIONS
from corepy.expr.time_functions import TIME_FUNCTIONS
from corepy.expr.value_types import Kind, Type, is_assignable

BUILTINS: Final[dict[str, Builtin]] = {
    each.name: each
    for table in (TEXT_FUNCTIONS, NUMBER_FUNCTIONS, ARRAY_FUNCTIONS, TIME_FUNCTIONS, CONVERSIONS)
    for each in table
}
"""The functions of the language without predicates, by name."""

WITH_PREDICATES: Final = frozenset((
    "all", "none", "any", "one", "filter", "map", "count", "sum", "find", "findIndex", "findLast",
    "findLastIndex", "groupBy", "sortBy", "reduce",
))  # fmt: skip
"""The functions of the language with predicates."""

UNSUPPORTED: Final = frozenset(("now",))
"""The functions of expr-lang that are missing: no reply that depends on the clock can be cached."""

RESERVED: Final = frozenset((*BUILTINS, *WITH_PREDICATES, *UNSUPPORTED))
"""Names that a variable cannot have."""


class CallCompiler(Compilation):
    """The part of the compiler for calls."""

    def is_function(self, name: str) -> bool:
        """Return whether there is a function of this name."""
        return name in self.environment.functions or name in RESERVED

    def functions(self) -> list[str]:
        """Return the names of all functions."""
        return [*self.environment.functions, *BUILTINS, *WITH_PREDICATES]

    def call(self, node: s.Call) -> Compiled:
        """Compile a call."""
        function = self.environment.functions.get(node.name)
        if function is not None:
            return self._environment_call(node, function)
        builtin = BUILTINS.get(node.name)
        if builtin is not None:
            arguments = [self.compile(each) for each in node.arguments]
            offsets = [each.offset for each in node.arguments]
            type_ = builtin.type_for(arguments, offsets, node.offset)
            compiled = Compiled(type_, builtin.bind(arguments))
            return self._folded_call(builtin, compiled, arguments, offsets)
        if node.name in UNSUPPORTED:
            raise s.ExpressionProblem(f"{node.name} is not supported", node.offset)
        if self.local(node.name) is not None or node.name in self.environment.variables:
            raise s.ExpressionProblem(f"{node.name!r} is not a function", node.offset)
        problem = self.unknown_name(node.name, node.offset)
        hint = problem.hint if problem.hint and problem.hint.startswith("did") else None
        raise s.ExpressionProblem(f"unknown function {node.name!r}", node.offset, hint)

    def _folded_call(
        self,
        builtin: Builtin,
        compiled: Compiled,
        arguments: Sequence[Compiled],
        offsets: Sequence[int],
    ) -> Compiled:
        """Check the constant arguments of a call, and make the call if all are constant."""
        for index, check in builtin.checks.items():
            if index < len(arguments) and arguments[index].is_constant:
                try:
                    check(arguments[index].value)
                except ExpressionError as error:
                    self.warn(error, offsets[index])
                    return compiled
        return self.folded(compiled, arguments, offsets[0]) if builtin.is_folded else compiled

    def _environment_call(self, node: s.Call, function: Function) -> Compiled:
        arguments = [self.compile(each) for each in node.arguments]
        self._check(node, function, arguments)
        self.depend(function.depends)
        self.is_about_question = self.is_about_question and function.is_about_question
        self.reads_metadata = self.reads_metadata or function.reads_label
        if function.reads_label and isinstance(arguments[0].value, str):
            self.labels.append((arguments[0].value, node.arguments[0].offset))
        run = None
        if function.prepare is not None:

            def warn(message: str, index: int) -> None:
                self.warnings.append(s.ExpressionProblem(message, node.arguments[index].offset))

            run = function.prepare(arguments, warn)
        return Compiled(
            function.result,
            run or _bound(function, arguments),
            is_short=function.is_short,
            function=None if arguments else function,
        )

    def _check(self, node: s.Call, function: Function, arguments: list[Compiled]) -> None:
        """Raise ExpressionProblem for arguments that the function does not take."""
        wanted = function.parameters
        if len(arguments) > len(wanted):
            surplus = node.arguments[len(wanted)]
            message = f"too many arguments for {node.name}"
            raise s.ExpressionProblem(message, surplus.offset, function.usage)
        if len(arguments) < len(wanted):
            message = f"not enough arguments for {node.name}"
            raise s.ExpressionProblem(message, node.offset, function.usage)
        for argument, type_, part in zip(arguments, wanted, node.arguments, strict=True):
            given = argument.type
            if given.kind is not Kind.ANY and not is_assignable(given, type_):
                raise s.ExpressionProblem(f"{node.name} needs {type_}, not {given}", part.offset)


def _bound(function: Function, arguments: list[Compiled]) -> Evaluate:
    """Return the usual call of a function; values of unknown types are checked."""
    call = function.call
    if not arguments:
        return lambda frame: call(frame.subject)
    runs = [
        _checked(each, type_, function.name)
        for each, type_ in zip(arguments, function.parameters, strict=True)
    ]
    if len(runs) == 1:
        (only,) = runs
        return lambda frame: call(frame.subject, only(frame))
    return lambda frame: call(frame.subject, *[run(frame) for run in runs])


def _checked(argument: Compiled, wanted: Type, name: str) -> Evaluate:
    """Return an argument that fails if its value is of another type than the function takes."""
    run = argument.run
    if wanted.kind is Kind.ANY or argument.type.kind is not Kind.ANY:
        return run

    def checked(frame: Frame) -> Any:
        value = run(frame)
        if kind_name(value) != wanted.kind.value:
            raise ExpressionError(f"{name} needs {wanted}, not {kind_name(value)}")
        return value

    return checked
