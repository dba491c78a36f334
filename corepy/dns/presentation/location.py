"""Field kinds of LOC (RFC 1876), GPOS (RFC 1712) and APL (RFC 3123)."""

from __future__ import annotations

import re
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from struct import Struct
from typing import Final

from corepy.dns.form_error import FormError
from corepy.dns.presentation.fields import Kind, cut, read_number
from corepy.dns.presentation.record_error import NoTextForm, RecordError
from corepy.dns.presentation.strings import MAX_STRING, counted, cut_counted
from corepy.dns.presentation.words import Words, shown

_LOC: Final = Struct("!BBBBIII")
_MIDDLE: Final = 1 << 31
"""The equator and the prime meridian, in thousandths of a second of arc."""

_DEGREE: Final = 3_600_000
_MINUTE: Final = 60_000
_SECOND: Final = 1_000
_SECONDS: Final = re.compile(r"([0-9]{1,2})(?:\.([0-9]{1,3}))?", re.ASCII)
_METERS: Final = re.compile(r"(-?)([0-9]{1,8})(?:\.([0-9]{1,2}))?m?", re.ASCII | re.IGNORECASE)
_BASE_ALTITUDE: Final = 10_000_000
"""Altitude of the reference spheroid on the wire, in centimeters."""

_MOST_ALTITUDE: Final = 0xFFFFFFFF
_DEFAULT_SIZES: Final = (0x12, 0x16, 0x13)
"""1 m, 10000 m and 10 m (RFC 1876 section 3)."""


def _read_angle(words: Words, most: int, marks: str) -> int:
    """Read degrees, optional minutes and seconds, and a compass direction."""
    angle = read_number(words, most) * _DEGREE
    if words.peek() not in (*marks, *marks.lower()):
        angle += read_number(words, 59) * _MINUTE
        if words.peek() not in (*marks, *marks.lower()):
            angle += _read_seconds(words)
    mark = words.plain().upper()
    if mark not in tuple(marks):
        raise RecordError(f"is not followed by {marks[0]} or {marks[1]}: {shown(mark)}")
    if angle > most * _DEGREE:
        raise RecordError(f"is more than {most} degrees")
    return _MIDDLE + (angle if mark == marks[0] else -angle)


def _read_seconds(words: Words) -> int:
    text = words.plain()
    match = _SECONDS.fullmatch(text)
    if match is None or int(match[1]) > 59:
        raise RecordError(f"has no seconds from 0 to 59.999: {shown(text)}")
    return int(match[1]) * _SECOND + int((match[2] or "").ljust(3, "0"))


def _read_centimeters(words: Words) -> int:
    text = words.plain()
    match = _METERS.fullmatch(text)
    if match is None:
        raise RecordError(f"is not a number of meters with at most two decimals: {shown(text)}")
    sign, meters, decimals = match.groups()
    length = int(meters) * 100 + int((decimals or "").ljust(2, "0"))
    return -length if sign else length


def _read_latitude(words: Words) -> bytes:
    return _read_angle(words, 90, "NS").to_bytes(4, "big")


def _read_longitude(words: Words) -> bytes:
    return _read_angle(words, 180, "EW").to_bytes(4, "big")


def _read_altitude(words: Words) -> bytes:
    altitude = _read_centimeters(words) + _BASE_ALTITUDE
    if not 0 <= altitude <= _MOST_ALTITUDE:
        raise RecordError("is not from -100000.00 to 42849672.95 meters")
    return altitude.to_bytes(4, "big")


def _read_size(words: Words) -> int:
    """Read a size; the wire keeps its first digit and power of ten (RFC 1876 section 2)."""
    digits = str(_read_centimeters(words))
    if digits.startswith("-") or len(digits) > 10:
        raise RecordError("is not from 0 to 90000000 meters")
    return 0 if digits == "0" else int(digits[0]) << 4 | len(digits) - 1


def _read_position(words: Words) -> bytes:
    position = b""
    for field, read in _POSITION:
        try:
            position += read(words)
        except RecordError as error:
            error.field = field
            raise
    sizes = list(_DEFAULT_SIZES)
    for index, field in enumerate(("size", "horizontal precision", "vertical precision")):
        if words.peek() is None:
            break
        try:
            sizes[index] = _read_size(words)
        except RecordError as error:
            error.field = field
            raise
    return bytes((0, *sizes)) + position


_POSITION: Final = (
    ("latitude", _read_latitude),
    ("longitude", _read_longitude),
    ("altitude", _read_altitude),
)


def _angle(number: int, most: int, marks: str) -> str:
    angle = number - _MIDDLE
    if abs(angle) > most * _DEGREE:
        raise NoTextForm(f"an angle of more than {most} degrees")
    degrees, rest = divmod(abs(angle), _DEGREE)
    minutes, rest = divmod(rest, _MINUTE)
    seconds, thousandths = divmod(rest, _SECOND)
    return f"{degrees} {minutes} {seconds}.{thousandths:03} {marks[angle < 0]}"


def _size(byte: int) -> str:
    digit, power = byte >> 4, byte & 15
    if digit > 9 or power > 9 or (power and not digit):
        raise NoTextForm("a size that is not a digit times a power of ten")
    return _meters(digit * 10**power)


def _meters(length: int) -> str:
    meters, decimals = divmod(abs(length), 100)
    sign = "-" if length < 0 else ""
    return f"{sign}{meters}.{decimals:02}m" if decimals else f"{sign}{meters}m"


def _write_position(wire: bytes, at: int) -> tuple[str, int]:
    data, at = cut(wire, at, _LOC.size)
    version, size, horizontal, vertical, latitude, longitude, altitude = _LOC.unpack(data)
    if version:
        raise NoTextForm("LOC of a version other than 0")
    texts = (
        _angle(latitude, 90, "NS"),
        _angle(longitude, 180, "EW"),
        _meters(altitude - _BASE_ALTITUDE),
        *map(_size, (size, horizontal, vertical)),
    )
    return " ".join(texts), at


POSITION: Final = Kind(_read_position, _write_position)

_DECIMAL: Final = re.compile(r"[+-]?(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)", re.ASCII)


def _is_decimal(text: str) -> bool:
    return len(text) <= MAX_STRING and _DECIMAL.fullmatch(text) is not None


def _read_decimal(words: Words) -> bytes:
    text = words.string()
    if not _is_decimal(text):
        raise RecordError(f"is not a decimal number: {shown(text)}")
    return counted(text.encode("ascii"))


def _write_decimal(wire: bytes, at: int) -> tuple[str, int]:
    data, at = cut_counted(wire, at)
    text = data.decode("latin-1")
    if not _is_decimal(text):
        raise NoTextForm("a position that is not a number")
    return text, at


DECIMAL: Final = Kind(_read_decimal, _write_decimal)
"""A decimal number as a character string."""

_FAMILIES: Final = {1: (AF_INET, 4), 2: (AF_INET6, 16)}
_NEGATION: Final = 0x80
_PREFIX: Final = re.compile(r"(!?)([0-9]{1,5}):([^/]+)/([0-9]{1,3})", re.ASCII)


def _read_prefixes(words: Words) -> bytes:
    return b"".join(_read_prefix(words.plain()) for _ in iter(words.peek, None))


def _read_prefix(text: str) -> bytes:
    """Read `[!]family:address/prefix` (RFC 3123 section 5)."""
    match = _PREFIX.fullmatch(text)
    if match is None:
        raise RecordError(f"is not of the form [!]family:address/prefix: {shown(text)}")
    negation, family, address, bits = match[1], int(match[2]), match[3], int(match[4])
    if family not in _FAMILIES:
        raise RecordError(f"has a family other than 1 and 2: {shown(text)}")
    af, size = _FAMILIES[family]
    try:
        data = inet_pton(af, address)
    except (OSError, ValueError):
        raise RecordError(f"has no address of its family: {shown(text)}") from None
    if bits > 8 * size:
        raise RecordError(f"has a prefix of more than {8 * size} bits: {shown(text)}")
    data = data.rstrip(b"\0")
    length = len(data) | (_NEGATION if negation else 0)
    return family.to_bytes(2, "big") + bytes((bits, length)) + data


def _write_prefixes(wire: bytes, at: int) -> tuple[str, int]:
    texts: list[str] = []
    odd: str | None = None
    while at < len(wire):
        head, at = cut(wire, at, 4)
        family, bits, mark = head[0] << 8 | head[1], head[2], head[3]
        data, at = cut(wire, at, mark & 0x7F)
        if data.endswith(b"\0"):
            raise FormError("an APL address ends in a zero byte")
        if family not in _FAMILIES:
            odd = "an APL family other than 1 and 2"
            continue
        af, size = _FAMILIES[family]
        if len(data) > size or bits > 8 * size:
            raise FormError("an APL prefix is too long")
        address = inet_ntop(af, data.ljust(size, b"\0"))
        texts.append(f"{'!' if mark & _NEGATION else ''}{family}:{address}/{bits}")
    if odd is not None:
        raise NoTextForm(odd)
    return " ".join(texts), at


PREFIXES: Final = Kind(_read_prefixes, _write_prefixes)
