"""All figures of one server as plain text: `corepy top -once`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from corepy.commands.top import overview
from corepy.commands.top.lists import LISTS
from corepy.commands.top.screen_table import compose, table
from corepy.commands.top.top_figures import figures

if TYPE_CHECKING:
    from corepy.commands.top.glyphs import Glyphs
    from corepy.commands.top.screen_table import Line


def report(document: dict[str, Any], glyphs: Glyphs, width: int) -> str:
    """Return the text, which ends with a newline; tables without rows are left out."""
    found = figures(document, None)
    lines: list[Line] = [overview.header(found), *overview.summary(found)]
    lines += [*overview.graphs(found, glyphs, width), *overview.states(found)]
    for view in LISTS:
        rows = view.rows(found)
        if rows:
            note = view.note(found)
            heading: list[Line] = [[("head", view.title)], *([[("", note)]] if note else [])]
            lines += [[], *heading, *table(view.columns, rows, width)]
    return "".join(f"{compose(glyphs, line, width).rstrip()}\n" for line in lines)
