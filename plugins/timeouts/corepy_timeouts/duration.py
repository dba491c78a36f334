"""Durations as a Corefile writes them (Go: time.ParseDuration; CoreDNS: plugin/pkg/durations)."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

_NUMBER: Final = re.compile(r"[+-]?[0-9]+", re.ASCII)
_PART: Final = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_DURATION: Final = re.compile(rf"[+-]?(?:0|(?:{_PART.pattern})+)", re.ASCII)
_UNITS: Final = {
    "ns": Fraction(1, 10**9),
    "us": Fraction(1, 10**6),
    "µs": Fraction(1, 10**6),  # U+00B5, the micro sign
    "μs": Fraction(1, 10**6),
    "ms": Fraction(1, 1000),
    "s": Fraction(1),
    "m": Fraction(60),
    "h": Fraction(3600),
}
_LONGEST_TEXT: Final = 64


def parse(text: str) -> float:
    """Return seconds for a text such as 10, 10s or 1h30m; raises ValueError."""
    if len(text) <= _LONGEST_TEXT:
        if _NUMBER.fullmatch(text):
            return float(text)
        if _DURATION.fullmatch(text):
            parts = _PART.findall(text)
            seconds = sum((_fraction(number) * _UNITS[unit] for number, unit in parts), Fraction())
            return float(-seconds if text[0] == "-" else seconds)
    raise ValueError(f"failed to parse duration {text[:_LONGEST_TEXT]!r}")


def _fraction(number: str) -> Fraction:
    return Fraction(number.removesuffix("."))
