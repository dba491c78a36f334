"""The values of the language for times: dates, durations, months and days of the week (Go: time).

A date has nanoseconds and any year, which Python's own class does not have.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from corepy.expr.frame import ExpressionError
from corepy.expr.time_zones import DAY, Zone
from corepy.plugin.duration import SECOND, show_nanoseconds

MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
ZERO_INSTANT: Final = (datetime.date(1, 1, 1) - datetime.date(1970, 1, 1)).days * DAY * SECOND
"""The instant of Go's zero value, midnight UTC of January 1, 1."""

_MOST_YEARS: Final = 1_000_000_000
_YEARS_OF_A_CYCLE: Final = 400
_DAYS_OF_A_CYCLE: Final = 146_097
_CYCLE_START: Final = datetime.date(2000, 1, 1)
_EPOCH_IN_CYCLE: Final = (datetime.date(1970, 1, 1) - _CYCLE_START).days
_MONTHS: Final = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip
_WEEKDAYS: Final = (
    "Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Month:
    """A month: not an int, as in Go, but `int()` makes one of it."""

    number: int
    """From 1 to 12."""

    def __str__(self) -> str:
        return _MONTHS[self.number - 1]


@dataclass(frozen=True, slots=True)
class Weekday:
    """A day of the week."""

    number: int
    """From 0, Sunday, to 6."""

    def __str__(self) -> str:
        return _WEEKDAYS[self.number]


@dataclass(frozen=True, slots=True, order=True)
class Duration:
    """A time between two instants."""

    nanoseconds: int
    """64 bits, that is 292 years."""

    def __str__(self) -> str:
        return show_nanoseconds(self.nanoseconds)


@dataclass(frozen=True, slots=True, order=True)
class Date:
    """An instant, and the time zone in which it is shown."""

    instant: int
    """Nanoseconds since 1970-01-01 UTC."""

    zone: Zone = field(compare=False)


class DateFields(NamedTuple):
    """A date as calendars and clocks of its zone show it."""

    year: int
    month: int
    day: int
    weekday: int
    """From 0, Sunday, to 6."""

    year_day: int
    """From 1, January 1, to 366."""

    hour: int
    minute: int
    second: int
    nanosecond: int
    abbreviation: str
    """That of the zone, such as CEST; "" for an offset without a name."""

    offset: int
    """Seconds east of UTC."""


def fields_of(date: Date) -> DateFields:
    """Return the fields of a date."""
    unix, nanosecond = divmod(date.instant, SECOND)
    abbreviation, offset = date.zone.at(unix)
    days, second = divmod(unix + offset, DAY)
    cycles, days_in_cycle = divmod(days + _EPOCH_IN_CYCLE, _DAYS_OF_A_CYCLE)
    like = _CYCLE_START + datetime.timedelta(days_in_cycle)
    return DateFields(
        like.year + cycles * _YEARS_OF_A_CYCLE, like.month, like.day,
        like.isoweekday() % 7, like.timetuple().tm_yday,
        second // 3600, second // 60 % 60, second % 60, nanosecond, abbreviation, offset,
    )  # fmt: skip


def like_year(year: int, month: int, day: int) -> datetime.date:
    """Return a day of a year with the same calendar; raises ValueError if it does not exist."""
    return datetime.date(_CYCLE_START.year + year % _YEARS_OF_A_CYCLE, month, day)


def instant_of(year: int, month: int, day: int, clock: int, zone: Zone) -> int:
    """Return an instant; raises ExpressionError if it is out of range.

    `clock` has the nanoseconds since midnight. Months and days beyond the ends of a year or month
    count on in the next one, or the one before (Go: time.Date).
    """
    years, month_before = divmod(month - 1, 12)
    year += years
    if abs(year) > _MOST_YEARS or abs(day) > _MOST_YEARS:
        raise ExpressionError("the date is out of range")
    start = like_year(year, month_before + 1, 1) - _CYCLE_START
    cycles = year // _YEARS_OF_A_CYCLE - _CYCLE_START.year // _YEARS_OF_A_CYCLE
    days = start.days + cycles * _DAYS_OF_A_CYCLE - _EPOCH_IN_CYCLE + day - 1
    shown = days * DAY * SECOND + clock
    # As in Go: the offset at a time that the clocks skip or show twice is that of the first guess.
    _, guess = zone.at(shown // SECOND)
    _, offset = zone.at(shown // SECOND - guess)
    return shown - offset * SECOND
