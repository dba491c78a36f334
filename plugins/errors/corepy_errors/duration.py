"""Durations as Go writes and reads them, so that a Corefile means the same here (Go: time/time.go,
time/format.go). They are whole nanoseconds, as there.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

SECOND: Final = 1_000_000_000
_UNITS: Final = {
    "ns": 1,
    "us": 1_000,
    "\u00b5s": 1_000,
    "\u03bcs": 1_000,
    "ms": 1_000_000,
    "s": SECOND,
    "m": 60 * SECOND,
    "h": 3600 * SECOND,
}
_LONGEST: Final = (1 << 63) - 1
_PART: Final = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)([^0-9.]*)")


def parse(text: str) -> int:
    """Return nanoseconds for a text such as "1m30s" or "1.5h"; raises ValueError that says why."""
    sign, unsigned = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    if unsigned == "0":
        return 0
    total, at = 0, 0
    while match := _PART.match(unsigned, at):
        number, unit = match.groups()
        if unit not in _UNITS:
            known = "unknown unit " + repr(unit) if unit else "missing unit"
            raise ValueError(f"{known} in duration {text!r}")
        total += int(Decimal(number) * _UNITS[unit])
        at = match.end()
    if not at or at < len(unsigned) or total > _LONGEST:
        raise ValueError(f"invalid duration {text!r}")
    return sign * total


def show(duration: int) -> str:
    """Return the text for nanoseconds that Go prints: "30s", "5m0s", "1h0m0s", "1.5ms"."""
    sign, rest = ("-", -duration) if duration < 0 else ("", duration)
    if rest < SECOND:
        return sign + _show_fraction(rest)
    minutes, rest = divmod(rest, 60 * SECOND)
    seconds = f"{_plain(Decimal(rest) / SECOND)}s"
    if not minutes:
        return sign + seconds
    hours, minutes = divmod(minutes, 60)
    return f"{sign}{hours}h{minutes}m{seconds}" if hours else f"{sign}{minutes}m{seconds}"


def _show_fraction(rest: int) -> str:
    if not rest:
        return "0s"
    unit = "ns" if rest < 1_000 else "\u00b5s" if rest < 1_000_000 else "ms"
    return f"{_plain(Decimal(rest) / _UNITS[unit])}{unit}"


def _plain(number: Decimal) -> str:
    return format(number.normalize(), "f")
