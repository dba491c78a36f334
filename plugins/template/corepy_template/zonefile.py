"""A record in zone-file form to wire bytes (RFC 1035 section 5.1; miekg/dns: scan.go).

As there: the owner comes first, TTL and class stand in any order and may be missing (3600 seconds,
IN), names are absolute, and what follows the first record is not looked at.
"""

from __future__ import annotations

import functools
import re
from typing import Final, NamedTuple

from corepy.dns import constants as c
from corepy.dns.names import InvalidName, from_text
from corepy.dns.records import pack_records, rr
from corepy_template.rdata import RDATA, RecordError, Words, generic, to_seconds

DEFAULT_TTL: Final = 3600
_REMEMBERED: Final = 1024
_MOST_RDATA: Final = 65535
_FIXED: Final = 11
"""Bytes of a record of the root in front of its rdata."""

_WORD: Final = re.compile(
    r'(?P<quoted>"(?:[^"\\]|\\.)*+")|(?P<mark>[()\n])|;[^\n]*+|[ \t\r]++'
    r'|(?P<plain>(?:[^ \t\r\n();"\\]|\\.)++)|(?P<bad>.)',
    re.DOTALL,
)


class Record(NamedTuple):
    """A record without compression."""

    wire: bytes
    rtype: int
    rdata: bytes


@functools.lru_cache(maxsize=_REMEMBERED)
def read_record(text: str) -> Record:
    """Return the first record of `text`; raises RecordError."""
    words = _split(text)
    owner, owner_is_quoted = words.take("an owner")
    if owner_is_quoted:
        raise RecordError("the owner is quoted")
    try:
        name = b"\0" if owner == "@" else from_text(owner)
    except InvalidName as error:
        raise RecordError(str(error)) from None
    ttl, rclass, rtype = _head(words)
    rdata = _rdata(words, rtype)
    if len(rdata) > _MOST_RDATA:
        raise RecordError("the record is too long")
    return Record(rr(name, rtype, ttl, rdata, rclass), rtype, rdata)


def _split(text: str) -> Words:
    """Return the words of the first record; lines end it, unless in parentheses."""
    words: list[tuple[str, bool]] = []
    depth = 0
    for match in _WORD.finditer(text):
        found, value = match.lastgroup, match[0]
        if found == "plain":
            words.append((value, False))
        elif found == "quoted":
            words.append((value[1:-1], True))
        elif found == "bad":
            raise RecordError(f"unexpected {value!r}")
        elif value == "\n" and words and not depth:
            break
        elif found == "mark":
            depth += {"(": 1, ")": -1, "\n": 0}[value]
            if depth < 0:
                raise RecordError("extra closing parenthesis")
    if depth:
        raise RecordError("a parenthesis is not closed")
    return Words(words)


def _head(words: Words) -> tuple[int, int, int]:
    """Read TTL, class and type."""
    ttl: int | None = None
    rclass: int | None = None
    while True:
        word, quoted = words.take("a type")
        if not quoted:
            number = _number_of(word, c.TYPES, "TYPE")
            if number is not None:
                break
            number = _number_of(word, c.CLASSES, "CLASS")
            if number is not None and rclass is None:
                rclass = number
                continue
        if ttl is not None:
            raise RecordError(f"not a type: {word!r}")
        ttl = to_seconds(word)
    return (
        DEFAULT_TTL if ttl is None else ttl,
        c.CLASS_IN if rclass is None else rclass,
        number,
    )


def _number_of(word: str, table: dict[str, int], prefix: str) -> int | None:
    upper = word.upper()
    if upper in table:
        return table[upper]
    digits = upper.removeprefix(prefix)
    if digits == upper or not (digits.isascii() and digits.isdigit()) or len(digits) > 5:
        return None
    return int(digits) if int(digits) <= 0xFFFF else None


def _rdata(words: Words, rtype: int) -> bytes:
    if words.peek() == "\\#":
        words.take("rdata")
        return generic(words)
    fields = RDATA.get(rtype)
    if fields is None:
        return _by_dnslib(rtype, words.rest_quoted())
    rdata = b"".join([field(words) for field in fields])
    if words.peek() is not None:
        raise RecordError(f"unexpected {words.peek()!r} behind the record")
    return rdata


def _by_dnslib(rtype: int, text: str) -> bytes:
    """Return the rdata of a rare type from its text."""
    from dnslib import RR

    name = c.type_name(rtype)
    try:
        (record,) = RR.fromZone(f". 0 IN {name} {text}")
        (wire,) = pack_records([record], b"")
    except Exception as error:  # dnslib's parsers raise whatever they trip over
        raise RecordError(f"cannot read a record of type {name}: {error}") from None
    return wire[_FIXED:]
