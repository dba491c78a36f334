"""The kinds of fields in rdata, each with its conversion from text and to text.

`read` takes words and returns bytes, or raises RecordError. `write` takes rdata and an offset, and
returns the text and the offset after the field. It raises FormError for malformed bytes, and
NoTextForm for bytes that `read` could not return.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import Final, NamedTuple

from corepy.dns import names
from corepy.dns.form_error import FormError
from corepy.dns.names import MAX_NAME, ROOT, InvalidName
from corepy.dns.presentation.record_error import RecordError
from corepy.dns.presentation.words import Words, shown

Read = Callable[[Words], bytes]
Write = Callable[[bytes, int], tuple[str, int]]


class Kind(NamedTuple):
    """One kind of field."""

    read: Read
    write: Write


_SECONDS: Final = re.compile(r"(?:[0-9]++[smhdw])++(?:[0-9]++)?", re.IGNORECASE | re.ASCII)
_SECONDS_PART: Final = re.compile(r"([0-9]+)([a-z]?)", re.ASCII)
_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_MOST_SECONDS: Final = 0xFFFFFFFF
_MOST_DIGITS: Final = 20
_LONGEST_TIME: Final = 60


def cut(wire: bytes, at: int, length: int) -> tuple[bytes, int]:
    """Return `length` bytes at an offset and the offset after them; raise FormError."""
    end = at + length
    if end > len(wire):
        raise FormError("rdata is cut off")
    return wire[at:end], end


def read_number(words: Words, most: int) -> int:
    """Return a number in decimal digits, from 0 to `most`; raise RecordError."""
    text = words.plain()
    if text.isdigit() and text.isascii() and len(text) <= _MOST_DIGITS:
        number = int(text)
        if number <= most:
            return number
    raise RecordError(f"is not a number from 0 to {most}: {shown(text)}")


def unsigned(size: int) -> Kind:
    """Return the kind of a number of `size` bytes."""
    most = (1 << 8 * size) - 1

    def read(words: Words) -> bytes:
        return read_number(words, most).to_bytes(size, "big")

    def write(wire: bytes, at: int) -> tuple[str, int]:
        data, at = cut(wire, at, size)
        return str(int.from_bytes(data, "big")), at

    return Kind(read, write)


U8: Final = unsigned(1)
U16: Final = unsigned(2)
U32: Final = unsigned(4)
U48: Final = unsigned(6)


def mnemonic(size: int, table: dict[str, int], what: str) -> Kind:
    """Return the kind of a number with mnemonics; the first of several mnemonics is written."""
    most = (1 << 8 * size) - 1
    by_number = {number: name for name, number in reversed(table.items())}

    def read(words: Words) -> bytes:
        text = words.plain()
        number = table.get(text.upper())
        if number is None:
            if not (text.isdigit() and text.isascii() and len(text) <= _MOST_DIGITS):
                raise RecordError(f"is not a {what}: {shown(text)}")
            number = int(text)
            if number > most:
                raise RecordError(f"is not a number from 0 to {most}: {shown(text)}")
        return number.to_bytes(size, "big")

    def write(wire: bytes, at: int) -> tuple[str, int]:
        data, at = cut(wire, at, size)
        number = int.from_bytes(data, "big")
        return by_number.get(number) or str(number), at

    return Kind(read, write)


def to_seconds(text: str) -> int | None:
    """Return the seconds of a time such as 60 or 1h30m (miekg/dns: stringToTTL), or None."""
    if len(text) > _LONGEST_TIME:
        return None
    if text.isdigit() and text.isascii():
        seconds = int(text)
    elif _SECONDS.fullmatch(text):
        parts = _SECONDS_PART.findall(text.lower())
        seconds = sum(int(digits) * _UNITS[unit] for digits, unit in parts)
    else:
        return None
    return seconds if seconds <= _MOST_SECONDS else None


def _read_seconds(words: Words) -> bytes:
    text = words.plain()
    seconds = to_seconds(text)
    if seconds is None:
        raise RecordError(f"is not a time such as 3600 or 1h30m: {shown(text)}")
    return seconds.to_bytes(4, "big")


SECONDS: Final = Kind(_read_seconds, U32.write)


def name_from_text(text: str, origin: bytes) -> bytes:
    """Return a wire name; "@" is the origin, and a name without a final dot is relative to it."""
    if text == "@":
        return origin
    try:
        name = names.from_text(text)
    except InvalidName as error:
        raise RecordError(f"is not a domain name: {error}") from None
    except ValueError:  # a surrogate that does not represent a byte
        raise RecordError(f"is not a domain name: {shown(text)}") from None
    if origin is ROOT or origin == ROOT or _is_absolute(text):
        return name
    name = name[:-1] + origin
    if len(name) > MAX_NAME:
        raise RecordError(f"is longer than {MAX_NAME} bytes below its origin: {shown(text)}")
    return name


def _is_absolute(text: str) -> bool:
    if not text.endswith("."):
        return False
    backslashes = len(text) - 1 - len(text[:-1].rstrip("\\"))
    return backslashes % 2 == 0


def _read_name(words: Words) -> bytes:
    return name_from_text(words.plain(), words.origin)


def _write_name(wire: bytes, at: int) -> tuple[str, int]:
    start = at
    try:
        while n := wire[at]:
            if n > names.MAX_LABEL:
                raise FormError("name in rdata is compressed")
            at += n + 1
    except IndexError:
        raise FormError("name in rdata is cut off") from None
    at += 1
    if at - start > MAX_NAME:
        raise FormError("name in rdata is longer than 255 bytes")
    return names.to_text(wire[start:at]), at


NAME: Final = Kind(_read_name, _write_name)


def address(family: int, size: int, mark: str, what: str) -> Kind:
    """Return the kind of an IP address."""

    def read(words: Words) -> bytes:
        text = words.plain()
        try:
            if mark in text:  # as in glibc; musl also reads "1" as an address
                return inet_pton(family, text)
        except (OSError, ValueError):
            pass
        raise RecordError(f"is not an {what} address: {shown(text)}")

    def write(wire: bytes, at: int) -> tuple[str, int]:
        data, at = cut(wire, at, size)
        return inet_ntop(family, data), at

    return Kind(read, write)


A: Final = address(AF_INET, 4, ".", "IPv4")
AAAA: Final = address(AF_INET6, 16, ":", "IPv6")
