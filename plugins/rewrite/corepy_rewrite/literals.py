"""The parts of a domain name that a regular expression requires, found without matching.

RE2 does the same for its FilteredRE2 (re2/prefilter.h), which its Python module lacks.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_TOKEN: Final = re.compile(
    r"""
    (?P<literal> [a-z0-9_-] | \\[.-] | \[\.\] )
    | (?P<open> \( (?: \?: | \?P?<\w+> )? )
    | (?P<close> \) )
    | (?P<either> \| )
    | (?P<repeated> \+\?? )
    | (?P<optional> (?: [*?] | \{\d+(?:,\d*)?\} ) \?? )
    | (?P<any> \[\^?+\]?+ (?: \\. | \[:\^?\w+:\] | [^]\\[] )* \]
        | \\[dDsSwWbBAz] | \\\W | [^]\\[(){}|*+?] )
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)
"""A token of the syntax that RE2 and this module have in common."""

_LONGEST_LABEL: Final = 63
_MOST: Final = 2


def required_literals(pattern: str) -> tuple[bytes, ...]:
    """Return parts that all lower-case wire names have that match: the two longest, if known."""
    runs = _Runs()
    at = 0
    while at < len(pattern):
        token = _TOKEN.match(pattern, at)
        if token is None or not runs.add(token.lastgroup or "", token[0]):
            return ()
        at = token.end()
    if not runs.end():
        return ()
    found = dict.fromkeys(literal for run in runs.found for literal in _literals(run))
    return tuple(sorted(found, key=len, reverse=True)[:_MOST])


class _Runs:
    """Collects the runs of literal characters that each match of a pattern contains."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self._run = ""
        self._last = ""  # the kind of the last token
        self._group = 0  # the number of runs before the last closed group
        self._open: list[int] = []  # the same for open groups
        self._alternatives: set[int] = set()  # depths of open groups with alternatives

    def end(self) -> bool:
        """End the pattern; return False if the required literals are not known."""
        self._end_run()
        return not self._open

    def _end_run(self) -> None:
        if self._run:
            self.found.append(self._run)
            self._run = ""

    def add(self, kind: str, text: str) -> bool:
        """Add a token; return False if the required literals are not known."""
        last, self._last = self._last, kind
        if kind == "literal":
            self._run += text.strip("\\[]")
            return True
        if kind == "optional":
            return self._remove(last)
        self._end_run()
        if kind == "open":
            self._open.append(len(self.found))
        elif kind == "close":
            return self._close()
        elif kind == "either":
            self._alternatives.add(len(self._open))
            return bool(self._open)
        return True

    def _remove(self, last: str) -> bool:
        """Remove the literal or group in front of an operator such as `?`."""
        if last == "literal":
            self._run = self._run[:-1]
        elif last == "close":
            del self.found[self._group :]
        self._end_run()
        return last in ("literal", "close", "any")

    def _close(self) -> bool:
        if not self._open:
            return False
        if len(self._open) in self._alternatives:
            self._alternatives.remove(len(self._open))
            del self.found[self._open[-1] :]
        self._group = self._open.pop()
        return True


def _literals(run: str) -> Iterator[bytes]:
    r"""Yield parts of wire names for a run of literals and dots.

    A digit or a dot at the start may be the end of an escape, as in `\001.` or `a\.b`. A dot behind
    another character separates labels; the length of the label behind it is known if the run has a
    dot behind that, too.
    """
    first, *others = run.lstrip("0123456789.").encode().split(b".")
    whole, last = others[:-1], others[-1:]
    if all(len(label) <= _LONGEST_LABEL for label in whole):
        first += b"".join(bytes((len(label),)) + label for label in whole)
    yield from filter(None, (first, *last))
