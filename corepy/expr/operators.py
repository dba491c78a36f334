"""Compiles operators: checks the types of their operands, and selects the operation.

Where the types are known, the operation is Python's own; otherwise it checks the values.
"""

from __future__ import annotations

import operator as op
from collections.abc import Callable
from typing import Any, Final

from corepy.expr import expr_values as v
from corepy.expr import time_operations
from corepy.expr.expr_environment import Compiled
from corepy.expr.frame import ExpressionError, Frame
from corepy.expr.value_types import (
    ANY,
    BOOL,
    FLOAT,
    INT,
    INTS,
    STRING,
    Kind,
    Type,
    is_comparable,
)  # fmt: skip

Operation = Callable[[Frame, Any, Any], Any]


class TypeProblem(Exception):
    """An operation does not exist for these types; the message, and a hint."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        """Make the message for the user."""
        super().__init__(message)
        self.hint = hint


def unary(operator: str, operand: Compiled) -> Compiled:
    """Return the compiled operation of a prefix operator; raises TypeProblem."""
    run = operand.run
    if operator == "not":
        if not operand.type.may_be(Kind.BOOL):
            hint = "not applies to the next value only; put a condition in parentheses"
            raise TypeProblem(f"not needs a bool, not {operand.type}", hint)
        if operand.type is BOOL:
            return Compiled(BOOL, lambda frame: not run(frame))
        return Compiled(BOOL, lambda frame: not v.as_bool(run(frame)))
    if not operand.type.may_be(Kind.INT, Kind.FLOAT):
        raise TypeProblem(f"{operator} needs a number, not {operand.type}")
    sign = -1 if operator == "-" else 1
    if operand.is_constant:
        value = _signed(sign, operand.value)
        return Compiled(operand.type, lambda frame: value, value)
    return Compiled(operand.type, lambda frame: _signed(sign, run(frame)))


def _signed(sign: int, value: Any) -> Any:
    if not v.is_number(value):
        raise ExpressionError(f"a sign needs a number, not {v.kind_name(value)}")
    return value if sign > 0 else v.wrapped(-value) if type(value) is int else -value


def binary(operator: str, left: Compiled, right: Compiled) -> Compiled:
    """Return the compiled operation of any other operator; raises TypeProblem."""
    one, other = left.type, right.type
    if operator in ("==", "!="):
        return _equality(operator, left, right)
    if operator in _TEXT_OPERATIONS:
        return _text_operation(operator, left, right)
    if operator not in _ARITHMETIC:
        raise TypeProblem(f"{operator} is not an operator here")
    wanted, operation = _ARITHMETIC[operator]
    is_usual = any(one.may_be(*kinds) and other.may_be(*kinds) for kinds in wanted)
    if not is_usual and not time_operations.is_possible(operator, one, other):
        raise _mismatch(operator, one, other)
    a, b = left.run, right.run
    result = _result(operator, one, other)
    if operator in _PLAIN and one == other == INT:
        plain = _PLAIN[operator]
        return Compiled(result, lambda frame: plain(a(frame), b(frame)))
    return Compiled(result, lambda frame: operation(frame, a(frame), b(frame)))


def _mismatch(operator: str, one: Type, other: Type) -> TypeProblem:
    return TypeProblem(f"{operator} does not work for {one} and {other}", _hint(one, other))


_FROM_TEXT: Final = (Kind.DATE, Kind.DURATION, Kind.TIMEZONE)
_COUNTED: Final = (Kind.DURATION, Kind.MONTH, Kind.WEEKDAY)


def _hint(one: Type, other: Type) -> str | None:
    if {one.kind, other.kind} in ({Kind.STRING, Kind.INT}, {Kind.STRING, Kind.FLOAT}):
        return "int(...) makes a number of a string, string(...) a string of a number"
    if {one.kind, other.kind} == {Kind.STRING, Kind.BOOL}:
        return "true and false have no quotes"
    for kind in (one.kind, other.kind):
        if kind in _FROM_TEXT and Kind.STRING in (one.kind, other.kind):
            return f"{kind.value}(...) makes a {kind.value} of a string"
        if kind in _COUNTED and Kind.INT in (one.kind, other.kind):
            return f"int(...) makes a number of a {kind.value}"
    return None


def _result(operator: str, one: Type, other: Type) -> Type:
    if operator in ("<", ">", "<=", ">="):
        return BOOL
    if operator in ("/", "**"):
        return FLOAT
    if operator == "%":
        return INT
    if operator == "..":
        return INTS
    if one.kind is Kind.ANY or other.kind is Kind.ANY:
        return ANY
    of_times = time_operations.result_of(operator, one, other)
    if of_times is not None:
        return of_times
    if one.kind is Kind.STRING:
        return STRING
    return FLOAT if Kind.FLOAT in (one.kind, other.kind) else INT


def _equality(operator: str, left: Compiled, right: Compiled) -> Compiled:
    one, other, a, b = left.type, right.type, left.run, right.run
    if not is_comparable(one, other):
        raise _mismatch(operator, one, other)
    negated = operator == "!="
    is_uncounted = left.is_short and right.is_short
    if one == other and (
        one.kind in (Kind.INT, Kind.BOOL) or (one.kind is Kind.STRING and is_uncounted)
    ):
        if right.is_constant:
            value = right.value
            if negated:
                return Compiled(BOOL, lambda frame: a(frame) != value)
            return Compiled(BOOL, lambda frame: a(frame) == value)
        if negated:
            return Compiled(BOOL, lambda frame: a(frame) != b(frame))
        return Compiled(BOOL, lambda frame: a(frame) == b(frame))
    return Compiled(BOOL, lambda frame: v.equal(a(frame), b(frame), frame) is not negated)


def _text_operation(operator: str, left: Compiled, right: Compiled) -> Compiled:
    if not (left.type.may_be(Kind.STRING) and right.type.may_be(Kind.STRING)):
        raise _mismatch(operator, left.type, right.type)
    a, b = left.run, right.run
    find = _TEXT_OPERATIONS[operator]
    if left.type is STRING and right.type is STRING and left.is_short:
        if right.is_constant:
            text = right.value
            return Compiled(BOOL, lambda frame: find(a(frame), text))
        if right.is_short:
            return Compiled(BOOL, lambda frame: find(a(frame), b(frame)))

    def evaluate(frame: Frame) -> bool:
        one, other = a(frame), b(frame)
        if one is None or other is None:
            return False
        frame.take(len(v.as_text(one, operator)) + len(v.as_text(other, operator)))
        return find(one, other)

    return Compiled(BOOL, evaluate)


def add(frame: Frame, one: Any, other: Any) -> Any:
    """Return the sum of two values, or two strings joined; raises ExpressionError."""
    if type(one) is str and type(other) is str:
        frame.text_of(len(one) + len(other))
        return one + other
    return _calculate(op.add, "+", one, other)


def _calculate(operation: Callable[[Any, Any], Any], name: str, one: Any, other: Any) -> Any:
    if not v.is_number(one) or not v.is_number(other):
        of_times = time_operations.operation_on(name, one, other)
        if of_times is not None:
            return of_times(one, other)
        raise ExpressionError(
            f"{name} does not work for {v.kind_name(one)} and {v.kind_name(other)}"
        )
    if type(one) is int and type(other) is int:
        return v.wrapped(operation(one, other))
    return operation(float(one), float(other))


def _subtract(frame: Frame, one: Any, other: Any) -> Any:
    return _calculate(op.sub, "-", one, other)


def _multiply(frame: Frame, one: Any, other: Any) -> Any:
    return _calculate(op.mul, "*", one, other)


def _divide(frame: Frame, one: Any, other: Any) -> float:
    return v.quotient(v.as_float(one, "/"), v.as_float(other, "/"))


def _raise(frame: Frame, one: Any, other: Any) -> float:
    return v.power(v.as_float(one, "**"), v.as_float(other, "**"))


def _modulo(frame: Frame, one: Any, other: Any) -> int:
    if type(one) is not int or type(other) is not int:
        raise ExpressionError(f"% does not work for {v.kind_name(one)} and {v.kind_name(other)}")
    return v.wrapped(v.remainder(one, other))


def make_range(frame: Frame, first: Any, last: Any) -> range:
    """Return the array of the integers from `first` to `last`; raises ExpressionError."""
    start, end = v.as_int(first, ".."), v.as_int(last, "..")
    frame.take(max(end - start + 1, 0))
    return range(start, end + 1)


def _less(frame: Frame, one: Any, other: Any) -> bool:
    if type(one) is str and type(other) is str and len(one) + len(other) > v.SHORT:
        frame.take(len(one) + len(other))
    return v.is_less(one, other)


def _more(frame: Frame, one: Any, other: Any) -> bool:
    return _less(frame, other, one)


def _at_most(frame: Frame, one: Any, other: Any) -> bool:
    return _less(frame, one, other) or v.equal(one, other, frame)


def _at_least(frame: Frame, one: Any, other: Any) -> bool:
    return _less(frame, other, one) or v.equal(one, other, frame)


_NUMBERS: Final = (Kind.INT, Kind.FLOAT)
_TEXTS: Final = (Kind.STRING,)
_INTEGERS: Final = (Kind.INT,)
_ADDED: Final = (_NUMBERS, _TEXTS)
_ORDERED: Final = (*_ADDED, (Kind.DATE,), (Kind.DURATION,))

_ARITHMETIC: Final[dict[str, tuple[tuple[tuple[Kind, ...], ...], Operation]]] = {
    "<": (_ORDERED, _less),
    ">": (_ORDERED, _more),
    "<=": (_ORDERED, _at_most),
    ">=": (_ORDERED, _at_least),
    "+": (_ADDED, add),
    "-": ((_NUMBERS,), _subtract),
    "*": ((_NUMBERS,), _multiply),
    "/": ((_NUMBERS,), _divide),
    "**": ((_NUMBERS,), _raise),
    "%": ((_INTEGERS,), _modulo),
    "..": ((_INTEGERS,), make_range),
}
"""The kinds that both operands must have, one tuple of them, and the operation.

Beside these there are the operations on dates and durations (`time_operations.py`).
"""

_PLAIN: Final = {"<": op.lt, ">": op.gt, "<=": op.le, ">=": op.ge}
"""The operations on two values that are known to be ints."""

_TEXT_OPERATIONS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "contains": op.contains,
    "startsWith": str.startswith,
    "endsWith": str.endswith,
}
