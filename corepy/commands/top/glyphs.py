"""The characters and colors of the screen: graphs, bars, and text that is safe to show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_UNICODE: Final = " ▁▂▃▄▅▆▇█"
_ASCII: Final = " .:-=+*#@"

RESET: Final = "\x1b[0m"
_COLORS: Final = {
    "head": "\x1b[1m",
    "dim": "\x1b[2m",
    "good": "\x1b[32m",
    "warn": "\x1b[33m",
    "bad": "\x1b[31m",
    "graph": "\x1b[36m",
    "bar": "\x1b[7m",
}
_WITHOUT_COLORS: Final = {"head": "\x1b[1m", "dim": "", "bad": "\x1b[1m", "bar": "\x1b[7m"}
"""NO_COLOR forbids colors only; bold and reverse are allowed (no-color.org)."""


@dataclass(frozen=True, slots=True)
class Glyphs:
    """How the screen is drawn: with or without colors, control sequences and Unicode."""

    has_colors: bool = True
    is_plain: bool = False
    """Whether there are no control sequences at all, as for a file."""
    is_ascii: bool = False

    def paint(self, style: str, text: str) -> str:
        """Return `text` in a style, one of those in `_COLORS`."""
        if self.is_plain or not text:
            return text
        code = (_COLORS if self.has_colors else _WITHOUT_COLORS).get(style, "")
        return f"{code}{text}{RESET}" if code else text

    def graph(self, values: Sequence[float | None], width: int, top: float = 0.0) -> str:
        """Return the last `width` values as bars of eight levels, None as a gap.

        The highest bar is for `top`, or for the largest value if that is larger.
        """
        levels = _ASCII if self.is_ascii else _UNICODE
        shown = list(values[-width:]) if width > 0 else []
        most = max([top, *(it for it in shown if it is not None)], default=0.0)
        bars = (_bar(it, most, levels) for it in shown)
        return "".join(bars).rjust(max(width, 0))

    def share(self, part: float, width: int) -> str:
        """Return a bar of `width` columns of which the share `part`, 0 to 1, is filled."""
        filled = round(max(0.0, min(1.0, part)) * width)
        full, empty = ("#", ".") if self.is_ascii else ("█", "░")
        return full * filled + empty * (width - filled)


def _bar(value: float | None, most: float, levels: str) -> str:
    if value is None:
        return " "
    if value <= 0 or most <= 0:
        return levels[1]
    return levels[max(1, min(8, round(value / most * 8)))]


def safe(text: object) -> str:
    """Return a text from the network with its unusual characters as escapes.

    The result has only printable ASCII characters: control characters could move the cursor or
    change the title of the terminal, and characters of other scripts could reverse or imitate text.
    Names in presentation format (RFC 1035) pass unchanged.
    """
    shown = str(text)
    if shown.isascii() and shown.isprintable():
        return shown
    return "".join(it if " " <= it <= "~" else _escape(it) for it in shown)


def _escape(char: str) -> str:
    number = ord(char)
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def cut(text: str, width: int) -> str:
    """Return `text`, which has no control sequences, cut to `width` columns with a mark."""
    if len(text) <= width:
        return text
    return text[: width - 1] + "~" if width > 0 else ""


def cut_name(name: str, width: int) -> str:
    """Return a domain name cut in its middle: its first label and its end tell most."""
    if len(name) <= width:
        return name
    if width < 9:
        return cut(name, width)
    head = (width - 1) // 2
    return f"{name[:head]}~{name[-(width - 1 - head) :]}"
