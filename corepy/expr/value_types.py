"""The types of values, as they are known when an expression is compiled."""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple


class Kind(Enum):
    """The kind of a value; one of `ANY` is known only when the expression runs."""

    ANY = "any"
    NIL = "nil"
    BOOL = "bool"
    INT = "int"
    FLOAT = "float"
    STRING = "string"
    ARRAY = "array"
    MAP = "map"
    DATE = "date"
    DURATION = "duration"
    TIMEZONE = "timezone"
    MONTH = "month"
    WEEKDAY = "weekday"


class Type(NamedTuple):
    """The type of a value."""

    kind: Kind
    element: Type | None = None
    """The type of the elements of an array, and of the values of a map; None for any type."""

    has_string_keys: bool = False
    """Whether all keys of a map are strings."""

    def __str__(self) -> str:
        if self.kind is Kind.ARRAY and self.element is not None and self.element != ANY:
            return f"array of {self.element}"
        return self.kind.value

    @property
    def elements(self) -> Type:
        """The type of the elements or values."""
        return self.element or ANY

    @property
    def is_number(self) -> bool:
        """Whether it is int or float."""
        return self.kind in (Kind.INT, Kind.FLOAT)

    def may_be(self, *kinds: Kind) -> bool:
        """Return whether a value of this type can be of one of these kinds."""
        return self.kind is Kind.ANY or self.kind in kinds


ANY: Final = Type(Kind.ANY)
NIL: Final = Type(Kind.NIL)
BOOL: Final = Type(Kind.BOOL)
INT: Final = Type(Kind.INT)
FLOAT: Final = Type(Kind.FLOAT)
STRING: Final = Type(Kind.STRING)
ARRAY: Final = Type(Kind.ARRAY)
MAP: Final = Type(Kind.MAP)
DATE: Final = Type(Kind.DATE)
DURATION: Final = Type(Kind.DURATION)
TIMEZONE: Final = Type(Kind.TIMEZONE)
MONTH: Final = Type(Kind.MONTH)
WEEKDAY: Final = Type(Kind.WEEKDAY)
STRINGS: Final = Type(Kind.ARRAY, STRING)
INTS: Final = Type(Kind.ARRAY, INT)


def array_of(element: Type) -> Type:
    """Return the type of an array with such elements."""
    return Type(Kind.ARRAY, element)


def is_assignable(given: Type, wanted: Type) -> bool:
    """Return whether a value of the type `given`, which is known, can be used as `wanted`."""
    if wanted.kind is Kind.ANY:
        return True
    if given.kind is Kind.NIL:
        return wanted.kind in (Kind.ARRAY, Kind.MAP)
    return given.kind is wanted.kind


def is_comparable(one: Type, other: Type) -> bool:
    """Return whether `==` may compare values of the two types."""
    kinds = {one.kind, other.kind}
    if kinds & {Kind.ANY, Kind.NIL} or (one.is_number and other.is_number):
        return True
    return is_assignable(one, other)


def common(one: Type, other: Type) -> Type:
    """Return the type of a value that has one of two types, as the branches of a condition."""
    if Kind.NIL in (one.kind, other.kind):
        return other if one.kind is Kind.NIL else one
    if Kind.ANY in (one.kind, other.kind) or not is_assignable(one, other):
        return ANY
    if one.kind is Kind.ARRAY and one.element != other.element:
        return ARRAY
    return one


def type_of(value: object) -> Type:
    """Return the type of a value."""
    kinds: dict[type, Type] = {bool: BOOL, int: INT, float: FLOAT, str: STRING, dict: MAP}
    if value is None:
        return NIL
    return kinds.get(type(value), ARRAY)
