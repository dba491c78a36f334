"""Splits text into tokens (Caddy: caddyfile/lexer.go); grammar.lark defines the tokens."""

from __future__ import annotations

import codecs
import functools
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from corepy.corefile.model import Source, Token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import lark

BOM = "\ufeff"

_SPACE = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
"""The white space of grammar.lark."""


def decode(data: bytes) -> str:
    """Return UTF-8 `data` as text, with one U+FFFD for each invalid byte, as in Go."""
    return data.decode("utf-8", "corepy-replace-each-byte")


def _replace_each_byte(error: UnicodeError) -> tuple[str, int]:
    """Replace byte by byte as Go does; Python's "replace" merges a truncated sequence into one."""
    assert isinstance(error, UnicodeDecodeError)
    return "\ufffd" * (error.end - error.start), error.end


codecs.register_error("corepy-replace-each-byte", _replace_each_byte)


def source_of(name: str, content: str | bytes) -> Source:
    """Return `content` as a source: decoded, without byte order mark and lone surrogates."""
    if isinstance(content, str) and not content.isascii():
        content = content.encode("utf-8", "surrogatepass")
    text = decode(content) if isinstance(content, bytes) else content
    return Source(name, text.removeprefix(BOM))


def tokenize(source: Source) -> Iterator[Token]:
    """Yield the tokens of `source`. Every text is accepted."""
    for word in words_of(source):
        yield word.token


class Word(NamedTuple):
    """A token and its position in the text."""

    token: Token
    raw: str
    """The token as written, with its quotes and with the comment that a "#" in it begins."""

    start: int
    """Offset in the source's text; `raw` ends at `start + len(raw)`."""


def words_of(source: Source) -> Iterator[Word]:
    """Yield the tokens of `source` as written; only white space and comments are between them."""
    for word in _words()(source.text):
        token = _TOKENS[word.type](word.value, source, word.line or 1, word.column or 1)
        if token is not None:
            yield Word(token, word.value.rstrip(_SPACE), word.start_pos or 0)


@functools.cache
def _words() -> Callable[[str], Iterator[lark.Token]]:
    """Return the lexer; lark is imported lazily, as the import takes longer than most Corefiles."""
    import lark

    grammar = Path(__file__).with_name("grammar.lark").read_text(encoding="utf-8")
    return lark.Lark(grammar, start="corefile", parser="lalr", lexer="basic").lex


def _word(value: str, source: Source, line: int, column: int) -> Token:
    if "#" in value:
        value = value[: value.index("#")]
    value = value.rstrip(_SPACE)
    text = value.replace("\r", "")
    return Token(text, text, source, line, column, len(value))


def _quoted(value: str, source: Source, line: int, column: int) -> Token:
    value = value.rstrip(_SPACE)
    text = value[1:-1].replace('\\"', '"')
    return Token(text, text, source, line, column, len(value), quoted=True)


def _unclosed(value: str, source: Source, line: int, column: int) -> Token | None:
    """End an unclosed quote at the end of the file; an empty one yields no token."""
    text = value[1:]
    if (len(text) - len(text.rstrip("\\"))) % 2:
        text = text[:-1]
    text = text.replace('\\"', '"')
    source.open_quote = Token(text, text, source, line, column, len(value), quoted=True)
    return source.open_quote if text else None


_TOKENS: dict[str, Callable[[str, Source, int, int], Token | None]] = {
    "WORD": _word,
    "QUOTED": _quoted,
    "UNCLOSED": _unclosed,
}
