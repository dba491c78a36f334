"""Parse and write Go's quoted strings (package strconv)."""

from __future__ import annotations

import re
from typing import Final

from corepy_template.values import from_bytes, to_bytes

_NAMED: Final = {
    "a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92, "'": 39, '"': 34
}  # fmt: skip
_NAMES: Final = {number: f"\\{name}" for name, number in _NAMED.items() if name not in "'\""}
_ESCAPE: Final = re.compile(
    r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.)|$)", re.DOTALL
)


def unquote(literal: str) -> str:
    """Return the value of a literal in quotes of any kind; raises ValueError."""
    mark, text = literal[0], literal[1:-1]
    if mark == "`":
        return text.replace("\r", "")
    pieces, end = [], 0
    for match in _ESCAPE.finditer(text):
        pieces += [to_bytes(text[end : match.start()]), _unescape(match, mark)]
        end = match.end()
    return from_bytes(b"".join(pieces) + to_bytes(text[end:]))


def _unescape(match: re.Match[str], mark: str) -> bytes:
    byte, short, long, octal, name = match.groups()
    if byte or octal:
        number = int(byte, 16) if byte else int(octal, 8)
        if number > 255:
            raise ValueError(f"invalid escape {match[0]}")
        return bytes((number,))
    if short or long:
        number = int(short or long, 16)
        if number > 0x10FFFF or 0xD800 <= number <= 0xDFFF:
            raise ValueError(f"invalid escape {match[0]}")
        return chr(number).encode()
    if name not in _NAMED or (name in "'\"" and name != mark):
        raise ValueError(f"invalid escape {match[0]}")
    return bytes((_NAMED[name],))


def character(literal: str) -> int:
    """Return the code point of a literal such as 'a'; raises ValueError."""
    text = unquote(literal)
    if len(text) != 1:
        raise ValueError("malformed character constant")
    code = ord(text)
    return code & 0xFF if 0xDC80 <= code <= 0xDCFF else code


def quote(text: str, *, ascii_only: bool = False) -> str:
    """Return the literal for `text` (strconv.Quote, or QuoteToASCII)."""
    return f'"{_escaped(text, chr(34), ascii_only)}"'


def quote_character(char: str, *, ascii_only: bool = False) -> str:
    """Return the literal for a character (strconv.QuoteRune)."""
    return f"'{_escaped(char, chr(39), ascii_only)}'"


def _escaped(text: str, mark: str, ascii_only: bool) -> str:
    return "".join(_escape(char, mark, ascii_only) for char in text)


def _escape(char: str, mark: str, ascii_only: bool) -> str:
    code = ord(char)
    if char == mark:
        return "\\" + char
    if code in _NAMES:
        return _NAMES[code]
    if char.isprintable() and (code < 128 or not ascii_only):
        return char
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code & 0xFF:02x}"
    if code < 32 or code == 127:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
