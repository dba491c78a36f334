"""The functions of the language for dates, durations and time zones (expr-lang: builtin.go).

`now` is missing: its value would depend on the time of the query.
"""

from __future__ import annotations

from typing import Final

from corepy.expr import expr_values as v
from corepy.expr.builtin import TEXT, Builtin
from corepy.expr.date_reader import read_date, read_usual_date
from corepy.expr.frame import ExpressionError, Frame
from corepy.expr.time_values import Date, Duration
from corepy.expr.time_zones import UTC, Zone, load_zone
from corepy.expr.value_types import DATE, DURATION, TIMEZONE
from corepy.plugin.duration import parse_nanoseconds

_STEPS_OF_A_ZONE: Final = 200
"""Steps that a time zone counts as, which may be read from a file; an unknown one ends it all."""

_LONGEST_MESSAGE: Final = 120
_USUAL_LAYOUTS: Final = object()


def _date(frame: Frame, value: object, layout: object = _USUAL_LAYOUTS, *zones: object) -> Date:
    text = v.as_text(value, "date")
    if layout is _USUAL_LAYOUTS:
        return read_usual_date(frame, text)
    zone = _timezone(frame, *zones) if zones else UTC
    return read_date(frame, text, v.as_text(layout, "date"), zone)


def _duration(frame: Frame, value: object) -> Duration:
    text = v.as_text(value, "duration")
    frame.step(len(text))
    try:
        return Duration(parse_nanoseconds(text))
    except ValueError as error:
        raise ExpressionError(str(error)[:_LONGEST_MESSAGE]) from None


def _timezone(frame: Frame, value: object) -> Zone:
    name = v.as_text(value, "a time zone")
    frame.step(_STEPS_OF_A_ZONE)
    return load_zone(name)


def _check_zone(value: object) -> None:
    if type(value) is str:
        load_zone(value)


TIME_FUNCTIONS: Final = (
    Builtin(
        "date", (TEXT, TEXT, TEXT), DATE, _date, optional=2, is_folded=True, checks={2: _check_zone}
    ),
    Builtin("duration", (TEXT,), DURATION, _duration, is_folded=True),
    Builtin("timezone", (TEXT,), TIMEZONE, _timezone, is_folded=True),
)
