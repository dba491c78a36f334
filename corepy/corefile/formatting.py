r"""Formats a Corefile (`corepy fmt`).

The rules:

* four spaces for each open brace; a closing brace is indented as the line that opened it;
* one space between the words of a line and before a comment at its end;
* a server block's opening brace follows its keys, and only a comment may follow the brace;
* at most one blank line, but not at either end of the file or inside a brace; line ends are "\n".

Words, quotes, comments and imports are kept as written, and so is the line of each word, because
plugins parse their arguments by lines. Only a server block's opening brace may move to another
line, which no plugin sees. It does not move if the keys contain a variable, because the variable's
value is unknown here and may contain the brace. As in Caddy, line ends in a variable's value can
make words of other lines count as words of the same line.
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
    """Return a Corefile in its canonical form, with the same meaning.

    Raises `CorefileError` if it cannot be parsed. Imports are not followed, so that an imported
    file can be formatted on its own, unless it contains half a block.
    """
    if isinstance(content, bytes):
        refuse_other_content(filename, content)
        _refuse_bad_utf8(content)
    source = source_of(filename, content)
    outline(source)
    if source.open_quote:
        raise CorefileError(Diagnostic("the quote is never closed", source.open_quote))
    text = _Writer().write(source)
    if _token_texts(source) != _token_texts(source_of(filename, text)):
        message = "formatting would change the meaning of this file (a bug in corepy)"
        raise CorefileError(Diagnostic(f"{filename}: {message}; the file is not changed"))
    return text


def _refuse_bad_utf8(content: bytes) -> None:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise CorefileError(
            Diagnostic(f"line {line} is not UTF-8 (byte {error.start} of the file)")
        ) from None


def _token_texts(source: Source) -> list[tuple[str, bool]]:
    return [(token.text, token.quoted) for token in tokenize(source)]


class _Line:
    """The content of one line: words, and a comment after them."""

    def __init__(self) -> None:
        self.words: list[Word] = []
        self.comment = ""
        self.after_blank = False

    @property
    def opens(self) -> bool:
        """Whether the line ends in an opening brace."""
        return bool(self.words) and self.words[-1].token.text == "{"

    @property
    def closes(self) -> int:
        """The number of closing braces that the line begins with."""
        closing = 0
        while closing < len(self.words) and self.words[closing].token.text == "}":
            closing += 1
        return closing

    def cut(self, end: int) -> tuple[_Line, _Line | None]:
        """Split the line before word `end`; the second line is None if no words are left.

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


class _Section(Enum):
    """The part of a Corefile that the next line belongs to."""

    KEYS = "the keys of a server block, or an import"
    HEADER = "a block after its keys, before its brace"
    BLOCK = "a block in braces"
    BARE = "a block without braces, up to the end of the file"


class _Writer:
    """One pass over a text, line by line."""

    def __init__(self) -> None:
        self._written: list[str] = []
        self._before: _Line | None = None
        self._depth = 0
        self._section = _Section.KEYS
        self._takes_brace = False
        """Whether the block's opening brace may be appended to its keys, the last line written."""
        self._is_known = True
        """Whether the keys of the block contain no variables."""

    def write(self, source: Source) -> str:
        """Return the formatted text."""
        for line in _lines(source):
            self._line(line)
        text = "".join(f"{line}\n" for line in self._written)
        # Readers would treat a mark at the very beginning as the file's byte order mark.
        return BOM + text if text.startswith(BOM) else text

    def _line(self, line: _Line) -> None:
        if not line.words:
            self._takes_brace = False
            self._put(line)
        elif self._section is _Section.KEYS:
            self._keys(line)
        elif self._section is _Section.HEADER and line.words[0].token.text == "{":
            if self._is_known:
                self._open(line, 1)
            else:
                self._put(line)
                self._section = _Section.BLOCK
        else:
            if self._section is _Section.HEADER:
                self._section = _Section.BARE
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
            self._section = _Section.HEADER
            self._takes_brace = self._is_known and not line.comment

    def _open(self, line: _Line, end: int) -> None:
        """Write a line up to the opening brace of a server block, and the rest on a line below."""
        head, rest = line.cut(end)
        if self._takes_brace:
            self._written[-1] += f" {head}"
            self._depth += 1
            self._before = head
        else:
            self._put(head)
        self._section, self._takes_brace = _Section.BLOCK, False
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
        if self._section is _Section.KEYS and 0 < closes < len(line.words):
            self._section = (
                _Section.HEADER
            )  # more keys, after the closing brace of the previous block

    def _count(self, text: str) -> None:
        if text == "{":
            self._depth += 1
            if self._section is _Section.KEYS:
                self._section = _Section.BLOCK
        elif text == "}":
            is_last = self._depth <= (self._section is _Section.BLOCK)
            self._depth = max(0, self._depth - 1)
            if is_last:
                self._section = _Section.KEYS


def _lines(source: Source) -> Iterator[_Line]:
    """Yield the lines of a text that are not blank."""
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
