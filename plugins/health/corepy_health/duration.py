"""Durations as a Corefile writes them (Go: time.ParseDuration)."""

from __future__ import annotations

import re
from typing import Final

_UNITS: Final = {
    "ns": 1e-9,
    "us": 1e-6,
    "\u00b5s": 1e-6,
    "\u03bcs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
}
_PART: Final = r"([0-9]+\.?[0-9]*|\.[0-9]+)([a-z\u00b5\u03bc]+)"
_ALL: Final = re.compile(rf"([-+]?)((?:{_PART})+|0)")
_LONGEST: Final = (1 << 63) / 1e9
"""Seconds that Go can hold."""


def parse_duration(text: str) -> float:
    """Return the seconds that a text such as "5s", "1.5m" or "1m30s" means; raises ValueError."""
    match = _ALL.fullmatch(text)
    if match is None:
        raise ValueError(f"invalid duration {text!r}")
    total = 0.0
    for number, unit in re.findall(_PART, match[2]):
        if unit not in _UNITS:
            raise ValueError(f"unknown unit {unit!r} in duration {text!r}")
        total += float(number) * _UNITS[unit]
    if total >= _LONGEST:
        raise ValueError(f"invalid duration {text!r}")
    return -total if match[1] == "-" else total
