"""Durations as a Corefile writes them: Go's time.ParseDuration."""

from __future__ import annotations

from fractions import Fraction

_UNITS = {
    "ns": Fraction(1, 10**9),
    "us": Fraction(1, 10**6),
    "µs": Fraction(1, 10**6),  # U+00B5, the micro sign
    "μs": Fraction(1, 10**6),
    "ms": Fraction(1, 1000),
    "s": Fraction(1),
    "m": Fraction(60),
    "h": Fraction(3600),
}
_LIMIT = Fraction(2**63 - 1, 10**9)
_DIGITS = frozenset("0123456789.")


def parse_duration(text: str) -> float:
    """Return the seconds that a text such as "1.5s", "-300ms" or "1h15m" means.

    A number needs a unit, save 0. Raises `ValueError` with Go's message.
    """
    negative, rest = text[:1] == "-", text[1:] if text[:1] in ("-", "+") else text
    if rest == "0":
        return 0.0
    if not rest:
        raise ValueError(f'time: invalid duration "{text}"')
    total = Fraction(0)
    while rest:
        number, rest = _span(rest, inside=True)
        if not number.strip(".") or number.count(".") > 1:
            raise ValueError(f'time: invalid duration "{text}"')
        unit, rest = _span(rest, inside=False)
        if not unit:
            raise ValueError(f'time: missing unit in duration "{text}"')
        if unit not in _UNITS:
            raise ValueError(f'time: unknown unit "{unit}" in duration "{text}"')
        total += Fraction(number.strip(".") if number.endswith(".") else number) * _UNITS[unit]
        if total > _LIMIT:
            raise ValueError(f'time: invalid duration "{text}"')
    return float(-total if negative else total)


def _span(text: str, *, inside: bool) -> tuple[str, str]:
    """Split where the characters of a number end, or (not `inside`) where they begin again."""
    end = 0
    while end < len(text) and (text[end] in _DIGITS) is inside:
        end += 1
    return text[:end], text[end:]
