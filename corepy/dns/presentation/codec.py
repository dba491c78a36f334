r"""Converts rdata from text and to text, by the table of fields."""

from __future__ import annotations

from typing import Final

from corepy.dns.constants import MAX_SIZE, type_name
from corepy.dns.form_error import FormError
from corepy.dns.names import ROOT
from corepy.dns.presentation.fields import read_number
from corepy.dns.presentation.record_error import NoTextForm, RecordError
from corepy.dns.presentation.strings import from_hex
from corepy.dns.presentation.table import FIELDS, Fields
from corepy.dns.presentation.words import Word, Words, entries, shown

GENERIC: Final = "\\#"
"""The first word of rdata in generic form (RFC 3597 section 5)."""


def rdata_from_text(rtype: int, text: str, origin: bytes = ROOT) -> bytes:
    """Return the rdata for one line of text; raise RecordError.

    As in zone files, parentheses join several lines into one.
    """
    lines = [entry.words for entry in entries(text)] or [[]]
    if len(lines) > 1:
        raise RecordError("has more than one line")
    return read_rdata(rtype, Words(lines[0], origin))


def rdata_to_text(rtype: int, rdata: bytes) -> str:
    """Return rdata as text; its names must not be compressed."""
    try:
        return (write(FIELDS[rtype], rdata) if rtype in FIELDS else "") or generic(rdata)
    except FormError:
        return generic(rdata)


def generic(rdata: bytes) -> str:
    """Return rdata in generic form."""
    return f"{GENERIC} {len(rdata)} {rdata.hex().upper()}".rstrip()


def write(fields: Fields, rdata: bytes) -> str:
    """Return the fields of rdata as text; raise FormError."""
    texts, at = [], 0
    for _, kind in fields:
        text, at = kind.write(rdata, at)
        if text:
            texts.append(text)
    if at != len(rdata):
        raise FormError("rdata has bytes after its last field")
    return " ".join(texts)


def read_rdata(rtype: int, words: Words) -> bytes:
    """Return the rdata for the remaining words; raise RecordError."""
    field: str | None = None
    try:
        word = words.peek()
        if word == GENERIC and type(word) is not Word:
            return _read_generic(rtype, words)
        rdata = b""
        if rtype not in FIELDS:
            raise RecordError(f"must be written as {GENERIC} LENGTH HEX (RFC 3597)", word=words.at)
        for name, kind in FIELDS[rtype]:
            field = name
            rdata += kind.read(words)
        field = None
        _check_end(rdata, words)
    except RecordError as error:
        error.rtype = type_name(rtype)
        error.field = error.field or field
        if error.word is None:
            error.word = words.at - 1
        raise
    return rdata


def _read_generic(rtype: int, words: Words) -> bytes:
    words.plain()
    try:
        length = read_number(words, MAX_SIZE)
        rdata = from_hex("".join(words.rest()))
        if len(rdata) != length:
            raise RecordError(f"has {len(rdata)} bytes instead of {length}")
        if rtype in FIELDS:
            write(FIELDS[rtype], rdata)
    except NoTextForm:
        pass
    except FormError as error:
        raise RecordError(f"is malformed: {error}", field="rdata") from None
    except RecordError as error:
        error.field = "rdata"
        raise
    return rdata


def _check_end(rdata: bytes, words: Words) -> None:
    word = words.peek()
    if word is not None:
        raise RecordError(f"has a surplus word: {shown(word)}", word=words.at)
    if len(rdata) > MAX_SIZE:
        raise RecordError(f"is longer than {MAX_SIZE} bytes")
