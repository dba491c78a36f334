"""Parses and formats durations as in Go (time.ParseDuration, Duration.String).

Go counts nanoseconds in 64-bit integers, which determines the texts it refuses and the digits it
truncates. Two functions therefore use nanoseconds; plugins use seconds, as usual in Python.
"""

from __future__ import annotations

import re
from typing import Final

SECOND: Final = 1_000_000_000
"""Nanoseconds."""

_UNITS: Final = {
    "ns": 1,
    "us": 1_000,
    "\u00b5s": 1_000,  # micro sign
    "\u03bcs": 1_000,  # Greek letter mu
    "ms": 1_000_000,
    "s": SECOND,
    "m": 60 * SECOND,
    "h": 3600 * SECOND,
}
_INT64: Final = 1 << 63
_INT64_DIGITS: Final = 19
_PART: Final = re.compile(r"(?=\.?[0-9])([0-9]*)\.?([0-9]*)([^0-9.]*)")


def parse_duration(text: str) -> float:
    """Return the seconds of a duration such as "1m30s", "1.5h" or "0"; it may be negative.

    A number other than 0 needs a unit. Raise ValueError with the reason.
    """
    return parse_nanoseconds(text) / SECOND


def parse_nanoseconds(text: str) -> int:
    """Return the nanoseconds of a duration; see `parse_duration`."""
    sign, unsigned = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    if unsigned == "0":
        return 0
    total = at = 0
    while total <= _INT64 and (match := _PART.match(unsigned, at)):
        whole, fraction, unit = match.groups()
        if unit not in _UNITS:
            known = f"unknown unit {unit!r}" if unit else "missing unit"
            raise ValueError(f"{known} in duration {text!r}")
        total += _whole(whole, _UNITS[unit]) + _fraction(fraction, _UNITS[unit])
        at = match.end()
    if not at or at < len(unsigned) or not -_INT64 <= sign * total < _INT64:
        raise ValueError(f"invalid duration {text!r}")
    return sign * total


def show_duration(seconds: float) -> str:
    """Return the text that Go prints for a number of seconds: "30s", "5m0s", "1h0m0s", "1.5ms"."""
    return show_nanoseconds(round(seconds * SECOND))


def show_nanoseconds(duration: int) -> str:
    """Return the text for nanoseconds; see `show_duration`."""
    sign, rest = ("-", -duration) if duration < 0 else ("", duration)
    if rest < SECOND:
        return sign + _show_part(rest)
    minutes, rest = divmod(rest, 60 * SECOND)
    seconds = _show(rest, "s")
    if not minutes:
        return sign + seconds
    hours, minutes = divmod(minutes, 60)
    return f"{sign}{hours}h{minutes}m{seconds}" if hours else f"{sign}{minutes}m{seconds}"


def _whole(digits: str, scale: int) -> int:
    digits = digits.lstrip("0")
    return int(digits or "0") * scale if len(digits) <= _INT64_DIGITS else _INT64 + 1


def _fraction(digits: str, scale: int) -> int:
    """Return the value of the decimals, in floating point as in Go, which affects the last digit.

    Only as many digits count as fit into 64 bits.
    """
    significant = digits.lstrip("0")
    zeros = len(digits) - len(significant)
    if zeros >= _INT64_DIGITS or not significant:
        return 0
    significant = significant[:_INT64_DIGITS]
    if int(significant) > _INT64:
        significant = significant[:-1]
    return int(int(significant) * (scale / 10 ** (zeros + len(significant))))


def _show_part(rest: int) -> str:
    """Format a duration below one second."""
    if not rest:
        return "0s"
    return _show(rest, "ns" if rest < 1_000 else "\u00b5s" if rest < 1_000_000 else "ms")


def _show(nanoseconds: int, unit: str) -> str:
    whole, rest = divmod(nanoseconds, _UNITS[unit])
    digits = len(str(_UNITS[unit])) - 1
    fraction = f".{rest:0{digits}}".rstrip("0") if rest else ""
    return f"{whole}{fraction}{unit}"
