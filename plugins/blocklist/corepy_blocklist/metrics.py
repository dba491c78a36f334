"""The metrics of *blocklist*. Their number is bounded by that of the files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from corepy.plugin import metrics

if TYPE_CHECKING:
    from corepy_blocklist.table import Table

HITS = metrics.counter(
    "corepy_blocklist_hits_total",
    "Queries that a rule of blocklist applied to, by the file of the rule and its action.",
    ("server", "list", "action"),
)
FAILURES = metrics.counter(
    "corepy_blocklist_failed_loads_total",
    "Loads in which a file could not be used, so that its previous rules stayed.",
    ("list",),
)
RULES = metrics.gauge("corepy_blocklist_rules", "Rules of a file in use.", ("list",), merge="max")
UNUSED_LINES = metrics.gauge(
    "corepy_blocklist_unused_lines",
    "Lines of a file without effect, because they are malformed or not supported.",
    ("list",),
    merge="max",
)
LOADED = metrics.gauge(
    "corepy_blocklist_load_timestamp_seconds",
    "The time of the last load, in seconds since the epoch.",
    merge="max",
)


class ShownLists(Protocol):
    """The rules of a directive; see `lists.Lists`."""

    table: Table | None
    loaded: float


_shown: list[ShownLists] = []
"""The rules in use, the newest last: during a reload those of two generations."""


def show(lists: ShownLists) -> None:
    """Include the rules of a directive in the metrics."""
    _shown.append(lists)


def hide(lists: ShownLists) -> None:
    """Remove the rules of a directive from the metrics; has no effect if they are not there."""
    if lists in _shown:
        _shown.remove(lists)
        for file in lists.table.files if lists.table is not None else ():
            RULES.remove(file["path"])
            UNUSED_LINES.remove(file["path"])


@metrics.before_reading
def _update() -> None:
    for lists in _shown:
        for file in lists.table.files if lists.table is not None else ():
            unsupported = sum(number for number, _ in file["unsupported"].values())
            RULES.labels(file["path"]).value = file["rules"]
            UNUSED_LINES.labels(file["path"]).value = file["unusable"] + unsupported
    if _shown:
        LOADED.labels().value = max(lists.loaded for lists in _shown)
