"""The methods of dates, durations and time zones (Go: those of time.Time, Duration, Location).

They are those whose result is one value that does not depend on the host.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from corepy.expr import expr_values as v
from corepy.expr.builtin import DURATIONS, TEXT, WHOLE, Builtin
from corepy.expr.date_layouts import format_date
from corepy.expr.frame import ExpressionError, Frame
from corepy.expr.time_operations import between, moved
from corepy.expr.time_values import (
    HOUR,
    MINUTE,
    ZERO_INSTANT,
    Date,
    DateFields,
    Duration,
    Month,
    Weekday,
    fields_of,
    instant_of,
)
from corepy.expr.time_zones import UTC
from corepy.expr.value_types import (
    BOOL,
    DATE,
    DURATION,
    FLOAT,
    INT,
    MONTH,
    STRING,
    TIMEZONE,
    WEEKDAY,
    Kind,
    Type,
)
from corepy.plugin.duration import SECOND

_DATES: Final = (Kind.DATE,)
_ZONES: Final = (Kind.TIMEZONE,)
_MILLISECOND: Final = SECOND // 1_000
_MICROSECOND: Final = SECOND // 1_000_000


def _argument(value: object, kind: Kind, name: str) -> Any:
    """Return an argument of this kind; raises ExpressionError."""
    if v.kind_of(value) is kind:
        return value
    raise ExpressionError(f"{name} needs a {kind.value}, not {v.kind_name(value)}")


def _field(name: str, type_: Type, get: Callable[[DateFields], Any]) -> Builtin:
    return Builtin(name, (_DATES,), type_, lambda frame, date: get(fields_of(date)))


def _unix(name: str, unit: int) -> Builtin:
    """Return a method for the time since 1970 in units of so many nanoseconds."""

    def call(frame: Frame, date: Date) -> int:
        return v.wrapped(date.instant // unit)

    return Builtin(name, (_DATES,), INT, call)


def _comparison(name: str, type_: Type, compare: Callable[[Date, Date], Any]) -> Builtin:
    def call(frame: Frame, date: Date, other: object) -> Any:
        return compare(date, _argument(other, Kind.DATE, name))

    return Builtin(name, (_DATES, _DATES), type_, call)


def _rounding(name: str, round_: Callable[[int, int], int]) -> Builtin:
    """Return a method that moves a date to a multiple of a duration since the year 1."""

    def call(frame: Frame, date: Date, unit: object) -> Date:
        size = _argument(unit, Kind.DURATION, name).nanoseconds
        if size <= 0:
            return date
        return Date(round_(date.instant - ZERO_INSTANT, size) + ZERO_INSTANT, date.zone)

    return Builtin(name, (_DATES, DURATIONS), DATE, call)


def _half_up(number: int, unit: int) -> int:
    return (2 * number + unit) // (2 * unit) * unit


def _format(frame: Frame, date: Date, layout: object) -> str:
    return format_date(frame, date, v.as_text(layout, "Format"))


def _text(frame: Frame, value: object) -> str:
    return v.to_text(value, frame)


def _in(frame: Frame, date: Date, zone: object) -> Date:
    return Date(date.instant, _argument(zone, Kind.TIMEZONE, "In"))


def _add(frame: Frame, date: Date, duration: object) -> Date:
    return moved(date, _argument(duration, Kind.DURATION, "Add"))


def _add_date(frame: Frame, date: Date, *numbers: object) -> Date:
    years, months, days = (v.as_int(number, "AddDate") for number in numbers)
    shown = fields_of(date)
    clock = ((shown.hour * 60 + shown.minute) * 60 + shown.second) * SECOND + shown.nanosecond
    instant = instant_of(
        shown.year + years, shown.month + months, shown.day + days, clock, date.zone
    )
    return Date(instant, date.zone)


DATE_METHODS: Final = (
    _field("Year", INT, lambda it: it.year),
    _field("Month", MONTH, lambda it: Month(it.month)),
    _field("Day", INT, lambda it: it.day),
    _field("Hour", INT, lambda it: it.hour),
    _field("Minute", INT, lambda it: it.minute),
    _field("Second", INT, lambda it: it.second),
    _field("Nanosecond", INT, lambda it: it.nanosecond),
    _field("Weekday", WEEKDAY, lambda it: Weekday(it.weekday)),
    _field("YearDay", INT, lambda it: it.year_day),
    _field("Zone", STRING, lambda it: it.abbreviation),
    _unix("Unix", SECOND),
    _unix("UnixMilli", _MILLISECOND),
    _unix("UnixMicro", _MICROSECOND),
    _unix("UnixNano", 1),
    _comparison("Before", BOOL, lambda one, other: one < other),
    _comparison("After", BOOL, lambda one, other: one > other),
    _comparison("Equal", BOOL, lambda one, other: one == other),
    _comparison("Compare", INT, lambda one, other: (one > other) - (one < other)),
    _comparison("Sub", DURATION, between),
    _rounding("Truncate", lambda number, unit: number // unit * unit),
    _rounding("Round", _half_up),
    Builtin("Add", (_DATES, DURATIONS), DATE, _add),
    Builtin("AddDate", (_DATES, WHOLE, WHOLE, WHOLE), DATE, _add_date),
    Builtin("Format", (_DATES, TEXT), STRING, _format),
    Builtin("String", (_DATES,), STRING, _text),
    Builtin("In", (_DATES, _ZONES), DATE, _in),
    Builtin("UTC", (_DATES,), DATE, lambda frame, date: Date(date.instant, UTC)),
    Builtin("Location", (_DATES,), TIMEZONE, lambda frame, date: date.zone),
    Builtin("IsZero", (_DATES,), BOOL, lambda frame, date: date.instant == ZERO_INSTANT),
)


def _fraction(name: str, unit: int) -> Builtin:
    """Return a method for a duration as a float; Go adds whole units and the rest as floats."""

    def call(frame: Frame, duration: Duration) -> float:
        whole, rest = _divided(duration.nanoseconds, unit)
        return float(whole) + rest / unit

    return Builtin(name, (DURATIONS,), FLOAT, call)


def _count(name: str, unit: int) -> Builtin:
    """Return a method for the number of whole units of a duration."""

    def call(frame: Frame, duration: Duration) -> int:
        return _divided(duration.nanoseconds, unit)[0]

    return Builtin(name, (DURATIONS,), INT, call)


def _divided(number: int, unit: int) -> tuple[int, int]:
    """Return the whole quotient, rounded towards zero, and the rest with the sign of `number`."""
    rest = v.remainder(number, unit)
    return (number - rest) // unit, rest


def _abs(frame: Frame, duration: Duration) -> Duration:
    return Duration(min(abs(duration.nanoseconds), v.LARGEST_INT))


def _truncate(frame: Frame, duration: Duration, unit: object) -> Duration:
    size = _argument(unit, Kind.DURATION, "Truncate").nanoseconds
    number = duration.nanoseconds
    return duration if size <= 0 else Duration(number - v.remainder(number, size))


def _round(frame: Frame, duration: Duration, unit: object) -> Duration:
    """Round halves away from zero; a result beyond 64 bits is the largest or smallest duration."""
    size = _argument(unit, Kind.DURATION, "Round").nanoseconds
    number = duration.nanoseconds
    if size <= 0:
        return duration
    rounded = _half_up(abs(number), size)
    return Duration(max(-rounded, v.SMALLEST_INT) if number < 0 else min(rounded, v.LARGEST_INT))


DURATION_METHODS: Final = (
    _fraction("Hours", HOUR),
    _fraction("Minutes", MINUTE),
    _fraction("Seconds", SECOND),
    _count("Milliseconds", _MILLISECOND),
    _count("Microseconds", _MICROSECOND),
    _count("Nanoseconds", 1),
    Builtin("Abs", (DURATIONS,), DURATION, _abs),
    Builtin("Round", (DURATIONS, DURATIONS), DURATION, _round),
    Builtin("Truncate", (DURATIONS, DURATIONS), DURATION, _truncate),
    Builtin("String", (DURATIONS,), STRING, _text),
)

_NAMED_KINDS: Final = (Kind.TIMEZONE, Kind.MONTH, Kind.WEEKDAY)


def _by_name() -> dict[str, dict[Kind, Builtin]]:
    found: dict[str, dict[Kind, Builtin]] = {}
    for method in (*DATE_METHODS, *DURATION_METHODS):
        (kind,) = method.parameters[0]
        found.setdefault(method.name, {})[kind] = method
    for kind in _NAMED_KINDS:
        found["String"][kind] = Builtin("String", ((kind,),), STRING, _text)
    return found


METHODS: Final = _by_name()
"""The methods by their name, and by the kind of the value that has them."""
