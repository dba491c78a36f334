"""Reading numbers, durations and sizes as Go's standard library does, so that the same are refused.

Every function returns None for text that is no such value; the caller knows what to call it.
"""

from __future__ import annotations

import re
from typing import Final

NANOSECONDS: Final = 1_000_000_000
"""In a second."""

_INTEGER: Final = re.compile(r"[+-]?[0-9]+", re.ASCII)
_DURATION: Final = re.compile(r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_PART: Final = re.compile(r"([0-9]*)(?:\.([0-9]*))?([^0-9.]+)", re.ASCII)
_SIZE: Final = re.compile(r"([0-9]+)([KMG]?)(i?)B?", re.ASCII | re.IGNORECASE)
_INT64: Final = 1 << 63
_UNITS: Final = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,  # micro sign
    "μs": 1_000,  # Greek letter mu; Go takes both
    "ms": 1_000_000,
    "s": NANOSECONDS,
    "m": 60 * NANOSECONDS,
    "h": 3600 * NANOSECONDS,
}
_LONGEST: Final = 64
_POWERS: Final = {"": 0, "k": 1, "m": 2, "g": 3}


def integer(text: str) -> int | None:
    """Return what Go's strconv.Atoi returns on a 64-bit machine."""
    if len(text) > _LONGEST or not _INTEGER.fullmatch(text):
        return None
    value = int(text)
    return value if -_INT64 <= value < _INT64 else None


def duration(text: str) -> int | None:
    """Return the nanoseconds that Go's time.ParseDuration reads, such as in "1h20m" or "0"."""
    unsigned = text[1:] if text[:1] in ("+", "-") else text
    if unsigned == "0":
        return 0
    if not unsigned or len(unsigned) > _LONGEST:
        return None
    total = at = 0
    while at < len(unsigned):
        part = _DURATION.match(unsigned, at)
        if part is None:
            return None
        total += _nanoseconds(part[0])
        at = part.end()
    if total >= _INT64:
        return None
    return -total if text[0] == "-" else total


def _nanoseconds(part: str) -> int:
    match = _PART.fullmatch(part)
    assert match is not None  # _DURATION is narrower
    whole, fraction, unit = match[1], match[2] or "", match[3]
    scale = _UNITS[unit]
    return int(whole or "0") * scale + int(fraction or "0") * scale // int(10 ** len(fraction))


def size(text: str) -> int | None:
    """Return the bytes in "65536", "64M", "64MB" (powers of 1000) or "64MiB" (of 1024)."""
    match = _SIZE.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None or (match[3] and not match[2]):
        return None
    base = 1024 if match[3] else 1000
    return int(match[1]) * int(base ** _POWERS[match[2].lower()])
