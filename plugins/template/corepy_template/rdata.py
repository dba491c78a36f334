"""Rdata in presentation form to wire bytes: a table of what each type is made of.

A type's entry lists its fields in order; a field takes its words and returns bytes, or raises
RecordError. RFC 1035 section 3.3 unless a line says otherwise.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Sequence
from socket import AF_INET, AF_INET6, inet_pton
from typing import Final

from corepy.dns import constants as c
from corepy.dns.names import InvalidName, from_text
from corepy.plugin import parse_unsigned

_LONGEST_STRING: Final = 255
_TTL: Final = re.compile(r"(?:[0-9]{1,10}[smhdw]?)+", re.IGNORECASE | re.ASCII)
_TTL_PART: Final = re.compile(r"([0-9]+)([a-z]?)", re.ASCII)
_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_ESCAPE: Final = re.compile(rb"\\(?:([0-9]{3})|(.))", re.DOTALL)


class RecordError(ValueError):
    """Text that is no record; the message says why."""


class Words:
    """The words of a record, taken one after the other; each with whether it was quoted."""

    __slots__ = ("_at", "_words")

    def __init__(self, words: Sequence[tuple[str, bool]]) -> None:
        self._words = words
        self._at = 0

    def peek(self) -> str | None:
        """Return the next word, None behind the last."""
        return self._words[self._at][0] if self._at < len(self._words) else None

    def take(self, what: str) -> tuple[str, bool]:
        """Return the next word and whether it was quoted; raises RecordError if there is none."""
        if self._at >= len(self._words):
            raise RecordError(f"the record ends where {what} should be")
        self._at += 1
        return self._words[self._at - 1]

    def rest_quoted(self) -> str:
        """Return all words that are left as they stood in the text."""
        words = self._words[self._at :]
        self._at = len(self._words)
        return " ".join(f'"{word}"' if quoted else word for word, quoted in words)

    def rest(self) -> list[str]:
        """Return all words that are left."""
        words = [word for word, _ in self._words[self._at :]]
        self._at = len(self._words)
        return words


def to_seconds(text: str) -> int:
    """Return the seconds of a TTL such as 60 or 1h30m (miekg/dns: stringToTTL)."""
    lowered = text.lower()
    if not _TTL.fullmatch(lowered):
        raise RecordError(f"not a TTL: {text!r}")
    seconds = sum(int(digits) * _UNITS[unit] for digits, unit in _TTL_PART.findall(lowered))
    if seconds > 0xFFFFFFFF:
        raise RecordError(f"not a TTL: {text!r}")
    return seconds


def octets(text: str) -> bytes:
    r"""Return a character string's bytes, `\DDD` and `\x` replaced."""
    data = text.encode("utf-8", "surrogateescape")
    return _ESCAPE.sub(_unescape, data) if b"\\" in data else data


def _unescape(match: re.Match[bytes]) -> bytes:
    digits, char = match.groups()
    if digits is None:
        return char or b""
    if int(digits) > 255:
        raise RecordError(f"bad escape \\{digits.decode()}")
    return bytes((int(digits),))


def _name(words: Words) -> bytes:
    text, _ = words.take("a name")
    try:
        return b"\0" if text == "@" else from_text(text)
    except InvalidName as error:
        raise RecordError(str(error)) from None


def _address(family: int, mark: str) -> Field:
    def read(words: Words) -> bytes:
        text, _ = words.take("an address")
        try:
            if mark not in text:
                raise ValueError
            return inet_pton(family, text)
        except (OSError, ValueError):
            raise RecordError(f"bad address {text!r}") from None

    return read


def _integer(size: int) -> Field:
    def read(words: Words) -> bytes:
        text, _ = words.take("a number")
        number = parse_unsigned(text, (1 << 8 * size) - 1)
        if number is None:
            raise RecordError(f"bad number {text!r}")
        return number.to_bytes(size, "big")

    return read


def _seconds(words: Words) -> bytes:
    return to_seconds(words.take("a time")[0]).to_bytes(4, "big")


def _string(words: Words) -> bytes:
    data = octets(words.take("a string")[0])
    if len(data) > _LONGEST_STRING:
        raise RecordError("a string is longer than 255 bytes")
    return bytes((len(data),)) + data


def _strings(words: Words) -> bytes:
    """Read one or more strings; those that are too long become several (miekg/dns: scan_rr.go)."""
    first, _ = words.take("a string")
    pieces: list[bytes] = []
    for text in [first, *words.rest()]:
        data = octets(text)
        starts = range(0, max(len(data), 1), _LONGEST_STRING)
        pieces += [data[start : start + _LONGEST_STRING] for start in starts]
    return b"".join(bytes((len(piece),)) + piece for piece in pieces)


def _text(words: Words) -> bytes:
    """Read a string whose length is that of the rest (RFC 7553, RFC 8659)."""
    return octets(words.take("a string")[0])


def _hex(words: Words) -> bytes:
    digits = "".join(words.rest())
    try:
        return bytes.fromhex(digits)
    except ValueError:
        raise RecordError(f"bad hexadecimal digits {digits!r}") from None


def _base64(words: Words) -> bytes:
    digits = "".join(words.rest())
    try:
        return base64.b64decode(digits, validate=True)
    except (binascii.Error, ValueError):
        raise RecordError(f"bad base64 {digits!r}") from None


def generic(words: Words) -> bytes:
    r"""Return rdata of any type, in the form `\# LENGTH DIGITS` (RFC 3597 section 5)."""
    length = int.from_bytes(_integer(2)(words), "big")
    data = _hex(words)
    if len(data) != length:
        raise RecordError(f"rdata has {len(data)} bytes instead of {length}")
    return data


Field = Callable[[Words], bytes]

_U8, _U16 = _integer(1), _integer(2)
_ONE_NAME: Final = (_name,)
_PREFERENCE_AND_NAME: Final = (_U16, _name)
_DIGEST: Final = (_U16, _U8, _U8, _hex)

RDATA: Final[dict[int, tuple[Field, ...]]] = {
    c.TYPE_A: (_address(AF_INET, "."),),
    c.TYPE_AAAA: (_address(AF_INET6, ":"),),
    c.TYPE_NS: _ONE_NAME,
    c.TYPE_CNAME: _ONE_NAME,
    c.TYPE_PTR: _ONE_NAME,
    c.TYPE_DNAME: _ONE_NAME,  # RFC 6672
    c.TYPE_MB: _ONE_NAME,
    c.TYPE_MG: _ONE_NAME,
    c.TYPE_MR: _ONE_NAME,
    c.TYPE_SOA: (_name, _name, _integer(4), _seconds, _seconds, _seconds, _seconds),
    c.TYPE_MX: _PREFERENCE_AND_NAME,
    c.TYPE_AFSDB: _PREFERENCE_AND_NAME,  # RFC 1183
    c.TYPE_RT: _PREFERENCE_AND_NAME,
    c.TYPE_KX: _PREFERENCE_AND_NAME,  # RFC 2230
    c.TYPE_RP: (_name, _name),
    c.TYPE_MINFO: (_name, _name),
    c.TYPE_HINFO: (_string, _string),
    c.TYPE_TXT: (_strings,),
    c.TYPES["SPF"]: (_strings,),
    c.TYPE_SRV: (_U16, _U16, _U16, _name),  # RFC 2782
    c.TYPE_NAPTR: (_U16, _U16, _string, _string, _string, _name),  # RFC 3403
    c.TYPE_CAA: (_U8, _string, _text),  # RFC 8659
    c.TYPES["URI"]: (_U16, _U16, _text),  # RFC 7553
    c.TYPE_DS: _DIGEST,  # RFC 4034
    c.TYPES["CDS"]: _DIGEST,
    c.TYPE_DNSKEY: (_U16, _U8, _U8, _base64),
    c.TYPES["CDNSKEY"]: (_U16, _U8, _U8, _base64),
    c.TYPES["SSHFP"]: (_U8, _U8, _hex),  # RFC 4255
    c.TYPES["TLSA"]: (_U8, _U8, _U8, _hex),  # RFC 6698
    c.TYPES["OPENPGPKEY"]: (_base64,),  # RFC 7929
}
