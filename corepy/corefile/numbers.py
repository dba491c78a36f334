"""Whole numbers as Go's strconv reads them, so that the same texts are refused.

Python's int() takes more: spaces, underscores, the digits of every script.
"""

from __future__ import annotations

_INT64 = 1 << 63


def parse_integer(text: str) -> int | None:
    """Return the signed number that `text` is, None if it is none or needs more than 64 bits
    (Go: strconv.Atoi).
    """
    digits = text[1:] if text[:1] in ("+", "-") else text
    magnitude = parse_unsigned(digits, _INT64)
    if magnitude is None:
        return None
    number = -magnitude if text[0] == "-" else magnitude
    return number if number < _INT64 else None


def parse_unsigned(text: str, most: int) -> int | None:
    """Return the number that `text` is, None if it is more than `most` or not digits alone
    (Go: strconv.ParseUint).
    """
    if not (text.isascii() and text.isdigit()):
        return None
    digits = text.lstrip("0")
    if len(digits) > len(str(most)):  # int() refuses very long ones by itself
        return None
    number = int(digits or "0")
    return number if number <= most else None
