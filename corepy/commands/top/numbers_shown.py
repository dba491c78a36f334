"""Formats numbers for narrow columns: counts, rates, shares, times, sizes."""

from __future__ import annotations

from typing import Final

NOTHING: Final = "-"

_UNITS: Final = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_BINARY: Final = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def count(value: float | None) -> str:
    """Return a count in at most six columns, such as 1234, 12.3k, 4.5M."""
    if value is None:
        return NOTHING
    if abs(value) < 10_000:
        return f"{value:.0f}"
    size, unit = next(it for it in _UNITS if abs(value) >= it[0])
    return f"{value / size:.1f}{unit}"


def rate(value: float | None) -> str:
    """Return events a second; below ten with one digit after the point, below one with two."""
    if value is None:
        return NOTHING
    if 0 < value < 0.995:
        return f"{value:.2f}"
    return f"{value:.1f}" if 0 < value < 9.95 else count(value)


def percent(value: float | None) -> str:
    """Return a share of 0 to 1 in percent."""
    if value is None:
        return NOTHING
    return f"{value * 100:.1f}%" if value < 0.9995 else f"{value * 100:.0f}%"


def seconds(value: float | None) -> str:
    """Return a time of less than minutes, such as 85us, 1.2ms, 3.4s."""
    if value is None:
        return NOTHING
    if value < 0.0009995:
        return f"{value * 1e6:.0f}us"
    if value < 0.9995:
        return f"{value * 1e3:.1f}ms" if value < 0.09995 else f"{value * 1e3:.0f}ms"
    return f"{value:.1f}s"


def age(value: float | None) -> str:
    """Return a long time in its two largest units, such as 45s, 3m10s, 2d4h."""
    if value is None:
        return NOTHING
    total = int(value)
    steps = ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s"))
    for size, unit, below, unit_below in steps:
        if total >= size:
            rest = total % size // below
            return f"{total // size}{unit}{rest}{unit_below}" if rest else f"{total // size}{unit}"
    return f"{total}s"


def size(value: float | None) -> str:
    """Return a number of bytes, such as 512B, 3.4MiB."""
    if value is None:
        return NOTHING
    found = next((it for it in _BINARY if value >= it[0]), None)
    return f"{value:.0f}B" if found is None else f"{value / found[0]:.1f}{found[1]}"
