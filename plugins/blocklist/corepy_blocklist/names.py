"""Names of block lists as keys: wire form, lower case, IDNs as A-labels (RFC 5890)."""

from __future__ import annotations

import re
from typing import Final

from corepy.dns.names import MAX_LABEL, MAX_NAME, ROOT, InvalidName, from_text, lower

_PLAIN: Final = re.compile(rb"(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}\.?")
_NUMBER: Final = re.compile(rb"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)\.?")
"""No top-level domain is a number, so such a name is an address, or a part of one."""

_LENGTHS: Final = [bytes((length,)) for length in range(MAX_LABEL + 1)]
_ODD: Final = re.compile(r"[\s/:@,;=^*|$#?&%<>\"'()\[\]{}]")
_LONGEST_SHOWN: Final = 60


class Unusable(ValueError):
    """A line, or a name on it, cannot be used; the message has the reason."""


def wire_name(word: bytes) -> bytes:
    """Return the name in a word of a list; raises `Unusable`.

    The trailing dot is optional. The root is refused.
    """
    text = word.lower()
    if _PLAIN.fullmatch(text) is None:
        text = _ascii_name(text)
    if _NUMBER.fullmatch(text):
        raise Unusable(f"{shown(word)} is an address or a number, not a name")
    return plain_wire(text.removesuffix(b"."))


def plain_wire(name: bytes) -> bytes:
    """Return the wire form of a name in lower case whose labels are valid; raises `Unusable`."""
    if len(name) > MAX_NAME - 2:
        raise Unusable(f"{shown(name)} is longer than {MAX_NAME} bytes")
    return b"".join([_LENGTHS[len(label)] + label for label in name.split(b".")]) + ROOT


def _ascii_name(word: bytes) -> bytes:
    """Return a name with other characters, such as an IDN, with plain labels only."""
    try:
        text = word.decode("utf-8")
    except UnicodeDecodeError:
        raise Unusable(f"{shown(word)} is not text in UTF-8") from None
    if not text.isprintable() or _ODD.search(text):
        raise Unusable(f"{shown(word)} is not a name")
    try:
        made = text.encode("idna").lower() if not text.isascii() else word
        from_text(made.decode())
    except (UnicodeError, InvalidName) as error:
        raise Unusable(f"{shown(word)} is not a name: {error}") from None
    if _PLAIN.fullmatch(made) is None:
        raise Unusable(f"{shown(word)} is not a name")
    return made


def zone_name(text: str) -> bytes:
    """Return a zone in wire form and lower case; raises `InvalidName`."""
    return lower(from_text(text))


def shown(word: bytes) -> str:
    """Return a word of a file for a message, shortened."""
    text = word.decode("utf-8", "backslashreplace")
    return repr(text) if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]!r}..."
