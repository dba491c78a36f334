"""The interactive screen of `corepy top`: which view is shown, and what keys do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corepy.commands.top import overview
from corepy.commands.top.glyphs import Glyphs, safe
from corepy.commands.top.lists import LISTS, ListView
from corepy.commands.top.screen_table import Line, compose, sort_rows, table
from corepy.commands.top.top_exchange import NEXT, NOW
from corepy.commands.top.top_figures import Figures, figures

if TYPE_CHECKING:
    from corepy.commands.top.top_exchange import Polled

OVERVIEW: Final = "1"
WIDE: Final = 116
"""Columns from which the menu has the whole names."""
VIEWS: Final = {OVERVIEW: None, **{view.key: view for view in LISTS}}
KEYS: Final = (
    ("1 to 9, 0", "views: overview, clients, names, suffixes, NXDOMAIN, SERVFAIL, upstreams,"),
    ("", "caches, listeners, other plugins"),
    ("left, right", "the view before, the next view; also Tab"),
    ("s, S", "sort by the next column, by the column before"),
    ("r", "reverse the order"),
    ("up, down", "scroll; also Page Up, Page Down, Home, End"),
    ("p", "pause and continue"),
    ("n", "next server of this host"),
    ("+, -", "refresh more or less often"),
    ("space", "refresh now"),
    ("h, ?", "this help; any key leaves it"),
    ("q", "quit"),
)
INTERVALS: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)


class TopScreen:
    """The state of the screen, without a terminal: takes keys and documents, returns lines."""

    def __init__(self, glyphs: Glyphs, interval: float) -> None:
        self.interval = interval
        self.is_paused = False
        self.is_over = False
        self.view = OVERVIEW
        self._glyphs = glyphs
        self._shows_help = False
        self._first = 0
        self._page = 1
        self._sorted: dict[str, int | None] = {}
        self._reversed: dict[str, bool] = {}
        self._figures: Figures | None = None
        self._polled: Polled | None = None

    def take(self, polled: Polled) -> None:
        """Show a new document, unless the screen is paused."""
        if self.is_paused and self._polled is not None:
            return
        is_new = self._polled is None or polled.document is not self._polled.document
        self._polled = polled
        if polled.document is not None and is_new:
            self._figures = figures(polled.document, polled.before)

    def press(self, key: str) -> str:
        """React to a key; return what the server is to be asked for: NEXT, NOW or ""."""
        if self._shows_help:
            self._shows_help = False
            return ""
        if key in ("n", " "):
            return NEXT if key == "n" else NOW
        self._react(key)
        return ""

    def _react(self, key: str) -> None:
        if key in VIEWS:
            self._show(key)
        elif key in ("left", "right"):
            keys = list(VIEWS)
            step = 1 if key == "right" else -1
            self._show(keys[(keys.index(self.view) + step) % len(keys)])
        elif key in ("q", "Q"):
            self.is_over = True
        elif key in ("h", "?"):
            self._shows_help = True
        elif key == "p":
            self.is_paused = not self.is_paused
        elif key in ("+", "-"):
            self.interval = _next_interval(self.interval, longer=key == "-")
        else:
            self._press_in_list(key)

    def _show(self, view: str) -> None:
        self.view, self._first = view, 0

    def _press_in_list(self, key: str) -> None:
        view = VIEWS[self.view]
        steps = {
            "up": -1,
            "down": 1,
            "page up": -self._page,
            "page down": self._page,
            "home": -(10**6),
            "end": 10**6,
        }
        if key in steps:
            self._first = max(0, self._first + steps[key])
        elif view is not None and key in ("s", "S"):
            chosen = self._sorted.get(self.view)
            count = len(view.columns)
            start = (-1 if key == "s" else 0) if chosen is None else chosen
            self._sorted[self.view] = (start + (1 if key == "s" else -1)) % count
            self._reversed[self.view] = False
        elif view is not None and key == "r":
            self._reversed[self.view] = not self._reversed.get(self.view, False)

    def lines(self, width: int, height: int) -> list[str]:
        """Return the lines of the screen, at most `height` of at most `width` columns."""
        body = height - 2
        if self._shows_help:
            shown = _help()
        elif self._figures is None:
            shown = [[]]
        else:
            shown = self._content(self._figures, width, body)
        shown = [*shown[:body], *([[]] * (body - len(shown)))]
        lines = [*shown, self._status(), self._menu(width)]
        return [compose(self._glyphs, line, width) for line in lines[-height:]]

    def _content(self, found: Figures, width: int, body: int) -> list[Line]:
        head = [overview.header(found)]
        view = VIEWS[self.view]
        if view is not None:
            return [*head, *self._list(view, found, width, body - 1)]
        head += overview.summary(found)
        head += overview.graphs(found, self._glyphs, width)
        head += overview.states(found)
        return head + overview.sections(found, width, body - len(head))

    def _list(self, view: ListView, found: Figures, width: int, body: int) -> list[Line]:
        chosen = self._sorted.get(view.key)
        column = None if chosen is None else view.columns[chosen]
        is_reversed = self._reversed.get(view.key, False)
        rows = sort_rows(view.rows(found), column, is_reversed=is_reversed)
        note = view.note(found)
        self._page = max(1, body - 3 - bool(note))
        self._first = max(0, min(self._first, len(rows) - self._page))
        shown = rows[self._first : self._first + self._page]
        place = f"  {self._first + 1} to {self._first + len(shown)} of {len(rows)}" if rows else ""
        lines: list[Line] = [[], [("head", view.title), ("dim", place or "  none")]]
        if note:
            lines.append([("dim", note)])
        return lines + table(view.columns, shown, width, column)

    def _status(self) -> Line:
        """Return the line above the menu: why the figures are not the latest."""
        polled = self._polled
        if polled is not None and polled.problem:
            old = "; the figures are old" if polled.document is not None else ""
            return [("bad", f"{safe(polled.problem)}; trying again{old}")]
        if self.is_paused:
            return [("warn", "paused; p continues")]
        if polled is not None and len(polled.servers) > 1:
            others = ", ".join(map(str, polled.servers))
            return [("dim", f"{len(polled.servers)} servers: processes {others}; n shows the next")]
        return []

    def _menu(self, width: int) -> Line:
        is_wide = width >= WIDE
        names = ["overview" if is_wide else "over"]
        names += [view.name if is_wide else view.short for view in LISTS]
        line: Line = []
        for key, name in zip(VIEWS, names, strict=True):
            text = f"{key} {name}" if is_wide else f"{key}{name}"
            line += [("bar" if key == self.view else "dim", text), ("", " ")]
        return [*line, ("", "h help q quit")]


def _help() -> list[Line]:
    lines: list[Line] = [[("head", "Keys")], []]
    return lines + [[("head", f"  {keys:<14}"), ("", text)] for keys, text in KEYS]


def _next_interval(interval: float, *, longer: bool) -> float:
    if longer:
        return next((it for it in INTERVALS if it > interval), INTERVALS[-1])
    return next((it for it in reversed(INTERVALS) if it < interval), INTERVALS[0])
