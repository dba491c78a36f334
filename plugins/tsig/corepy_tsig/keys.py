"""The keys of a directive: their names, secrets and algorithms, from the Corefile and from files.

No function here puts a secret into a message.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from corepy.dns.names import InvalidName, from_text, lower
from corepy.dns.tsig_mac import ALGORITHMS

if TYPE_CHECKING:
    from collections.abc import Iterator

KNOWN_ALGORITHMS: Final = {name[1:-1].decode(): name for name in ALGORITHMS}
"""The algorithms' wire names by the names that keys state, such as "hmac-sha256"."""

BASE64_HINT: Final = "a secret is base64, such as tsig-keygen prints it"
"""A hint about the form of a secret."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key."""

    name: bytes
    """In wire form and lower case."""

    secret: bytes = field(repr=False)
    algorithm: bytes | None = None
    """The wire name of the algorithm; None if none is stated."""


class InvalidKey(ValueError):
    """A key cannot be used; the message contains the reason."""


def read_name(text: str) -> bytes:
    """Return the name of a key in wire form and lower case; raises InvalidKey."""
    try:
        return lower(from_text(text))
    except InvalidName:  # its message has the text, which may be the secret
        raise InvalidKey("the name of a key is not a domain name") from None


def read_secret(text: str) -> bytes:
    """Return the secret in base64; raises InvalidKey."""
    try:
        secret = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise InvalidKey("the secret of a key is not base64") from None
    if not secret:
        raise InvalidKey("the secret of a key is empty")
    return secret


def read_algorithm(text: str) -> bytes:
    """Return the wire name of an algorithm; raises InvalidKey."""
    found = KNOWN_ALGORITHMS.get(text.lower().removesuffix("."))
    if found is None:
        raise InvalidKey("the algorithm of a key is unknown")
    return found


# -- files of keys


class FileError(ValueError):
    """A file of keys is invalid; the message begins with the line and the column."""


class _Word(NamedTuple):
    text: str
    line: int
    column: int
    is_quoted: bool

    def error(self, message: str) -> FileError:
        return FileError(f"{self.line}:{self.column}: {message}")


_WORDS: Final = re.compile(
    r"""\s+ | (?:\#|//)[^\n]* | /\*.*?\*/ | "(?P<quoted>[^"\n]*)" | (?P<sign>[{};])
    | (?P<plain>[^\s"{};]+) | (?P<bad>.)""",
    re.VERBOSE | re.DOTALL,
)


def read_file(content: bytes) -> tuple[list[Key], list[str]]:
    """Return the keys in a file, in the syntax of named.conf, and warnings.

    The file has statements such as `key "name" { algorithm hmac-sha256; secret "..."; };`. Raises
    FileError.
    """
    words = list(_words(content.decode("utf-8", "surrogateescape")))
    keys: list[Key] = []
    warnings: list[str] = []
    at = 0
    while at < len(words):
        if words[at].text == ";" and not words[at].is_quoted:
            at += 1
            continue
        key, at = _read_key(words, at, warnings)
        if any(key.name == other.name for other in keys):
            raise words[at - 1].error("this key is defined twice in the file")
        keys.append(key)
    return keys, warnings


def _words(text: str) -> Iterator[_Word]:
    line, at = 1, 0
    for match in _WORDS.finditer(text):
        start = match.start()
        line += text.count("\n", at, start)
        at = start
        if match.lastgroup is None:
            continue
        column = start - text.rfind("\n", 0, start)
        word = _Word(match[match.lastgroup], line, column, match.lastgroup == "quoted")
        if match.lastgroup == "bad":
            raise word.error("a quote is not closed")
        yield word


def _read_key(words: list[_Word], at: int, warnings: list[str]) -> tuple[Key, int]:
    """Return the key whose statement begins at a word, and the index after its closing brace."""
    first = words[at]
    if first.text != "key":
        raise first.error("a statement that is not a key: expected key NAME {")
    name = _value(words, at, "the name of a key")
    if at + 2 >= len(words) or words[at + 2].text != "{":
        raise name.error("expected { after the name of a key")
    at += 3
    values: dict[str, _Word] = {}
    while at < len(words) and words[at].text != "}":
        if words[at].text == ";":
            at += 1
            continue
        option = words[at].text if words[at].text in ("algorithm", "secret") else ""
        if not option:
            raise words[at].error("a key has only algorithm and secret")
        values[option] = _value(words, at, f"the value of {option}")
        at += 2
    if at >= len(words):
        raise first.error("the braces of this key are not closed")
    if "secret" not in values:
        raise first.error("this key has no secret")
    return _make_key(name, values, warnings), at + 1


def _value(words: list[_Word], at: int, what: str) -> _Word:
    """Return the word after index `at`, unless it is a sign."""
    value = words[at + 1] if at + 1 < len(words) else None
    if value is None or (value.text in ("{", "}", ";") and not value.is_quoted):
        raise words[at].error(f"expected {what}")
    return value


def _make_key(name: _Word, values: dict[str, _Word], warnings: list[str]) -> Key:
    algorithm = None
    word = values.get("algorithm")
    if word is not None:
        try:
            algorithm = read_algorithm(word.text)
        except InvalidKey as error:  # CoreDNS ignores the algorithm
            warnings.append(f"{word.line}:{word.column}: {error}; it is ignored")
    try:
        return Key(read_name(name.text), read_secret(values["secret"].text), algorithm)
    except InvalidKey as error:
        raise name.error(str(error)) from None
