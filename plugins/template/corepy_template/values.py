"""The values of template expressions, and the operations of text/template on them.

Go's values become Python's. str, bool, int (of every size and sign) and float are themselves, a
slice is a sequence, a map a dict with string keys, a struct an object of a subclass of `Struct`;
nil becomes None. The length and the slices of strings are in bytes, as in Go. A missing key of a
map has the value `NO_VALUE`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final

MOST_TEXT: Final = 131_072
"""Maximum characters of one rendering, and of each intermediate string; records are shorter."""

_EXPONENT_FROM: Final = 6  # the power of ten from which Go's shortest form has an exponent


class TemplateError(Exception):
    """A template cannot be rendered for this query; the message names the step that failed."""


class Struct:
    """A value with named fields, and methods: Go's struct."""

    FIELDS: ClassVar[Mapping[str, Callable[[Any], object]]] = {}
    """The accessor of each field."""

    METHODS: ClassVar[Mapping[str, Callable[[Any, str], object]]] = {}
    """Methods with one string argument."""

    go_type: ClassVar[str]
    """Go's name of the type, for error messages."""

    def __str__(self) -> str:
        raise TemplateError(f"{self.go_type} as a whole cannot be printed")


class _NoValue:
    def __repr__(self) -> str:
        return "<no value>"


NO_VALUE: Final = _NoValue()
_NAMES: Final = {
    bool: "bool", str: "string", int: "int", float: "float64", dict: "map[string]string"
}  # fmt: skip


def type_name(value: object) -> str:
    """Return Go's name for the type of `value`, for messages and `%T`."""
    if value is None or value is NO_VALUE:
        return "<nil>"
    if isinstance(value, Struct):
        return value.go_type
    return _NAMES.get(type(value), "[]string")


def kind(value: object) -> type | None:
    """Return bool, str, int or float, the kinds that can be compared, or None."""
    return type(value) if isinstance(value, (bool, str, int, float)) else None


def is_true(value: object) -> bool:
    """Return the truth of `value` for `if` and `and`: zero and empty values are false."""
    return value is not NO_VALUE and (isinstance(value, Struct) or bool(value))


def get_field(receiver: object, name: str) -> object:
    """Return `receiver.name`; raises TemplateError."""
    if isinstance(receiver, Struct):
        accessor = receiver.FIELDS.get(name)
        if accessor is not None:
            return accessor(receiver)
        if name in receiver.METHODS:
            raise TemplateError(f"wrong number of args for {name}: want 1 got 0")
    elif isinstance(receiver, dict):
        return receiver.get(name, NO_VALUE)
    elif receiver is NO_VALUE or receiver is None:
        return NO_VALUE
    raise TemplateError(f"can't evaluate field {name} in type {type_name(receiver)}")


def call_member(receiver: object, name: str, arguments: list[object]) -> object:
    """Call the method `name` with at least one argument; raises TemplateError."""
    method = receiver.METHODS.get(name) if isinstance(receiver, Struct) else None
    if method is None:
        get_field(receiver, name)
        raise TemplateError(f"{name} has arguments but cannot be invoked as function")
    if len(arguments) != 1:
        raise TemplateError(f"wrong number of args for {name}: want 1 got {len(arguments)}")
    if not isinstance(arguments[0], str):
        got = type_name(arguments[0])
        raise TemplateError(f"wrong type for value; expected string; got {got}")
    return method(receiver, arguments[0])


def to_bytes(text: str) -> bytes:
    """Return the bytes that Go would have for a string."""
    return text.encode("utf-8", "surrogateescape")


def from_bytes(data: bytes) -> str:
    """Return the string for bytes; `to_bytes` restores invalid UTF-8."""
    return data.decode("utf-8", "surrogateescape")


def show(value: object) -> str:
    """Return the text that an action writes for a value."""
    if type(value) is str:
        return value
    return "<no value>" if value is NO_VALUE or value is None else to_text(value)


def to_text(value: object) -> str:
    """Return `value` in Go's default format, `%v`."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return float_text(value)
    if isinstance(value, dict):
        return f"map[{' '.join(f'{key}:{to_text(value[key])}' for key in sorted(value))}]"
    if isinstance(value, (list, tuple)):
        return f"[{' '.join(map(to_text, value))}]"
    return "<nil>" if value is None or value is NO_VALUE else str(value)


def float_text(number: float) -> str:
    """Return the shortest digits that represent a float, Go's `%g`."""
    if math.isinf(number) or math.isnan(number):
        return "NaN" if math.isnan(number) else "+Inf" if number > 0 else "-Inf"
    from decimal import Decimal  # few templates use floats

    parts = Decimal(repr(number)).as_tuple()
    digits = "".join(map(str, parts.digits)).rstrip("0") or "0"
    power = len(parts.digits) + int(parts.exponent) - 1 if number else 0
    sign = "-" if parts.sign else ""
    if -4 <= power < _EXPONENT_FROM:
        return f"{sign}{Decimal(f'0.{digits}').scaleb(power + 1):f}"
    mantissa = digits[0] + (f".{digits[1:]}" if len(digits) > 1 else "")
    return f"{sign}{mantissa}e{'-' if power < 0 else '+'}{abs(power):02d}"
