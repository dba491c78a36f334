"""Hides secrets in the text of a Corefile that is shown to people.

A plugin may mark the words that are secrets (`Token.hide`), but a third party may not know of that.
So words are hidden, too, that follow a word about secrets on their line, the user information and
the parameters of URLs, and words that look random. Values of environment variables are not in the
text, which is shown as written. Hiding too much is harmless.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from corepy.corefile.lexer import source_of, words_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    Place = tuple[int, int]
    """The line and the column of a word."""

HIDDEN: Final = "***"

_WORDS: Final = (
    r"secret|passw|passphrase|pwd|token|credential|bearer|hmac"
    r"|(?:api|access|account|private|shared|signing|auth|encryption)[-_]?key"
)
_ABOUT_SECRETS: Final = re.compile(_WORDS, re.IGNORECASE)
_PARAMETER: Final = re.compile(rf"((?:[\w.-]*(?:{_WORDS})[\w.-]*)=)[^&\s\"']+", re.IGNORECASE)
_USER: Final = re.compile(r"(://)[^/\s?#]*@")
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
    end, line, is_secret = 0, -1, False
    for word in words_of(source_of("", text)):
        if word.token.line != line:
            line, is_secret = word.token.last_line, False
        start, raw = word.start, word.raw
        parts.append(_without_comments(text[end:start]))
        end = start + len(raw)
        is_marked = (word.token.line, word.token.column) in secrets
        shown = raw
        if raw not in ("{", "}"):
            shown = _redacted_word(raw, is_secret=is_secret or is_marked)
        if shown != raw:
            hidden |= {word.token.text, raw}
        parts.append(shown)
        is_secret = is_secret or bool(_ABOUT_SECRETS.search(raw))
    parts.append(_without_comments(text[end:]))
    return Redacted("".join(parts), frozenset(it for it in hidden if len(it) >= _SHORTEST))


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


def _redacted_word(raw: str, *, is_secret: bool) -> str:
    if is_secret or _is_random(raw.strip('"')):
        return HIDDEN + "\n" * raw.count("\n")
    return _PARAMETER.sub(rf"\1{HIDDEN}", _USER.sub(rf"\1{HIDDEN}@", raw))


def _is_random(word: str) -> bool:
    """Return whether a word looks like a key in hexadecimal digits or base64."""
    if _HEX.fullmatch(word):
        return True
    return bool(_RANDOM.fullmatch(word)) and all(it.search(word) for it in _MIXED)


def _without_comments(text: str) -> str:
    """Return the text between two words, with comments about secrets hidden."""
    if "#" not in text:
        return text
    return "\n".join(map(_redacted_comment, text.split("\n")))


def _redacted_comment(line: str) -> str:
    before, mark, comment = line.partition("#")
    if not mark:
        return line
    if _ABOUT_SECRETS.search(comment):
        return f"{before}{mark} {HIDDEN}"
    words = re.split(r"(\s+)", comment)
    return before + mark + "".join(_redacted_word(it, is_secret=False) for it in words)
