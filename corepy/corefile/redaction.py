"""Hides secrets in the text of a Corefile that is shown to people.

A plugin may mark the words that are secrets (`Token.hide`), but a third party may not know of that.
So words are hidden, too, that follow a word about secrets on their line, the user information and
the parameters of URLs, and words that look random. Values of environment variables are not in the
text, which is shown as written. Hiding too much is harmless.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from corepy.corefile.lexer import words_of
from corepy.corefile.model import Source

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    Place = tuple[int, int]
    """The line and the column of a word."""

HIDDEN: Final = "***"

_WORDS: Final = (
    r"secret|passw|passphrase|pwd|token|credential|bearer|hmac"
    r"|(?:api|access|account|private|shared|signing|auth|encryption)[-_]?key"
)
_ABOUT_SECRETS: Final = re.compile(_WORDS, re.IGNORECASE)
_PARAMETER: Final = re.compile(rf"((?:{_WORDS})[\w.-]{{0,64}}=)([^&\s\"']+)", re.IGNORECASE)
_USER: Final = re.compile(r"(://)([^\s\"']{0,256})(?=@)")  # a password may have a slash by mistake
_COMMENT: Final = re.compile(r"#[ \t]*([^\n]*)")
_WORD: Final = re.compile(r"\S+")
_RANDOM: Final = re.compile(r"[A-Za-z0-9+_-][A-Za-z0-9+/_-]{19,}={0,2}")
_HEX: Final = re.compile(r"[0-9A-Fa-f]{32,}")
_MIXED: Final = (re.compile(r"[a-z]"), re.compile(r"[A-Z]"), re.compile(r"[0-9]"))
_EXCERPT: Final = re.compile(r"(\s*\d+ \| )(.*)")
_SHORTEST: Final = 4
"""Characters of a hidden word that is also hidden in messages; shorter ones are parts of others."""


class Redacted(NamedTuple):
    """A text without its secrets."""

    text: str
    hidden: frozenset[str]
    """The words that were hidden, for `hide`."""


def redact(text: str, secrets: Collection[Place] = ()) -> Redacted:
    """Return the text of a Corefile without secrets; its lines keep their numbers.

    The words at `secrets` are hidden, and those that may be secrets.
    """
    parts: list[str] = []
    hidden: set[str] = set()
    end = 0
    for found in _found(text, secrets):
        parts += (text[end : found.start], HIDDEN, "\n" * text.count("\n", found.start, found.end))
        end = found.end
        hidden |= found.words
    parts.append(text[end:])
    return Redacted("".join(parts), frozenset(it for it in hidden if len(it) >= _SHORTEST))


def masked(line: str, shown: int) -> str:
    """Return a line of a Corefile with asterisks for the characters that may be secrets.

    Of the word at the index `shown`, which a message is about, only the secrets of URLs and
    parameters are replaced.
    """
    parts: list[str] = []
    end = 0
    for found in _found(line, shown=shown):
        parts += (line[end : found.start], "*" * (found.end - found.start))
        end = found.end
    return "".join((*parts, line[end:]))


def without_parameters(text: str) -> str:
    """Return a message without the user information and the secret parameters of URLs in it."""
    return _PARAMETER.sub(rf"\1{HIDDEN}", _USER.sub(rf"\1{HIDDEN}", text))


def is_about_secrets(name: str) -> bool:
    """Return whether the arguments of an option with this name may be secrets."""
    return bool(_ABOUT_SECRETS.search(name))


def hide(text: str, hidden: Iterable[str]) -> str:
    """Return a message about a Corefile without the words that `redact` has hidden."""
    for word in sorted(hidden, key=len, reverse=True):
        text = text.replace(word, HIDDEN)
    return text


def without_secrets(message: str) -> str:
    """Return the text of a `CorefileError` without secrets.

    They are found in the source lines that it shows, and hidden everywhere in the text.
    """
    lines, hidden = [], set[str]()
    for line in message.split("\n"):
        found = _EXCERPT.fullmatch(line)
        if found is not None:
            redacted = redact(found[2])
            hidden |= redacted.hidden
            line = found[1] + redacted.text
        lines.append(line)
    return hide("\n".join(lines), hidden)


class _Found(NamedTuple):
    """The characters of a secret in a text."""

    start: int
    end: int
    words: frozenset[str] = frozenset()
    """The word that contains it, as written and as text."""


def _found(text: str, secrets: Collection[Place] = (), shown: int = -1) -> Iterator[_Found]:
    """Yield the secrets in the text of a Corefile in order, as for `redact` and `masked`."""
    end, line, is_secret = 0, -1, False
    for word in words_of(Source("", text)):
        token, raw, start = word
        if token.line != line:
            line, is_secret = token.last_line, False
        yield from _in_comments(text, end, start)
        end = start + len(raw)
        is_whole = is_secret or _is_random(raw.strip('"'))
        if raw in ("{", "}"):
            continue
        if (token.line, token.column) in secrets or (is_whole and start != shown):
            yield _Found(start, end, frozenset((token.text, raw)))
        else:
            for each in _in_word(raw, start):
                yield each._replace(words=frozenset((token.text, raw)))
        is_secret = is_secret or is_about_secrets(raw)
    yield from _in_comments(text, end, len(text))


def _in_word(raw: str, start: int) -> Iterator[_Found]:
    """Yield the user information and the secret parameters of a word that begins at `start`."""
    end = 0
    for found in _USER.finditer(raw):
        end = found.end(2)
        yield _Found(start + found.start(2), start + end)
    for found in _PARAMETER.finditer(raw, end):
        yield _Found(start + found.start(2), start + found.end(2))


def _is_random(word: str) -> bool:
    """Return whether a word looks like a key in hexadecimal digits or base64."""
    if _HEX.fullmatch(word):
        return True
    return bool(_RANDOM.fullmatch(word)) and all(it.search(word) for it in _MIXED)


def _in_comments(text: str, start: int, end: int) -> Iterator[_Found]:
    """Yield the secrets in the comments between two words."""
    for comment in _COMMENT.finditer(text, start, end):
        first = comment.start(1)
        if is_about_secrets(comment[1]):
            yield _Found(first, comment.end())
            continue
        for word in _WORD.finditer(text, first, comment.end()):
            if _is_random(word[0].strip('"')):
                yield _Found(word.start(), word.end())
            else:
                yield from _in_word(word[0], word.start())
