"""Formats figures of a server for a terminal: numbers, times, sizes, and text from elsewhere."""

from __future__ import annotations

from typing import Any, Final

_SIZES: Final = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def printable(text: object) -> str:
    """Return text without characters that a terminal would act on."""
    return "".join(it if it.isprintable() else f"\\x{ord(it):02x}" for it in str(text))


def number(value: float) -> str:
    """Return a count with separators, such as "12,345"."""
    return f"{value:,.0f}"


def size(value: float) -> str:
    """Return a number of bytes, such as "41.0 MiB"."""
    for unit, name in _SIZES:
        if value >= unit:
            return f"{value / unit:.1f} {name}"
    return f"{value:.0f} B"


def seconds(value: float | None) -> str:
    """Return a short time, such as "1.2 ms"; "-" for None."""
    if value is None:
        return "-"
    if value < 0.001:
        return f"{value * 1e6:.0f} us"
    return f"{value * 1e3:.1f} ms" if value < 1 else f"{value:.1f} s"


def span(value: float) -> str:
    """Return a long time in its two largest units, such as "3 d 4 h"."""
    left = int(value)
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    parts: list[str] = []
    for name, unit in units:
        count, left = divmod(left, unit)
        if count or parts or name == "s":
            parts.append(f"{count} {name}")
    return " ".join(parts[:2])


def share(part: float, whole: float) -> str:
    """Return a share in percent, such as "94.3 %"; "-" if the whole is 0."""
    return f"{100 * part / whole:.1f} %" if whole else "-"


def plural(count: int, word: str) -> str:
    """Return "1 connection" or "2 connections"."""
    return f"{number(count)} {word}" + ("" if count == 1 else "s")


def pairs(known: dict[str, Any]) -> str:
    """Return plain values as "key: value, ..."."""
    return ", ".join(
        f"{printable(key).replace('_', ' ')}: {_value(key, value)}"
        for key, value in known.items()
        if value is not None and not isinstance(value, dict | list)
    )


def _value(key: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return printable(value)
    if isinstance(value, int):
        return number(value)
    return f"{value:.3g}"
