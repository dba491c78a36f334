r"""Splits text into words, for parsing into fields (RFC 1035 section 5.1).

Words are kept as written, with escapes, because the meaning of an escape depends on the field. A
plain word is a `str`; a word in quotes, or directly after one, is a `Word`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from corepy.dns.names import ROOT
from corepy.dns.presentation.record_error import RecordError

_SHOWN: Final = 60

LONGEST_ENTRY: Final = 1 << 20
"""Maximum characters of an entry, four times as many as the longest rdata has in escapes.

A regular expression holds the interpreter's lock while it matches a word.
"""

_SIMPLE_LINE: Final = re.compile(r"[!#-'*-:<-\[\]-~ \t\r]*+(?:\n|\Z)")
"""A line of printable ASCII without quotes, parentheses, comments and escapes: most lines."""

_TOKEN: Final = re.compile(
    r'(?P<quoted>"(?:[^"\\]|\\.)*+")|(?P<mark>[()\n])|(?P<skipped>;[^\n]*+|[ \t\r]++)'
    r'|(?P<plain>(?:[^ \t\r\n();"\\]|\\.)++)|(?P<bad>.)',
    re.DOTALL,
)
_DEPTHS: Final = {"(": 1, ")": -1, "\n": 0}


class Word(str):
    """A word in quotes, without them, or a plain word directly after such a word."""

    __slots__ = ("glued", "quoted")

    quoted: bool
    glued: bool
    """Whether the word follows the previous one without a space."""


class ZoneFileEntry(NamedTuple):
    """The words of one record or directive."""

    offset: int
    """Offset of its first line in the text."""

    indented: bool
    """Whether that line begins with a blank: the record then has the previous record's owner."""

    words: list[str]


def entries(text: str) -> Iterator[ZoneFileEntry]:
    """Yield the entries of a zone file; parentheses join lines. Raise RecordError."""
    at, end = 0, len(text)
    while at < end:
        start = at
        most = start + LONGEST_ENTRY
        match = _SIMPLE_LINE.match(text, at, most)
        if match is not None and match.end() < most:
            words = match[0].split()
            at = match.end()
        else:
            found, at = _split(text, at)
            words = [word for word, _ in found]
        if words:
            yield ZoneFileEntry(start, text[start] in " \t", words)


def offset_of(text: str, entry: ZoneFileEntry, word: int | None) -> int:
    """Return the offset of an entry's word in `text`, or the entry's end if it has no such word."""
    found, end = _split(text, entry.offset)
    return found[word][1] if word is not None and word < len(found) else end


def _split(text: str, start: int) -> tuple[list[tuple[str, int]], int]:
    """Return the words of the entry at `start`, with their offsets, and the next entry's offset."""
    words: list[tuple[str, int]] = []
    depth = 0
    before: str | None = None
    most = start + LONGEST_ENTRY
    for match in _TOKEN.finditer(text, start, most):
        if match.end() == most < len(text):
            break
        kind, piece, at = match.lastgroup, match[0], match.start()
        if kind == "plain":
            words.append((_word(piece, False, True) if before == "quoted" else piece, at))
        elif kind == "quoted":
            words.append((_word(piece[1:-1], True, before in ("plain", "quoted")), at))
        elif kind == "bad":
            raise RecordError(_misplaced(piece), offset=at)
        elif kind == "mark":
            depth += _DEPTHS[piece]
            if depth < 0:
                raise RecordError("has a surplus closing parenthesis", offset=at)
            if piece == "\n" and not depth:
                return words, match.end()
        before = kind
    if most < len(text):
        raise RecordError(f"is longer than {LONGEST_ENTRY} characters", offset=start)
    if depth:
        raise RecordError("has a parenthesis that is not closed", offset=len(text))
    return words, len(text)


def _word(text: str, quoted: bool, glued: bool) -> Word:
    word = Word(text)
    word.quoted, word.glued = quoted, glued
    return word


def _misplaced(piece: str) -> str:
    return "has a quote that is not closed" if piece == '"' else "ends in a lone backslash"


def shown(word: str) -> str:
    """Return a word in quotes for a message, shortened if it is long."""
    return repr(str(word) if len(word) <= _SHOWN else f"{word[:_SHOWN]}...")


class Words:
    """The words of one record, consumed one by one.

    `origin` is the wire name that completes relative names.
    """

    __slots__ = ("_words", "at", "origin")

    def __init__(self, words: list[str], origin: bytes = ROOT, at: int = 0) -> None:
        self._words = words
        self.origin = origin
        self.at = at

    def peek(self) -> str | None:
        """Return the next word without consuming it, or None at the end."""
        return self._words[self.at] if self.at < len(self._words) else None

    def earlier(self, number: int) -> str:
        """Return the word consumed `number` words ago."""
        return self._words[self.at - number]

    def any(self) -> str:
        """Return the next word; raise RecordError if there are no more."""
        if self.at >= len(self._words):
            raise RecordError("is missing", word=self.at)
        self.at += 1
        return self._words[self.at - 1]

    def string(self) -> str:
        """Return the next word, quoted or not, which must follow a space."""
        word = self.any()
        if type(word) is Word and word.glued:
            raise RecordError(f"has no space before it: {shown(word)}")
        return word

    def plain(self) -> str:
        """Return the next word, which must not be quoted."""
        word = self.any()
        if type(word) is Word:
            raise RecordError(f"must not be quoted: {shown(word)}")
        return word

    def rest(self) -> list[str]:
        """Return all remaining words, which must not be quoted."""
        words = []
        while self.at < len(self._words):
            words.append(self.plain())
        return words
