r"""How a Corefile is to look (`corepy fmt`).

The rules, few enough to be remembered:

* four spaces for each brace that is open; a closing brace stands under the line that opened it;
* one space between the words of a line and in front of a comment at its end;
* a server block's opening brace stands behind its keys, and nothing but a comment behind the brace;
* one blank line at most, none at either end of the file or inside a brace; line ends are "\n".

Words, quotes, comments and imports are written as they were, and so is which words share a line:
plugins read their arguments by lines. Only a server block's opening brace may change its line,
which no plugin sees; it does not where a variable stands among the keys, since what that brings is
not known here: it may be the brace. One whose value has line ends in it may make words of other
lines seem to share one, as in Caddy.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING

from corepy.corefile.diagnostics import CorefileError, Diagnostic
from corepy.corefile.encoding import refuse_other_content
from corepy.corefile.lexer import BOM, source_of, tokenize, words_of
from corepy.corefile.parser import outline

if TYPE_CHECKING:
    from collections.abc import Iterator

    from corepy.corefile.lexer import Word
    from corepy.corefile.model import Source

INDENT = "    "
_VARIABLES = ("{$", "{%")
_IN_GAP = re.compile(r"#[^\n]*|\n")


def format_text(content: str | bytes, filename: str = "Corefile") -> str:
    """Return a Corefile in its canonical form, meaning the same.

    Raises `CorefileError` for one that cannot be parsed. Imports are not followed, so that a file
    made to be imported can be formatted as well, unless it holds half a block.
    """
    if isinstance(content, bytes):
        refuse_other_content(filename, content)
        _refuse_bad_utf8(content)
    source = source_of(filename, content)
    outline(source)
    if source.open_quote:
        raise CorefileError(Diagnostic("the quote is never closed", source.open_quote))
    text = _Writer().write(source)
    if _sayings(source) != _sayings(source_of(filename, text)):
        message = "formatting would change what this file says (a mistake of corepy's)"
        raise CorefileError(Diagnostic(f"{filename}: {message}; it is left as it is"))
    return text


def _refuse_bad_utf8(content: bytes) -> None:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise CorefileError(Diagnostic(f"line {line} is not UTF-8, byte {error.start}")) from None


def _sayings(source: Source) -> list[tuple[str, bool]]:
    return [(token.text, token.quoted) for token in tokenize(source)]


class _Line:
    """What stands on one line of the text: words, and a comment behind them."""

    def __init__(self) -> None:
        self.words: list[Word] = []
        self.comment = ""
        self.after_blank = False

    @property
    def opens(self) -> bool:
        """Whether it ends in an opening brace."""
        return bool(self.words) and self.words[-1].token.text == "{"

    @property
    def closes(self) -> int:
        """How many closing braces it begins with."""
        closing = 0
        while closing < len(self.words) and self.words[closing].token.text == "}":
            closing += 1
        return closing

    def cut(self, end: int) -> tuple[_Line, _Line | None]:
        """Return the line up to its word `end`, and what is left if there are words left.

        The comment stays with the last word.
        """
        head, rest = _Line(), _Line()
        head.words, rest.words = self.words[:end], self.words[end:]
        head.after_blank = self.after_blank
        (rest if rest.words else head).comment = self.comment
        return head, rest if rest.words else None

    def __str__(self) -> str:
        words = [
            word.raw if word.token.quoted else word.raw.replace("\r", "") for word in self.words
        ]
        return " ".join([*words, self.comment] if self.comment else words)


class _Place(Enum):
    """What the next line belongs to."""

    KEYS = "the keys of a server block, or an import"
    HEADER = "a block whose keys are known and whose brace is not"
    BLOCK = "a block in braces"
    BARE = "a block without braces, which goes on to the end of the file"


class _Writer:
    """One run over a text, line by line."""

    def __init__(self) -> None:
        self._written: list[str] = []
        self._before: _Line | None = None
        self._depth = 0
        self._place = _Place.KEYS
        self._takes_brace = False
        """Whether the brace of a block may be put behind its keys, which were written last."""
        self._is_known = True
        """Whether no variable stands among the keys of the block."""

    def write(self, source: Source) -> str:
        """Return the formatted text."""
        for line in _lines(source):
            self._line(line)
        text = "".join(f"{line}\n" for line in self._written)
        # A mark at the very beginning would be taken for the file's own.
        return BOM + text if text.startswith(BOM) else text

    def _line(self, line: _Line) -> None:
        if not line.words:
            self._takes_brace = False
            self._put(line)
        elif self._place is _Place.KEYS:
            self._keys(line)
        elif self._place is _Place.HEADER and line.words[0].token.text == "{":
            if self._is_known:
                self._open(line, 1)
            else:
                self._put(line)
                self._place = _Place.BLOCK
        else:
            if self._place is _Place.HEADER:
                self._place = _Place.BARE
            self._put(line)

    def _keys(self, line: _Line) -> None:
        texts = [word.token.text for word in line.words]
        end = texts.index("{") + 1 if "{" in texts else len(texts)
        self._is_known = not any(mark in text for text in texts[:end] for mark in _VARIABLES)
        if "{" in texts and self._is_known:
            self._takes_brace = False
            self._open(line, end)
            return
        self._put(line)
        if "{" not in texts and texts[0] != "import" and not texts[-1].endswith(","):
            self._place = _Place.HEADER
            self._takes_brace = self._is_known and not line.comment

    def _open(self, line: _Line, end: int) -> None:
        """Write a line up to the brace of a server block, and what stands behind it below."""
        head, rest = line.cut(end)
        if self._takes_brace:
            self._written[-1] += f" {head}"
            self._depth += 1
            self._before = head
        else:
            self._put(head)
        self._place, self._takes_brace = _Place.BLOCK, False
        if rest is not None:
            self._put(rest)

    def _put(self, line: _Line) -> None:
        before, closes = self._before, line.closes
        if line.after_blank and before is not None and not before.opens and not closes:
            self._written.append("")
        self._written.append(INDENT * max(0, self._depth - closes) + str(line))
        self._before = line
        for word in line.words:
            self._count(word.token.text)
        if self._place is _Place.KEYS and 0 < closes < len(line.words):
            self._place = _Place.HEADER  # more keys, behind the brace of the block before

    def _count(self, text: str) -> None:
        if text == "{":
            self._depth += 1
            if self._place is _Place.KEYS:
                self._place = _Place.BLOCK
        elif text == "}":
            is_last = self._depth <= (self._place is _Place.BLOCK)
            self._depth = max(0, self._depth - 1)
            if is_last:
                self._place = _Place.KEYS


def _lines(source: Source) -> Iterator[_Line]:
    """Yield the lines of a text that have something on them."""
    line, end, newlines = _Line(), 0, 0
    for word in (*words_of(source), None):
        start = len(source.text) if word is None else word.start
        for match in _IN_GAP.finditer(source.text, end, start):
            if match[0] != "\n":
                line.comment = match[0].rstrip()
                line.after_blank = line.after_blank or (not line.words and newlines > 1)
            elif line.words or line.comment:
                yield line
                line, newlines = _Line(), 1
            else:
                newlines += 1
        if word is not None:
            if not line.words:
                line.after_blank = newlines > 1
            line.words.append(word)
            end = word.start + len(word.raw)
    if line.words or line.comment:
        yield line
