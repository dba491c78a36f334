"""The functions of the language for numbers and bits (expr-lang: builtin/builtin.go)."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, Final

from corepy.expr import expr_values as v
from corepy.expr.builtin import NUMBER, WHOLE, Builtin
from corepy.expr.frame import ExpressionError, Frame
from corepy.expr.time_values import Duration
from corepy.expr.value_types import ANY, FLOAT, INT, Kind, Type

_BITS: Final = 64
_NUMBERS: Final = (*NUMBER, Kind.ARRAY)
_NUMBERS_OR_DURATIONS: Final = (*_NUMBERS, Kind.DURATION)


def _abs(frame: Frame, value: Any) -> Any:
    if not v.is_number(value):
        raise ExpressionError(f"abs needs a number, not {v.kind_name(value)}")
    return v.wrapped(abs(value)) if type(value) is int else abs(value)


def _rounding(name: str, round_: Callable[[float], float]) -> Builtin:
    def call(frame: Frame, value: object) -> float:
        number = v.as_float(value, name)
        return number if math.isinf(number) or math.isnan(number) else float(round_(number))

    return Builtin(name, (NUMBER,), FLOAT, call)


def _half_away(number: float) -> float:
    """Round to the nearest integer, halves away from zero (Go: math.Round)."""
    whole = math.floor(abs(number))
    return math.copysign(whole + (abs(number) - whole >= 0.5), number)


def _all_numbers(frame: Frame, name: str, values: Sequence[object]) -> list[Any]:
    """Return the numbers among the arguments and in arrays, however nested."""
    found: list[Any] = []
    _add_numbers(frame, name, values, found)
    return found


def _add_numbers(frame: Frame, name: str, values: Any, found: list[Any]) -> None:
    frame.step(len(values) + 1)
    for value in values:
        if v.is_number(value):
            found.append(value)
        elif isinstance(value, v.ARRAYS):
            _add_numbers(frame, name, value, found)
        else:
            raise ExpressionError(f"{name} needs numbers, not {v.kind_name(value)}")


def _all_durations(name: str, values: Sequence[object]) -> list[Any]:
    for value in values:
        if type(value) is not Duration:
            raise ExpressionError(f"{name} needs durations, not {v.kind_name(value)}")
    return list(values)


def _extreme(name: str, wins: Callable[[Any, Any], bool]) -> Callable[..., Any]:
    def call(frame: Frame, *values: object) -> Any:
        found = None
        if type(values[0]) is Duration:
            numbers = _all_durations(name, values)
        else:
            numbers = _all_numbers(frame, name, values)
        for number in numbers:
            if found is None or wins(number, found):
                found = number
        return found

    return call


def _mean(frame: Frame, *values: object) -> float:
    numbers = [float(each) for each in _all_numbers(frame, "mean", values)]
    total = 0.0
    for number in numbers:
        total += number
    return total / len(numbers) if numbers else 0.0


def _median(frame: Frame, *values: object) -> float:
    numbers = sorted(float(each) for each in _all_numbers(frame, "median", values))
    middle, is_odd = divmod(len(numbers), 2)
    if not numbers:
        return 0.0
    return numbers[middle] if is_odd else (numbers[middle - 1] + numbers[middle]) / 2


def _aggregate(types: Sequence[Type]) -> Type:
    """Return the type of `max` and `min`: that of the arguments if all have the same."""
    has_one = len(set(types)) == 1 and types[0].kind is not Kind.ARRAY
    return types[0] if has_one else ANY


def _bits(name: str, operation: Callable[[int, int], int]) -> Builtin:
    def call(frame: Frame, one: object, other: object) -> int:
        return v.wrapped(operation(_int_only(one, name), _int_only(other, name)))

    return Builtin(name, (WHOLE, WHOLE), INT, call)


def _int_only(value: object, name: str) -> int:
    """Return a value that is an int, not a float; raises ExpressionError."""
    if type(value) is int:
        return value
    raise ExpressionError(f"{name} needs an int, not {v.kind_name(value)}")


def _shift_left(number: int, bits: int) -> int:
    return number << _checked(bits) if bits < _BITS else 0


def _shift_right(number: int, bits: int) -> int:
    return number >> min(_checked(bits), _BITS)


def _shift_unsigned(number: int, bits: int) -> int:
    return number % (1 << _BITS) >> min(_checked(bits), _BITS)


def _checked(bits: int) -> int:
    if bits < 0:
        raise ExpressionError(f"a shift by {bits} bits is not possible")
    return bits


def _bitnot(frame: Frame, value: object) -> int:
    return ~_int_only(value, "bitnot")


NUMBER_FUNCTIONS: Final = (
    Builtin("abs", (NUMBER,), lambda types: types[0], _abs),
    _rounding("ceil", math.ceil),
    _rounding("floor", math.floor),
    _rounding("round", _half_away),
    Builtin(
        "max", (_NUMBERS_OR_DURATIONS,), _aggregate, _extreme("max", operator.gt), is_variadic=True
    ),
    Builtin(
        "min", (_NUMBERS_OR_DURATIONS,), _aggregate, _extreme("min", operator.lt), is_variadic=True
    ),
    Builtin("mean", (_NUMBERS,), ANY, _mean, is_variadic=True),
    Builtin("median", (_NUMBERS,), ANY, _median, is_variadic=True),
    _bits("bitand", operator.and_),
    _bits("bitor", operator.or_),
    _bits("bitxor", operator.xor),
    _bits("bitnand", lambda one, other: one & ~other),
    _bits("bitshl", _shift_left),
    _bits("bitshr", _shift_right),
    _bits("bitushr", _shift_unsigned),
    Builtin("bitnot", (WHOLE,), INT, _bitnot),
)
