"""Reads dates in the layouts of `date_layouts.py` (Go: time.Parse and time.ParseInLocation)."""

from __future__ import annotations

import itertools
import re
from datetime import timedelta
from typing import Final

from corepy.expr import date_patterns as p
from corepy.expr.date_layouts import RFC3339, Element, elements_of
from corepy.expr.frame import ExpressionError, Frame
from corepy.expr.time_values import Date, instant_of, like_year
from corepy.expr.time_zones import UTC, Zone
from corepy.plugin.duration import SECOND

DEFAULT_LAYOUTS: Final = (
    "2006-01-02",
    "15:04:05",
    "2006-01-02 15:04:05",
    RFC3339,
    "02 Jan 06 15:04 MST",
    "Monday, 02-Jan-06 15:04:05 MST",
    "Mon, 02 Jan 2006 15:04:05 MST",
)
"""The layouts of expr-lang for a date without one: tried in this order (builtin/builtin.go)."""

_MOST_DECIMALS: Final = 9
_SHOWN: Final = 64
"""Characters of a text or layout in a message."""

_LEAST_OF_1900: Final = 69
"""The first year of two digits that is in the century before 2000."""


def read_date(frame: Frame, text: str, layout: str, zone: Zone) -> Date:
    """Return the date that a text is in a layout; raises ExpressionError.

    `zone` is for texts without a zone, and for abbreviations.
    """
    try:
        return _read(frame, text, layout, zone)
    except _UnreadableError:
        raise ExpressionError(
            f"date: {text[:_SHOWN]!r} is not in the layout {layout[:_SHOWN]!r}"
        ) from None


def read_usual_date(frame: Frame, text: str) -> Date:
    """Return the date that a text is in one of the usual layouts; raises ExpressionError."""
    for layout in DEFAULT_LAYOUTS:
        try:
            return _read(frame, text, layout, UTC)
        except _UnreadableError:
            continue
    raise ExpressionError(f"date: {text[:_SHOWN]!r} is not a date, such as 2006-01-02")


def _read(frame: Frame, text: str, layout: str, zone: Zone) -> Date:
    frame.take(len(text))
    elements = elements_of(frame, layout)
    reader = _Reader(text, zone)
    for element, following in itertools.pairwise((*elements, elements[-1])):
        reader.read(element, has_decimals=following.name in (".0", ".9"))
    return reader.date()


class _UnreadableError(Exception):
    """The text is not in the layout."""


class _Reader:
    """Reads the elements of one text."""

    def __init__(self, text: str, zone: Zone) -> None:
        self._text = text
        self._zone = zone
        self._at = 0
        self._numbers: dict[str, int] = {}
        self._is_utc = False
        self._offset: int | None = None
        self._abbreviation = ""

    def read(self, element: Element, *, has_decimals: bool) -> None:
        """Read an element and the text before it; raises _UnreadableError.

        `has_decimals` is whether the next element of the layout is the decimals of a second.
        """
        self._skip(element.before)
        name = element.name
        if name in p.NUMBERS:
            self._read_number(name)
            if name in ("5", "05") and not has_decimals:
                self._read_decimals()
        elif name in p.WORDS:
            self._read_word(name)
        elif name in p.OFFSETS:
            self._read_offset(name)
        elif name == "06":
            year = int(self._take(p.YEAR_OF_CENTURY)[1])
            self._numbers["year"] = year + (1900 if year >= _LEAST_OF_1900 else 2000)
        elif name == "MST":
            self._read_abbreviation()
        elif name == ".9":
            self._read_decimals()
        elif name == ".0":
            self._read_all_decimals(element.digits)
        elif self._at < len(self._text):
            raise _UnreadableError

    def _take(self, pattern: re.Pattern[str]) -> re.Match[str]:
        match = pattern.match(self._text, self._at)
        if match is None:
            raise _UnreadableError
        self._at = match.end()
        return match

    def _skip(self, before: str) -> None:
        """Skip text that the layout has between elements; any number of spaces is one."""
        for part in p.SPACES_OR_TEXT.findall(before):
            if part.startswith(" "):
                if self._at < len(self._text) and self._text[self._at] != " ":
                    raise _UnreadableError
                self._take(p.SPACES)
            elif self._text.startswith(part, self._at):
                self._at += len(part)
            else:
                raise _UnreadableError

    def _read_number(self, name: str) -> None:
        field, pattern, least, most = p.NUMBERS[name]
        number = int(self._take(pattern)[1])
        if not least <= number <= most:
            raise _UnreadableError
        self._numbers[field] = number

    def _read_word(self, name: str) -> None:
        """Read the name of a month, which counts, of a weekday, which does not, or AM or PM."""
        word = self._take(p.WORDS[name])[1].lower()
        if name in ("January", "Jan"):
            self._numbers["month"] = p.MONTH_NUMBERS[word[:3]]
        elif name in ("PM", "pm"):
            self._numbers[word] = 1

    def _read_decimals(self) -> None:
        """Read any number of decimals, also none."""
        match = p.DECIMALS.match(self._text, self._at)
        if match is not None:
            self._at = match.end()
            self._note_decimals(match[1])

    def _read_all_decimals(self, digits: int) -> None:
        """Read a mark and as many characters as the layout has; only the first nine count."""
        part = self._text[self._at : self._at + 1 + digits]
        match = p.DECIMALS.fullmatch(part[: 1 + _MOST_DECIMALS])
        if match is None or len(part) <= digits:
            raise _UnreadableError
        self._at += len(part)
        self._note_decimals(match[1])

    def _note_decimals(self, digits: str) -> None:
        nanosecond = digits[:_MOST_DECIMALS].ljust(_MOST_DECIMALS, "0")
        self._numbers["nanosecond"] = int(nanosecond)

    def _read_offset(self, name: str) -> None:
        if name.startswith("Z") and self._text.startswith("Z", self._at):
            self._at += 1
            self._is_utc = True
            return
        sign, *digits = self._take(p.OFFSETS[name]).groups()
        parts = [int(each) for each in digits]
        if any(part > most for part, most in zip(parts, p.LARGEST_OFFSET, strict=False)):
            raise _UnreadableError
        hours, minutes, seconds = (*parts, 0, 0)[:3]
        size = (hours * 60 + minutes) * 60 + seconds
        self._offset = -size if sign == "-" else size

    def _read_abbreviation(self) -> None:
        if self._text.startswith("UTC", self._at):
            self._at += 3
            self._is_utc = True
        else:
            self._abbreviation = self._take(p.ABBREVIATION)[0]

    def date(self) -> Date:
        """Return the date; raises _UnreadableError if there is no such day."""
        clock = self._clock()
        year, month, day = self._day()
        if self._is_utc:
            return Date(instant_of(year, month, day, clock, UTC), UTC)
        shown = instant_of(year, month, day, clock, UTC)
        if self._offset is not None:
            return self._with_offset(shown, self._offset)
        if self._abbreviation:
            return self._with_abbreviation(shown)
        return Date(instant_of(year, month, day, clock, self._zone), self._zone)

    def _clock(self) -> int:
        """Return the nanoseconds since midnight."""
        numbers = self._numbers
        hour = numbers.get("hour", 0)
        if "pm" in numbers and hour < 12:
            hour += 12
        elif "am" in numbers and "pm" not in numbers and hour == 12:
            hour = 0
        second = (hour * 60 + numbers.get("minute", 0)) * 60 + numbers.get("second", 0)
        return second * SECOND + numbers.get("nanosecond", 0)

    def _day(self) -> tuple[int, int, int]:
        """Return year, month and day; a part that the layout does not have is 0 or 1."""
        numbers = self._numbers
        year, month, day = (numbers.get("year", 0), numbers.get("month"), numbers.get("day"))
        if "year day" in numbers:
            found = like_year(year, 1, 1) + timedelta(numbers["year day"] - 1)
            if month not in (None, found.month) or day not in (None, found.day):
                raise _UnreadableError
            month, day = found.month, found.day
            if found.year != like_year(year, 1, 1).year:
                raise _UnreadableError
        try:
            like_year(year, month or 1, day or 1)
        except ValueError:
            raise _UnreadableError from None
        return year, month or 1, day or 1

    def _with_offset(self, shown: int, offset: int) -> Date:
        """Return the date with an offset, in the zone if the zone has that offset then."""
        instant = shown - offset * SECOND
        name, current = self._zone.at(instant // SECOND)
        if current == offset and self._abbreviation in ("", name):
            return Date(instant, self._zone)
        return Date(instant, Zone(self._abbreviation, offset))

    def _with_abbreviation(self, shown: int) -> Date:
        """Return the date with an abbreviation; it is one of UTC if the zone does not have it.

        As in Go, the hours of GMT+5 change only the zone in which the date is shown.
        """
        name = self._abbreviation
        offset = self._zone.offset_named(name, shown // SECOND)
        if offset is not None:
            return Date(shown - offset * SECOND, self._zone)
        offset = int(name[3:]) * 3600 if name.startswith("GMT") and name != "GMT" else 0
        return Date(shown, Zone(name, offset))
