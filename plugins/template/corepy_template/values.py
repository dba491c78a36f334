"""What a template computes with: Go's values as Python's, and what text/template does with them.

str, bool, int (of every size and sign) and float are themselves, a slice is a sequence, a map a
dict with string keys, a struct an object of a class below `Struct`, nil is None. Strings are
counted and cut in bytes, as Go does it. `NO_VALUE` is what a map has for a key that is not there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final

MOST_TEXT: Final = 131_072
"""Characters of one rendering, and of each string on the way; no record has a use for more."""

_EXPONENT_FROM: Final = 6  # the power of ten, where digits are the shortest


class TemplateError(Exception):
    """A template cannot be rendered for this query; the message says which step of it failed."""


class Struct:
    """A value with named parts; Go's struct with its methods."""

    FIELDS: ClassVar[Mapping[str, Callable[[Any], object]]] = {}
    """How to get each field."""

    METHODS: ClassVar[Mapping[str, Callable[[Any, str], object]]] = {}
    """Methods of one string argument."""

    go_type: ClassVar[str]
    """What error messages call it."""

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
    """Return what `if` and `and` take `value` for: all but zero and empty values are true."""
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
    """Return what the method `name` says to arguments, of which there is at least one."""
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
    """Return a string as Go sees it."""
    return text.encode("utf-8", "surrogateescape")


def from_bytes(data: bytes) -> str:
    """Return the string for bytes; those that are no UTF-8 come back with `to_bytes`."""
    return data.decode("utf-8", "surrogateescape")


def show(value: object) -> str:
    """Return what an action puts into the text."""
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
    """Return a float in the shortest digits that mean it, Go's `%g`."""
    if math.isinf(number) or math.isnan(number):
        return "NaN" if math.isnan(number) else "+Inf" if number > 0 else "-Inf"
    from decimal import Decimal  # few templates have floats

    parts = Decimal(repr(number)).as_tuple()
    digits = "".join(map(str, parts.digits)).rstrip("0") or "0"
    power = len(parts.digits) + int(parts.exponent) - 1 if number else 0
    sign = "-" if parts.sign else ""
    if -4 <= power < _EXPONENT_FROM:
        return f"{sign}{Decimal(f'0.{digits}').scaleb(power + 1):f}"
    mantissa = digits[0] + (f".{digits[1:]}" if len(digits) > 1 else "")
    return f"{sign}{mantissa}e{'-' if power < 0 else '+'}{abs(power):02d}"
