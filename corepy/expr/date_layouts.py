"""Layouts of dates, such as `2006-01-02 15:04`, and texts in them (Go: time/format.go).

A layout shows how its author would write one moment: Monday, January 2, 2006, 15:04:05 MST, seven
hours west of UTC. Everything else in it is itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from corepy.expr.frame import MOST_TEXT, Frame
from corepy.expr.time_values import Date, DateFields, Month, Weekday, fields_of

RFC3339: Final = "2006-01-02T15:04:05Z07:00"
RFC3339_WITH_FRACTION: Final = "2006-01-02T15:04:05.999999999Z07:00"
_OF_TEXT: Final = "2006-01-02 15:04:05.999999999 -0700 MST"

_ELEMENT: Final = re.compile(
    r"January|Jan(?![a-z])|Monday|Mon(?![a-z])|MST|0[1-6]|002|15|1|2006|2|_2(?!006)|__2|3|4|5|PM|pm"
    r"|[Z-]07(?:0000|:00:00|00|:00)?|[.,](?:0++|9++)(?![0-9])"
)
_LONGEST_KEPT: Final = 64
"""Characters of a layout whose elements are kept: longer ones may come from queries."""

_DIGITS_OF_A_FRACTION: Final = 9


class Element(NamedTuple):
    """An element of a layout with the text before it."""

    before: str
    name: str
    """Its text; ".0" for the decimals `.000` that are all written, ".9" for `.999`, "" at the end.
    """

    text: str

    @property
    def digits(self) -> int:
        """The number of decimals of a fraction."""
        return len(self.text) - 1


def elements_of(frame: Frame, layout: str) -> Sequence[Element]:
    """Return the elements of a layout, the last one without a name; raises ExpressionError.

    They count as steps, before they are made: a long layout may come from a query.
    """
    frame.take(len(layout))
    if len(layout) > _LONGEST_KEPT:
        frame.step(len(layout))
        return _split(layout)
    elements = _kept(layout)
    frame.step(len(elements))
    return elements


def _split(layout: str) -> Sequence[Element]:
    found, at = [], 0
    for match in _ELEMENT.finditer(layout):
        text = match[0]
        name = f".{text[1]}" if text[0] in ".," else text
        found.append(Element(layout[at : match.start()], name, text))
        at = match.end()
    return (*found, Element(layout[at:], "", ""))


_kept: Final = lru_cache(maxsize=128)(_split)


def format_date(frame: Frame, date: Date, layout: str) -> str:
    """Return a date as text; raises ExpressionError if it is too long."""
    pieces: list[str] = []
    length = 0
    for piece in _pieces(fields_of(date), elements_of(frame, layout)):
        length += len(piece)
        if length > MOST_TEXT:
            break
        pieces.append(piece)
    frame.text_of(length)
    return "".join(pieces)


def date_text(date: Date, layout: str = _OF_TEXT) -> str:
    """Return a date in a short layout, by default as Go prints it."""
    return "".join(_pieces(fields_of(date), _kept(layout)))


def _pieces(fields: DateFields, elements: Sequence[Element]) -> Iterator[str]:
    for element in elements:
        yield element.before
        write = _WRITERS.get(element.name)
        if write is not None:
            yield write(fields)
        elif element.name.startswith("."):
            yield _fraction(fields.nanosecond, element)
        elif element.name:
            yield _offset(fields.offset, element.name)


def _fraction(nanosecond: int, element: Element) -> str:
    digits = f"{nanosecond:0{_DIGITS_OF_A_FRACTION}}"[: element.digits]
    if element.name == ".9":
        digits = digits.rstrip("0") if nanosecond else ""
        return element.text[0] + digits if digits else ""
    return element.text[0] + digits


def _offset(offset: int, name: str) -> str:
    """Return the text of an offset for an element such as `-0700` or `Z07:00:00`."""
    if name.startswith("Z") and not offset:
        return "Z"
    minutes, second = divmod(abs(offset), 60)
    hour, minute = divmod(minutes, 60)
    mark = ":" if ":" in name else ""
    parts = (f"{hour:02}", f"{minute:02}", f"{second:02}")
    return ("-" if offset < 0 else "+") + mark.join(parts[: len(name.replace(":", "")) // 2])


def _abbreviation(fields: DateFields) -> str:
    return fields.abbreviation or _offset(fields.offset, "-0700")


def _year(year: int) -> str:
    return f"{'-' if year < 0 else ''}{abs(year):04}"


def _of_half_day(hour: int) -> int:
    return (hour - 1) % 12 + 1


_WRITERS: Final[dict[str, Callable[[DateFields], str]]] = {
    "January": lambda it: str(Month(it.month)),
    "Jan": lambda it: str(Month(it.month))[:3],
    "1": lambda it: str(it.month),
    "01": lambda it: f"{it.month:02}",
    "Monday": lambda it: str(Weekday(it.weekday)),
    "Mon": lambda it: str(Weekday(it.weekday))[:3],
    "2": lambda it: str(it.day),
    "_2": lambda it: f"{it.day:2}",
    "02": lambda it: f"{it.day:02}",
    "__2": lambda it: f"{it.year_day:3}",
    "002": lambda it: f"{it.year_day:03}",
    "15": lambda it: f"{it.hour:02}",
    "3": lambda it: str(_of_half_day(it.hour)),
    "03": lambda it: f"{_of_half_day(it.hour):02}",
    "4": lambda it: str(it.minute),
    "04": lambda it: f"{it.minute:02}",
    "5": lambda it: str(it.second),
    "05": lambda it: f"{it.second:02}",
    "2006": lambda it: _year(it.year),
    "06": lambda it: f"{abs(it.year) % 100:02}",
    "PM": lambda it: "PM" if it.hour >= 12 else "AM",
    "pm": lambda it: "pm" if it.hour >= 12 else "am",
    "MST": _abbreviation,
}
"""The functions that write an element, except decimals and numeric offsets."""
