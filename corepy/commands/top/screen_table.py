"""Lines of styled text, and tables of them that fit into the width of the screen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from corepy.commands.top.glyphs import cut, cut_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from corepy.commands.top.glyphs import Glyphs

Line = list[tuple[str, str]]
"""Pieces of a line, each with its style ("" for none)."""

GAP: Final = 2


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table."""

    title: str
    show: Callable[[Any], str]
    """Returns the text of a row's cell."""
    key: Callable[[Any], Any]
    """Returns the value to sort by; None is last."""
    width: int = 0
    """Columns of the screen; 0 for the widest cell. The first column gets the rest."""
    style: Callable[[Any], str] = lambda _: ""
    ascends: bool = False
    """Whether the smallest value is first, as for names."""
    priority: int = 0
    """On a narrow screen, columns with higher numbers are left out first."""


def compose(glyphs: Glyphs, line: Line, width: int) -> str:
    """Return a line as text that is at most `width` columns wide."""
    parts, left = [], width
    for style, text in line:
        shown = text[: max(left, 0)]
        left -= len(shown)
        parts.append(glyphs.paint(style, shown))
    return "".join(parts)


def sort_rows(
    rows: Sequence[Any], column: Column | None, *, is_reversed: bool = False
) -> list[Any]:
    """Return the rows sorted by a column, stable, those without a value last."""
    if column is None:
        return list(reversed(rows)) if is_reversed else list(rows)
    known = [row for row in rows if column.key(row) is not None]
    unknown = [row for row in rows if column.key(row) is None]
    known.sort(key=column.key, reverse=not column.ascends)
    return [*(reversed(known) if is_reversed else known), *unknown]


def table(
    columns: Sequence[Column],
    rows: Sequence[Any],
    width: int,
    sorted_by: Column | None = None,
) -> list[Line]:
    """Return the head and the rows; the column that the rows are sorted by is marked."""
    cells = {column: [column.show(row) for row in rows] for column in columns}
    widths = {
        column: column.width or max([len(column.title), *map(len, cells[column])])
        for column in columns
    }
    shown = _fitting(columns, widths, width)
    first = shown[0]
    others = sum(widths[it] + GAP for it in shown[1:])
    widths[first] = max(len(first.title), min(widths[first], width - others))
    lines = [_head(shown, widths, sorted_by)]
    for place, row in enumerate(rows):
        lines.append([_cell(it, cells[it][place], widths[it], row, it is first) for it in shown])
    return lines


def _fitting(columns: Sequence[Column], widths: dict[Column, int], width: int) -> Sequence[Column]:
    """Return the columns without those of low priority that do not fit."""
    shown = list(columns)
    while len(shown) > 1:
        first = min(widths[shown[0]], max(24, len(shown[0].title)))
        if first + sum(widths[it] + GAP for it in shown[1:]) <= width:
            break
        worst = max(shown[1:], key=lambda it: it.priority)
        shown.remove(worst)
    return shown


def _head(columns: Sequence[Column], widths: dict[Column, int], sorted_by: Column | None) -> Line:
    line: Line = []
    for place, column in enumerate(columns):
        text = _aligned(column.title, widths[column], is_first=place == 0)
        line.append(("bar" if column is sorted_by else "head", text))
    return line


def _cell(column: Column, text: str, width: int, row: Any, is_first: bool) -> tuple[str, str]:
    shown = cut_name(text, width) if is_first else cut(text, width)
    return column.style(row), _aligned(shown, width, is_first=is_first)


def _aligned(text: str, width: int, *, is_first: bool) -> str:
    return f"{text:<{width}}" if is_first else f"{'':{GAP}}{text:>{width}}"
