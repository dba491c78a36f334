"""Logs the result of a load."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from corepy_blocklist.metrics import FAILURES

if TYPE_CHECKING:
    import logging

    from corepy_blocklist.table import Table

_MOST_KINDS: Final = 5
"""Kinds of unsupported lines that a message names."""


class Reporter:
    """Reports each fact about a file once, until it changes."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._reported: dict[str, tuple[str, str]] = {}

    def report(self, table: Table) -> None:
        """Report a table that is in use from now on."""
        self._log.info("loaded %d rules; files: %d", table.count, len(table.files))
        reported = {}
        for file in table.files:
            path = file["path"]
            messages = reported[path] = _problem(file), _unused(file)
            before = self._reported.get(path, ("", ""))
            for message, known in zip(messages, before, strict=True):
                if message and message != known:
                    self._log.warning("%s", message)
            if file["problem"]:
                FAILURES.labels(path).inc()
        self._reported = reported


def _problem(file: dict[str, Any]) -> str:
    if not file["problem"]:
        return ""
    rest = "its previous rules stay in use" if file["is_kept"] else "it has no rules in use"
    return f"{file['path']}: {file['problem']}; {rest}"


def _unused(file: dict[str, Any]) -> str:
    """Return a message about the lines of a file that have no effect, "" without any."""
    parts = []
    if file["unusable"]:
        parts.append(f"{file['unusable']} malformed ({file['first_unusable']})")
    kinds = sorted(file["unsupported"].items(), key=lambda item: -item[1][0])
    for kind, (number, line) in kinds[:_MOST_KINDS]:
        parts.append(f"{number} unsupported: {kind} (line {line})")
    if others := sum(number for _, (number, _) in kinds[_MOST_KINDS:]):
        parts.append(f"{others} unsupported of other kinds")
    return f"{file['path']}: lines without effect: {', '.join(parts)}" if parts else ""
