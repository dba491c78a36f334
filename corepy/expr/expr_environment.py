"""The functions and variables that an expression can use beside those of the language."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from corepy.expr.frame import Evaluate
from corepy.expr.value_types import Type
from corepy.plugin.handler import Cacheability

NOT_CONSTANT: Final = object()


class Compiled(NamedTuple):
    """A compiled part of an expression."""

    type: Type
    run: Evaluate
    value: object = NOT_CONSTANT
    """The value, if it is the same for all queries."""

    is_short: bool = False
    """Whether a string is so short that reading it need not be counted."""

    function: Function | None = None
    """The function that the part calls without arguments, for functions that know each other."""

    @property
    def is_constant(self) -> bool:
        """Whether the value is the same for all queries."""
        return self.value is not NOT_CONSTANT


class Impossible(NamedTuple):
    """The reason why no result of a function fits a constant, and a hint."""

    reason: str
    hint: str | None = None


@dataclass(frozen=True)
class Function:
    """A function that the environment adds to the language."""

    name: str
    parameters: tuple[Type, ...]
    result: Type
    call: Callable[..., Any]
    """Gets the subject of the evaluation and the arguments, of the declared types."""

    depends: Cacheability = Cacheability.SAFE
    """The inputs that the result depends on, beside the arguments."""

    is_about_question: bool = False
    """Whether the result depends only on name, type and class of a query, and the arguments."""

    is_short: bool = True
    """Whether a string that it returns is short, such as a name: reading it is not counted."""

    reads_label: bool = False
    """Whether the argument is a label of metadata."""

    argument_names: tuple[str, ...] = ()
    """The names of the arguments in messages, by default their types."""

    impossible: Callable[[str, Any], Impossible | None] | None = None
    """Returns why no result fits a constant of its type, None if one may, for warnings at setup.

    The first argument is the operator between the two: `==` (also for `!=` and `in`), `contains`,
    `startsWith`, `endsWith` or `matches`. It is called for functions without arguments.
    """

    prepare: Callable[[Sequence[Compiled], Warn], Evaluate | None] | None = None
    """Returns a faster way to call the function with these arguments, or None for the usual one.

    It is called at setup, and reports a mistake in a constant argument with the function that it
    gets: the message and the number of the argument.
    """

    @property
    def usage(self) -> str:
        """The call with the names of its arguments, such as `incidr(ADDRESS, NETWORK)`."""
        names = self.argument_names or tuple(map(str, self.parameters))
        return f"{self.name}({', '.join(names)})"


Warn = Callable[[str, int], None]


class Variable(NamedTuple):
    """A variable that the environment adds to the language."""

    type: Type
    depends: Cacheability
    """The inputs that the value depends on."""

    is_about_question: bool
    """Whether the value depends only on name, type and class of a query."""


@dataclass(frozen=True)
class Environment:
    """The functions and variables of an expression."""

    functions: Mapping[str, Function]
    variables: Mapping[str, Variable] = field(default_factory=dict)

    @classmethod
    def of(cls, functions: Iterable[Function]) -> Environment:
        """Return an environment without variables."""
        return cls({each.name: each for each in functions})

    def with_variable(
        self, name: str, type_: Type, depends: Cacheability, *, is_about_question: bool = False
    ) -> Environment:
        """Return an environment with one more variable; see `Variable`."""
        added = Variable(type_, depends, is_about_question)
        return Environment(self.functions, {**self.variables, name: added})
