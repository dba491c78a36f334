"""Field kinds of bytes: character strings, hexadecimal digits, base64."""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable
from typing import Final

from corepy.dns.form_error import FormError
from corepy.dns.presentation.fields import Kind, cut
from corepy.dns.presentation.record_error import NoTextForm, RecordError
from corepy.dns.presentation.words import Words, shown

MAX_STRING: Final = 255
"""Maximum length of a character string in bytes (RFC 1035 section 3.3)."""

_ESCAPE: Final = re.compile(rb"\\(?:([0-9]{3})|([^0-9])|)", re.DOTALL)
_UNPRINTABLE: Final = re.compile(rb"[^ !#-\[\]-~]")


def octets(text: str) -> bytes:
    r"""Return the bytes of a character string; unescape `\DDD` and `\X` (RFC 1035 section 5.1)."""
    try:
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise RecordError(f"has a character that is not Unicode: {shown(text)}") from None
    return _ESCAPE.sub(_unescape, data) if b"\\" in data else data


def _unescape(match: re.Match[bytes]) -> bytes:
    digits, char = match.groups()
    if char:
        return char
    if digits is None or int(digits) > MAX_STRING:
        raise RecordError(
            r"has a backslash before digits other than \000 to \255; a backslash itself is \\"
        )
    return bytes((int(digits),))


def quoted(data: bytes) -> str:
    """Return bytes as a quoted character string."""
    return f'"{_UNPRINTABLE.sub(_escape, data).decode("ascii")}"'


def _escape(match: re.Match[bytes]) -> bytes:
    byte = match[0]
    return b"\\" + byte if byte in b'"\\' else b"\\%03d" % byte[0]


def counted(data: bytes) -> bytes:
    """Return a character string in wire format."""
    if len(data) > MAX_STRING:
        raise RecordError(f"is longer than {MAX_STRING} bytes")
    return bytes((len(data),)) + data


def cut_counted(wire: bytes, at: int) -> tuple[bytes, int]:
    """Return the bytes after the length byte at an offset, and their end; raise FormError."""
    if at >= len(wire):
        raise FormError("rdata is cut off")
    return cut(wire, at + 1, wire[at])


def _read_string(words: Words) -> bytes:
    return counted(octets(words.string()))


def _write_string(wire: bytes, at: int) -> tuple[str, int]:
    data, at = cut_counted(wire, at)
    return quoted(data), at


STRING: Final = Kind(_read_string, _write_string)


def _read_strings(words: Words) -> bytes:
    """Read one or more strings; overlong ones are split into several (miekg/dns: scan_rr.go)."""
    pieces: list[bytes] = []
    while words.peek() is not None or not pieces:
        data = octets(words.any())
        starts = range(0, max(len(data), 1), MAX_STRING)
        pieces += [counted(data[start : start + MAX_STRING]) for start in starts]
    return b"".join(pieces)


def _write_strings(wire: bytes, at: int) -> tuple[str, int]:
    texts: list[str] = []
    while at < len(wire) or not texts:
        text, at = _write_string(wire, at)
        texts.append(text)
    return " ".join(texts), at


STRINGS: Final = Kind(_read_strings, _write_strings)


def _read_optional_string(words: Words) -> bytes:
    return b"" if words.peek() is None else _read_string(words)


def _write_optional_string(wire: bytes, at: int) -> tuple[str, int]:
    return ("", at) if at == len(wire) else _write_string(wire, at)


OPTIONAL_STRING: Final = Kind(_read_optional_string, _write_optional_string)


def _read_text(words: Words) -> bytes:
    return octets(words.string())


def _write_text(wire: bytes, at: int) -> tuple[str, int]:
    return quoted(wire[at:]), len(wire)


TEXT: Final = Kind(_read_text, _write_text)
"""A string that is the whole rest of rdata (RFC 7553 section 4.4, RFC 8659 section 4.1)."""


def from_hex(digits: str) -> bytes:
    """Return the bytes of hexadecimal digits; raise RecordError."""
    try:
        return bytes.fromhex(digits)
    except ValueError:
        raise RecordError(f"is not an even number of hexadecimal digits: {shown(digits)}") from None


def from_base64(text: str) -> bytes:
    """Return the bytes of base64 (RFC 4648 section 4); raise RecordError."""
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except (binascii.Error, ValueError):
        raise RecordError(f"is not base64: {shown(text)}") from None


def to_base64(data: bytes) -> str:
    """Return bytes as base64."""
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def to_hex(data: bytes) -> str:
    """Return bytes as hexadecimal digits, in upper case as in dig."""
    return data.hex().upper()


def _rest(decode: Callable[[str], bytes], encode: Callable[[bytes], str], empty: bool) -> Kind:
    def read(words: Words) -> bytes:
        text = "".join(words.rest())
        if not text and not empty:
            raise RecordError("is missing", word=words.at)
        return decode(text)

    def write(wire: bytes, at: int) -> tuple[str, int]:
        if at == len(wire) and not empty:
            raise NoTextForm("the last field is empty")
        return encode(wire[at:]), len(wire)

    return Kind(read, write)


HEX: Final = _rest(from_hex, to_hex, False)
BASE64: Final = _rest(from_base64, to_base64, False)
OPTIONAL_BASE64: Final = _rest(from_base64, to_base64, True)
