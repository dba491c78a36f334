"""The options `var` and `expr`; imported only for directives with one of them."""

from __future__ import annotations

import re
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from corepy.expr import (
    ANY,
    STRING,
    Environment,
    ExpressionError,
    Function,
    is_free,
    plain,
    query_functions,
    read_conditions,
    read_expression,
)
from corepy.expr.value_types import NIL
from corepy.plugin import Cacheability
from corepy_template.rule import WriteError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from corepy.expr import Expression
    from corepy.plugin import Controller
    from corepy_template.data import Data

_VARIABLE_HINT: Final = "such as: var ip replace(group(1), '-', '.')"
_CONDITION_HINT: Final = "such as: expr incidr(client_ip(), '192.0.2.0/24')"
_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*", re.ASCII)


def _group(data: Data, name: object) -> str:
    """Return a group of the regular expression by name or number, "" without such a group."""
    key = str(name) if type(name) is int else name
    return data.group.get(key, "") if isinstance(key, str) else ""


_FUNCTIONS: Final = Environment.of(
    [
        *query_functions(attrgetter("request")),
        Function("group", (ANY,), STRING, _group, is_about_question=True, argument_names=("NAME",)),
    ]
)


class RuleExpressions:
    """The variables and conditions of one *template* directive."""

    def __init__(self) -> None:
        self.environment = _FUNCTIONS
        self.depends = Cacheability.SAFE
        """What the values depend on, beside the query's bytes."""

        self.is_about_question = True
        """Whether the values depend only on the question, which is the key of *cache*."""

        self.reads_metadata = False
        """Whether a value depends on metadata, which other directives set."""

        self._variables: list[tuple[str, Expression, str]] = []
        self._conditions: list[tuple[Expression, str]] = []

    @property
    def names(self) -> Collection[str]:
        """The names of the variables."""
        return self.environment.variables

    def read_variable(self, controller: Controller) -> None:
        """Read `var NAME EXPRESSION`; later options can use the variable."""
        name, *tokens = controller.arguments(2, hint=_VARIABLE_HINT)
        if _NAME.fullmatch(name.text) is None:
            hint = "a name has ASCII letters, digits and _, and begins with no digit"
            raise controller.error(f"invalid variable name {name.text!r}", name, hint)
        before = next((place for other, _, place in self._variables if other == name.text), None)
        if before is not None:
            hint = f"it is set at {before}"
            raise controller.error(f"variable {name.text!r} is set twice", name, hint)
        if not is_free(name.text, self.environment):
            raise controller.error(
                f"variable name {name.text!r} is reserved", name, "it has a meaning in expressions"
            )
        expression = read_expression(controller, tokens, self.environment)
        self._note(expression)
        type_ = ANY if expression.type == NIL else expression.type
        self.environment = self.environment.with_variable(
            name.text,
            type_,
            expression.depends,
            is_about_question=expression.is_about_question,
        )
        self._variables.append((name.text, expression, name.location))

    def read_condition(self, controller: Controller) -> None:
        """Read `expr EXPRESSION`."""
        tokens = controller.arguments(1, hint=_CONDITION_HINT)
        for condition in read_conditions(controller, tokens, self.environment):
            self._note(condition)
            self._conditions.append((condition, tokens[0].location))

    def _note(self, expression: Expression) -> None:
        """Add what an expression depends on."""
        self.depends = Cacheability.combined((self.depends, expression.depends))
        self.is_about_question = self.is_about_question and expression.is_about_question
        self.reads_metadata = self.reads_metadata or expression.reads_metadata

    def accept(self, data: Data) -> bool:
        """Set the variables of `data`, and return whether all conditions are true.

        Raises WriteError if an expression has no value.
        """
        return self.refusal(data) is None

    def refusal(self, data: Data) -> str | None:
        """Set the variables of `data`, and return where the first condition is that is not true.

        Raises WriteError if an expression has no value.
        """
        values: dict[str, object] = {}
        data.variables = {
            name: _evaluate_variable(name, expression, place, data, values)
            for name, expression, place in self._variables
        }
        for condition, place in self._conditions:
            if _evaluate(condition, place, data, values) is not True:
                return place
        return None


def _evaluate_variable(
    name: str, expression: Expression, place: str, data: Data, values: dict[str, object]
) -> object:
    """Set a variable in `values`, and return its value for templates."""
    values[name] = _evaluate(expression, place, data, values)
    try:
        return plain(values[name])
    except ExpressionError as error:
        raise WriteError(f"{place}: {name}: {error}") from None


def _evaluate(
    expression: Expression, place: str, data: Data, values: Mapping[str, object]
) -> object:
    try:
        return expression.evaluate(data, values)
    except ExpressionError as error:
        raise WriteError(f"{place}: {error}") from None
