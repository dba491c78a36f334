"""Parses integers as Go's strconv does, so that the same texts are refused.

Python's int() accepts more: white space, underscores, the digits of every script.
"""

from __future__ import annotations

_INT64 = 1 << 63


def parse_integer(text: str) -> int | None:
    """Return `text` as a signed 64-bit number, or None if it is invalid (Go: strconv.Atoi)."""
    digits = text[1:] if text[:1] in ("+", "-") else text
    magnitude = parse_unsigned(digits, _INT64)
    if magnitude is None:
        return None
    number = -magnitude if text[0] == "-" else magnitude
    return number if number < _INT64 else None


def parse_unsigned(text: str, most: int) -> int | None:
    """Return `text` as a number up to `most`, or None if it is invalid (Go: strconv.ParseUint).

    Only ASCII digits are valid.
    """
    if not (text.isascii() and text.isdigit()):
        return None
    digits = text.lstrip("0")
    if len(digits) > len(str(most)):  # int() itself refuses very long texts
        return None
    number = int(digits or "0")
    return number if number <= most else None
