"""The texts that the elements of a layout of dates take (Go: time/format.go)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from corepy.expr.time_values import Month, Weekday

SPACES_OR_TEXT: Final = re.compile(r" ++|[^ ]++")
SPACES: Final = re.compile(r" *+")
DECIMALS: Final = re.compile(r"[.,]([0-9]++)")
_ONE_OR_TWO: Final = re.compile(r"([0-9]{1,2}+)")
_TWO: Final = re.compile(r"([0-9]{2})")
ABBREVIATION: Final = re.compile(
    r"ChST|MeST|GMT(?:[+-](?:2[0-3]|[01]?[0-9])(?![0-9]))?|[+-](?:2[0-3]|[01]?[0-9])(?![0-9])"
    r"|(?:WITA|[A-Z]{4}T|[A-Z]{3}T|[A-Z]{3})(?![A-Z])"
)
"""The abbreviations that Go takes for time zones; GMT and a sign may have hours after them."""

NUMBERS: Final = {
    "2006": ("year", re.compile(r"([0-9]{4})"), 0, 9999),
    "1": ("month", _ONE_OR_TWO, 1, 12),
    "01": ("month", _TWO, 1, 12),
    "2": ("day", _ONE_OR_TWO, 1, 31),
    "_2": ("day", re.compile(r" ?+([0-9]{1,2}+)"), 1, 31),
    "02": ("day", _TWO, 1, 31),
    "__2": ("year day", re.compile(r" {0,2}+([0-9]{1,3}+)"), 1, 366),
    "002": ("year day", re.compile(r"([0-9]{3})"), 1, 366),
    "15": ("hour", _ONE_OR_TWO, 0, 23),
    "3": ("hour", _ONE_OR_TWO, 0, 12),
    "03": ("hour", _TWO, 0, 12),
    "4": ("minute", _ONE_OR_TWO, 0, 59),
    "04": ("minute", _TWO, 0, 59),
    "5": ("second", _ONE_OR_TWO, 0, 59),
    "05": ("second", _TWO, 0, 59),
}
"""The elements that are numbers: the field, its digits, and its limits."""

YEAR_OF_CENTURY: Final = re.compile(r"([+-][0-9]|[0-9]{2})")
"""The element `06`."""

LARGEST_OFFSET: Final = (24, 60, 60)
"""The hours, minutes and seconds that Go accepts in an offset."""

OFFSETS: Final = {
    sign + form: re.compile(
        r"([+-])" + form.replace("07", "([0-9]{2})").replace("00", "([0-9]{2})")
    )
    for sign in "Z-"
    for form in ("07", "0700", "07:00", "070000", "07:00:00")
}
"""The elements that are numeric offsets: groups for the sign, hours, minutes and seconds."""


def _names(names: Iterable[object], letters: int | None = None) -> re.Pattern[str]:
    words = "|".join(str(name)[:letters] for name in names)
    return re.compile(f"({words})", re.ASCII | re.IGNORECASE)


_MONTHS: Final = tuple(map(Month, range(1, 13)))
_WEEKDAYS: Final = tuple(map(Weekday, range(7)))
WORDS: Final = {
    "January": _names(_MONTHS),
    "Jan": _names(_MONTHS, 3),
    "Monday": _names(_WEEKDAYS),
    "Mon": _names(_WEEKDAYS, 3),
    "PM": re.compile("([AP]M)"),
    "pm": re.compile("([ap]m)"),
}
"""The elements that are words."""

MONTH_NUMBERS: Final = {str(month)[:3].lower(): month.number for month in _MONTHS}
