"""The operations of the language on values, with Go's results (expr-lang: vm/runtime).

Values are those of Python: None, bool, int (64 bits), float, str, dict; an array is a list, a
tuple or a range. A string with bytes that are not UTF-8 has them as lone surrogates. Dates and the
like are those of `time_values.py` and `time_zones.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final

from corepy.expr.date_layouts import date_text
from corepy.expr.frame import MOST_TEXT, ExpressionError, Frame
from corepy.expr.time_values import Date, Duration, Month, Weekday
from corepy.expr.time_zones import Zone
from corepy.expr.value_types import Kind

ARRAYS: Final = (list, tuple, range)
TIMES: Final = (Date, Duration)
"""Times that can be compared with others of their class."""

SHORT: Final = 256
"""Characters of strings that are compared without being counted."""

SMALLEST_INT: Final = -(1 << 63)
LARGEST_INT: Final = (1 << 63) - 1
_WRAP: Final = 1 << 64
_STEPS_OF_TEXT: Final = 4  # of an element that is written as text
_EXPONENT_FROM: Final = 6  # the power of ten from which Go's shortest form has an exponent


_KINDS: Final = {
    type(None): Kind.NIL,
    bool: Kind.BOOL,
    int: Kind.INT,
    float: Kind.FLOAT,
    str: Kind.STRING,
    dict: Kind.MAP,
    Date: Kind.DATE,
    Duration: Kind.DURATION,
    Zone: Kind.TIMEZONE,
    Month: Kind.MONTH,
    Weekday: Kind.WEEKDAY,
}


def kind_of(value: object) -> Kind:
    """Return the kind of a value."""
    return _KINDS.get(type(value), Kind.ARRAY)


def kind_name(value: object) -> str:
    """Return the name of a value's kind for messages."""
    return kind_of(value).value


def is_number(value: object) -> bool:
    """Return whether a value is an int or a float."""
    return type(value) is int or type(value) is float


def wrapped(number: int) -> int:
    """Return an integer in 64 bits, as arithmetic that overflows in Go."""
    if SMALLEST_INT <= number <= LARGEST_INT:
        return number
    return (number - SMALLEST_INT) % _WRAP + SMALLEST_INT


def as_bool(value: object) -> bool:
    """Return a value that is a bool; raises ExpressionError."""
    if value is True or value is False:
        return value
    raise ExpressionError(f"{kind_name(value)} is used as a condition")


def as_text(value: object, name: str) -> str:
    """Return a value that is a string; raises ExpressionError."""
    if type(value) is str:
        return value
    raise ExpressionError(f"{name} needs a string, not {kind_name(value)}")


def as_int(value: object, name: str) -> int:
    """Return a value that is an int, or the whole part of a float; raises ExpressionError."""
    if type(value) is int:
        return value
    if type(value) is float:
        return whole(value)
    raise ExpressionError(f"{name} needs an int, not {kind_name(value)}")


def as_float(value: object, name: str) -> float:
    """Return a number as a float; raises ExpressionError."""
    if type(value) is int or type(value) is float:
        return float(value)
    raise ExpressionError(f"{name} needs a number, not {kind_name(value)}")


def as_array(value: object, name: str) -> Any:
    """Return a value that is an array; raises ExpressionError."""
    if isinstance(value, ARRAYS):
        return value
    raise ExpressionError(f"{name} needs an array, not {kind_name(value)}")


def whole(number: float) -> int:
    """Return the whole part of a float; raises ExpressionError if it has more than 64 bits."""
    if math.isnan(number) or not SMALLEST_INT <= number <= LARGEST_INT:
        raise ExpressionError(f"{float_text(number)} is not in the range of int")
    return wrapped(int(number))


def to_bytes(text: str) -> bytes:
    """Return the bytes that Go has for a string."""
    return text.encode("utf-8", "surrogateescape")


def from_bytes(data: bytes) -> str:
    """Return the string for bytes; `to_bytes` restores invalid UTF-8."""
    return data.decode("utf-8", "surrogateescape")


def equal(one: object, other: object, frame: Frame) -> bool:
    """Return whether two values are equal; numbers are compared as numbers, arrays by element."""
    if type(one) is str and type(other) is str:
        if len(one) == len(other) > SHORT:
            frame.take(len(one))
        return one == other
    if is_number(one) and is_number(other):
        return same_number(one, other)
    if isinstance(one, ARRAYS) and isinstance(other, ARRAYS):
        if len(one) != len(other):
            return False
        frame.step(len(one) + 1)
        return all(equal(a, b, frame) for a, b in zip(one, other, strict=True))
    if isinstance(one, dict) and isinstance(other, dict):
        frame.step(len(one) + 1)
        return one.keys() == other.keys() and all(equal(one[k], other[k], frame) for k in one)
    return type(one) is type(other) and one == other


def same_number(one: Any, other: Any) -> bool:
    """Return whether two numbers are equal; beside a float, an int is one, too."""
    return bool(one == other if type(one) is type(other) else float(one) == float(other))


def is_less(one: Any, other: Any) -> bool:
    """Return whether a value is less than another one of its kind; raises ExpressionError."""
    if type(one) is str and type(other) is str:
        if one.isascii() and other.isascii():
            return one < other
        return to_bytes(one) < to_bytes(other)
    if is_number(one) and is_number(other):
        return bool(one < other if type(one) is type(other) else float(one) < float(other))
    if type(one) is type(other) and type(one) in TIMES:
        return bool(one < other)
    raise ExpressionError(f"{kind_name(one)} and {kind_name(other)} have no order")


def is_in(needle: object, values: object, frame: Frame) -> bool:
    """Return whether an array has an element, or a map a key; raises ExpressionError."""
    if values is None:
        return False
    if isinstance(values, dict):
        return has_key(values, needle)
    array = as_array(values, "in")
    frame.step(len(array))
    return any(equal(each, needle, frame) for each in array)


def has_key(values: dict[object, object], key: object) -> bool:
    """Return whether a map has a key; 1, 1.0 and true are different keys, as in Go."""
    return _hashed(key) in values


def key_for(value: object) -> object:
    """Return the key of a map for a value; raises ExpressionError for arrays and maps."""
    if isinstance(value, (dict, *ARRAYS)):
        raise ExpressionError(f"{kind_name(value)} cannot be the key of a map")
    return _hashed(value)


class _Key:
    """A key that Python's dict would take for another one: a bool, or a float."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, _Key)
            and type(self.value) is type(other.value)
            and self.value == other.value
        )

    def __hash__(self) -> int:
        return hash((type(self.value), self.value))


def _hashed(value: object) -> object:
    if isinstance(value, (dict, *ARRAYS)):
        return _Key(None)
    return _Key(value) if type(value) is bool or type(value) is float else value


def key_value(key: object) -> object:
    """Return the value that a key of a map stands for."""
    return key.value if isinstance(key, _Key) else key


def power(one: float, other: float) -> float:
    """Return `one ** other` (Go: math.Pow), which is never an error."""
    try:
        return math.pow(one, other)
    except OverflowError:
        is_odd = other.is_integer() and other % 2 == 1
        return -math.inf if one < 0 and is_odd else math.inf
    except ValueError:
        if one != 0:
            return math.nan
        is_odd = other.is_integer() and other % 2 == 1
        return math.copysign(math.inf, one) if is_odd else math.inf


def quotient(one: float, other: float) -> float:
    """Return `one / other`; a division by zero is infinite, or not a number."""
    if other:
        return one / other
    if not one or math.isnan(one) or math.isnan(other):
        return math.nan
    return math.copysign(math.inf, one) * math.copysign(1.0, other)


def remainder(one: int, other: int) -> int:
    """Return `one % other` with the sign of `one`; raises ExpressionError for zero."""
    if not other:
        raise ExpressionError("integer division by zero")
    rest = abs(one) % abs(other)
    return -rest if one < 0 else rest


def to_text(value: object, frame: Frame) -> str:
    """Return a value in Go's default format (fmt: %v)."""
    if type(value) is str:
        return value
    if value is True or value is False:
        return "true" if value else "false"
    if type(value) is float:
        return float_text(value)
    if isinstance(value, dict):
        frame.step(_STEPS_OF_TEXT * (len(value) + 1))
        named = sorted(((to_text(key_value(key), frame), key) for key in value), key=_first)
        pairs = (f"{name}:{to_text(value[key], frame)}" for name, key in named)
        return f"map[{_joined(frame, pairs)}]"
    if isinstance(value, ARRAYS):
        frame.step(_STEPS_OF_TEXT * (len(value) + 1))
        return f"[{_joined(frame, (to_text(each, frame) for each in value))}]"
    if type(value) is Date:
        return date_text(value)
    return "<nil>" if value is None else str(value)


def _first(pair: tuple[str, object]) -> str:
    return pair[0]


def _joined(frame: Frame, pieces: Iterable[str]) -> str:
    """Join pieces with spaces; counts each of them before the next one is made."""
    kept: list[str] = []
    length = 0
    for piece in pieces:
        length += len(piece) + 1
        if length > MOST_TEXT:
            frame.text_of(length)
        kept.append(piece)
    return frame.text(" ".join(kept))


def float_text(number: float) -> str:
    """Return the shortest digits that represent a float (Go: %v)."""
    if math.isinf(number) or math.isnan(number):
        return "NaN" if math.isnan(number) else "+Inf" if number > 0 else "-Inf"
    from decimal import Decimal  # few expressions make text of floats

    digits = Decimal(repr(number)).normalize()
    power_of_ten = digits.adjusted()
    if -4 <= power_of_ten < _EXPONENT_FROM:
        return f"{digits:f}"
    sign = "-" if power_of_ten < 0 else "+"
    return f"{f'{digits:e}'.partition('e')[0]}e{sign}{abs(power_of_ten):02d}"
