"""Reads trust anchors in the statements of BIND's configuration.

These are `trust-anchors`, and its predecessors `managed-keys` and `trusted-keys`, as in BIND's file
bind.keys and in named.conf, whose other statements are skipped. BIND's reference manual describes
them in section 8.2.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from corepy.dns.constants import CLASS_IN, TYPE_DNSKEY, TYPE_DS
from corepy.dns.names import InvalidName, from_text
from corepy.dns.presentation import Record, RecordError, rdata_from_text
from corepy_forward.validation.anchor_records import AnchorError, checked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from corepy_forward.validation.anchor import Configured

_TOKEN: Final = re.compile(
    r'"(?P<quoted>[^"]*+)"|(?P<mark>[{};])|(?P<word>[^\s{};"]++)|(?P<skipped>\s++)|(?P<bad>.)',
    re.DOTALL,
)
_COMMENT: Final = re.compile(r'"[^"]*+"|/\*.*?(?:\*/|\Z)|//[^\n]*+|#[^\n]*+', re.DOTALL)
_KINDS: Final = {
    "static-key": TYPE_DNSKEY,
    "initial-key": TYPE_DNSKEY,
    "static-ds": TYPE_DS,
    "initial-ds": TYPE_DS,
}
_STATEMENTS: Final = {
    "trust-anchors": tuple(_KINDS),
    "managed-keys": ("initial-key", "static-key"),
    "trusted-keys": (),
}
"""The words that may follow the name in an entry; without any, an entry has a key."""


class _Token(NamedTuple):
    text: str
    line: int
    is_mark: bool = False


def read_statements(text: str) -> Iterator[Configured]:
    """Yield the anchors in the text of a configuration; raises `AnchorError`."""
    tokens = _tokens(text)
    for token in tokens:
        if not token.is_mark and token.text in _STATEMENTS:
            kinds = _STATEMENTS[token.text]
            for words in _entries(tokens, token):
                yield _anchor(words, kinds)
        elif not (token.is_mark and token.text == ";"):
            _skip(tokens, token)


def _tokens(text: str) -> Iterator[_Token]:
    line = 1
    for match in _TOKEN.finditer(_COMMENT.sub(_blank, text)):
        kind = match.lastgroup
        if kind == "bad":
            raise AnchorError("has a quote that is not closed", line)
        if kind != "skipped":
            yield _Token(match[kind or 0], line, kind == "mark")
        line += match[0].count("\n")


def _blank(match: re.Match[str]) -> str:
    """Return a text in quotes as it is, and the line breaks of a comment."""
    return match[0] if match[0].startswith('"') else " " + "\n" * match[0].count("\n")


def _skip(tokens: Iterator[_Token], first: _Token) -> None:
    """Skip the rest of a statement, to the semicolon at its end."""
    depth, token = 0, first
    while not (token.is_mark and token.text == ";" and not depth):
        if token.is_mark:
            depth += {"{": 1, "}": -1, ";": 0}[token.text]
        if depth < 0:
            raise AnchorError("has a surplus closing brace", token.line)
        token = _next(tokens, first)


def _next(tokens: Iterator[_Token], first: _Token) -> _Token:
    token = next(tokens, None)
    if token is None:
        raise AnchorError(f"the statement {first.text[:40]!r} has no end", first.line)
    return token


def _entries(tokens: Iterator[_Token], statement: _Token) -> Iterator[list[_Token]]:
    """Yield the words of each entry between the braces of a statement."""
    token = _next(tokens, statement)
    if token != (("{", token.line, True)):
        raise AnchorError(f"expected '{{' after {statement.text}", token.line)
    words: list[_Token] = []
    while True:
        token = _next(tokens, statement)
        if not token.is_mark:
            words.append(token)
        elif token.text == ";" and words:
            yield words
            words = []
        elif token.text == "}" and not words:
            return
        else:
            raise AnchorError(f"unexpected {token.text!r} in {statement.text}", token.line)


def _anchor(words: list[_Token], kinds: tuple[str, ...]) -> Configured:
    """Return the anchor in the words NAME [KIND] NUMBER NUMBER NUMBER DATA..."""
    line = words[0].line
    rest = [word.text for word in words[1:]]
    rtype = TYPE_DNSKEY
    if kinds:
        if not rest or rest[0] not in kinds:
            raise AnchorError(f"expected one of {', '.join(kinds)} after the name", line)
        rtype = _KINDS[rest.pop(0)]
    if any(not (word.isascii() and word.isalnum()) for word in rest[:3]):
        raise AnchorError("expected three numbers before the key or the digest", line)
    try:
        owner = from_text(words[0].text)
        rdata = rdata_from_text(rtype, " ".join(" ".join(rest).split()))
    except (InvalidName, RecordError) as error:
        raise AnchorError(str(error), line) from None
    return checked(Record(owner, 0, CLASS_IN, rtype, rdata), line)
