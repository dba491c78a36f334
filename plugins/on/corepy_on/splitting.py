"""Splits a command line into words as Caddy does (caddy: commands.go; flynn/go-shlex: shlex.go).

The rules are those of a shell without expansions: a backslash quotes the next character, also
within double quotes; single quotes quote everything; `#` at the beginning of a word starts a
comment. Python's shlex differs in double quotes and in comments.
"""

from __future__ import annotations

import re
from typing import Final

_PIECE: Final = re.compile(
    r"""
    (?P<space>[ \t\r\n]+)
    | '(?P<single>[^']*)'
    | "(?P<double>(?:[^"\\]|\\.)*)"
    | \\(?P<escaped>.)
    | (?P<plain>[^ \t\r\n'"\\]+)
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)
_COMMENT: Final = re.compile(r"#[^\n]*")


def split_command(text: str) -> list[str]:
    """Return the words of a command line; raise ValueError for an open quote or escape."""
    words: list[str] = []
    at, in_word = 0, False
    while at < len(text):
        if not in_word and text[at] == "#":
            at = _end_of_comment(text, at)
            continue
        piece = _PIECE.match(text, at)
        if piece is None:
            what = "escapes nothing" if text[at] == "\\" else "is not closed"
            raise ValueError(f"{text[at]} {what}")
        at = piece.end()
        if piece["space"]:
            in_word = False
            continue
        if not in_word:
            words.append("")
        in_word = True
        words[-1] += _content(piece)
    return words


def _content(piece: re.Match[str]) -> str:
    """Return the characters that a piece adds to its word."""
    if piece["double"] is not None:
        return _ESCAPE.sub(r"\1", piece["double"])
    return piece["single"] or piece["escaped"] or piece["plain"] or ""


def _end_of_comment(text: str, at: int) -> int:
    comment = _COMMENT.match(text, at)
    return comment.end() if comment else at
