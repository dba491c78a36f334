"""The operators on dates and durations, with Go's results (expr-lang: vm/runtime/helpers).

A sum of durations that exceeds 64 bits wraps around, as in Go; the duration between two dates is at
most the longest one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from corepy.expr.expr_values import LARGEST_INT, SMALLEST_INT, kind_of, wrapped
from corepy.expr.time_values import Date, Duration
from corepy.expr.value_types import DATE, DURATION, FLOAT, Kind, Type


def moved(date: Date, duration: Duration) -> Date:
    """Return the date after a duration.

    An expression has too few steps to make its nanoseconds a huge number. Go wraps around.
    """
    return Date(date.instant + duration.nanoseconds, date.zone)


def between(later: Date, earlier: Date) -> Duration:
    """Return the duration between two dates, or the longest one (Go: Time.Sub)."""
    nanoseconds = later.instant - earlier.instant
    return Duration(min(max(nanoseconds, SMALLEST_INT), LARGEST_INT))


def _moved_back(date: Date, duration: Duration) -> Date:
    return moved(date, Duration(wrapped(-duration.nanoseconds)))


def _sum(one: Duration, other: Duration) -> Duration:
    return Duration(wrapped(one.nanoseconds + other.nanoseconds))


def _difference(one: Duration, other: Duration) -> Duration:
    return Duration(wrapped(one.nanoseconds - other.nanoseconds))


def _product(one: Duration, other: Duration) -> Duration:
    return Duration(wrapped(one.nanoseconds * other.nanoseconds))


def _times(duration: Duration, factor: int) -> Duration:
    return Duration(wrapped(duration.nanoseconds * factor))


def _scaled(duration: Duration, factor: float) -> float:
    """Return nanoseconds: a float makes a float of a duration, as in expr-lang."""
    return duration.nanoseconds * factor


def _swapped(operation: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda one, other: operation(other, one)


_OPERATIONS: Final[dict[tuple[str, Kind, Kind], tuple[Type, Callable[[Any, Any], Any]]]] = {
    ("+", Kind.DATE, Kind.DURATION): (DATE, moved),
    ("+", Kind.DURATION, Kind.DATE): (DATE, _swapped(moved)),
    ("+", Kind.DURATION, Kind.DURATION): (DURATION, _sum),
    ("-", Kind.DATE, Kind.DATE): (DURATION, between),
    ("-", Kind.DATE, Kind.DURATION): (DATE, _moved_back),
    ("-", Kind.DURATION, Kind.DURATION): (DURATION, _difference),
    ("*", Kind.DURATION, Kind.DURATION): (DURATION, _product),
    ("*", Kind.DURATION, Kind.INT): (DURATION, _times),
    ("*", Kind.INT, Kind.DURATION): (DURATION, _swapped(_times)),
    ("*", Kind.DURATION, Kind.FLOAT): (FLOAT, _scaled),
    ("*", Kind.FLOAT, Kind.DURATION): (FLOAT, _swapped(_scaled)),
}
"""The type of the result, and the operation, for the kinds of the operands."""


def is_possible(operator: str, one: Type, other: Type) -> bool:
    """Return whether values of the types may be operands of which one is a date or a duration."""
    return any(
        name == operator and one.may_be(left) and other.may_be(right)
        for name, left, right in _OPERATIONS
    )


def result_of(operator: str, one: Type, other: Type) -> Type | None:
    """Return the type of the result, None if the types are not known to be such operands."""
    found = _OPERATIONS.get((operator, one.kind, other.kind))
    return None if found is None else found[0]


def operation_on(operator: str, one: object, other: object) -> Callable[[Any, Any], Any] | None:
    """Return the operation for two values, None if it does not exist."""
    found = _OPERATIONS.get((operator, kind_of(one), kind_of(other)))
    return None if found is None else found[1]
