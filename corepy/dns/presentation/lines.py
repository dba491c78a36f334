"""Whole records in presentation format: owner, TTL, class, type, rdata (RFC 1035 section 5.1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from corepy.dns import constants as c
from corepy.dns.names import ROOT
from corepy.dns.presentation.codec import read_rdata
from corepy.dns.presentation.fields import name_from_text, to_seconds
from corepy.dns.presentation.record_error import RecordError
from corepy.dns.presentation.words import Word, Words, ZoneFileEntry, entries, offset_of, shown
from corepy.dns.records import rr

_META_TYPES: Final = frozenset((0, c.TYPE_OPT, *range(128, 256), 0xFFFF))
"""Types that are not allowed in a zone: QTYPEs and meta types (RFC 6895 section 3.1)."""

_TYPES: Final = {name: number for name, number in c.TYPES.items() if number not in _META_TYPES}
_CLASSES: Final = {name: number for name, number in c.CLASSES.items() if name not in c.TYPES}


class Record(NamedTuple):
    """A record without compression."""

    owner: bytes
    ttl: int
    rclass: int
    rtype: int
    rdata: bytes

    @property
    def wire(self) -> bytes:
        """The record in wire format."""
        return rr(self.owner, self.rtype, self.ttl, self.rdata, self.rclass)


def read_record(text: str, ttl: int, origin: bytes = ROOT) -> Record:
    """Return the first record in a text; `ttl` is the default TTL. Raise RecordError."""
    for entry in entries(text):
        try:
            return read_entry(entry, None, ttl, origin)
        except RecordError as error:
            error.offset = offset_of(text, entry, error.word)
            raise
    raise RecordError("is missing", offset=len(text))


def read_entry(entry: ZoneFileEntry, owner: bytes | None, ttl: int, origin: bytes) -> Record:
    """Return the record of an entry; raise RecordError.

    `owner` is the owner of the previous record, which an indented entry inherits. The default class
    is IN.
    """
    at = 0
    if owner is None or not entry.indented:
        owner = _owner(entry.words[0], origin)
        at = 1
    given, rclass, rtype, at = _head(entry.words, at)
    rdata = read_rdata(rtype, Words(entry.words, origin, at))
    return Record(owner, ttl if given is None else given, rclass, rtype, rdata)


def _owner(word: str, origin: bytes) -> bytes:
    try:
        if type(word) is Word:
            raise RecordError(f"must not be quoted: {shown(word)}")
        return name_from_text(word, origin)
    except RecordError as error:
        error.field = "owner"
        error.word = 0
        raise


def _head(words: list[str], at: int) -> tuple[int | None, int, int, int]:
    """Return TTL and class, both optional and in any order, the type, and the index of rdata."""
    ttl: int | None = None
    rclass: int | None = None
    for here in range(at, len(words)):
        word = words[here]
        if type(word) is not str:
            raise _bad_head(f"must not be quoted: {shown(word)}", here)
        if "0" <= word[0] <= "9":  # types and classes never begin with a digit
            if ttl is None and (ttl := to_seconds(word)) is not None:
                continue
            raise _bad_head(f"is missing, and this is not a TTL: {shown(word)}", here)
        rtype = _TYPES.get(word)
        if rtype is None and rclass is None and (rclass := _CLASSES.get(word)) is not None:
            continue
        rtype = rtype or _number_of(word, c.type_number)
        if rtype is not None:
            if rtype in _META_TYPES:
                raise _bad_head(f"cannot be the type of a record: {shown(word)}", here)
            return ttl, c.CLASS_IN if rclass is None else rclass, rtype, here + 1
        if rclass is not None:
            raise _bad_head(f"is unknown: {shown(word)}", here)
        rclass = _number_of(word, c.class_number)
        if rclass is None:
            raise _bad_head(f"is missing, and this is not a class: {shown(word)}", here)
    raise _bad_head("is missing", len(words))


def _bad_head(problem: str, word: int) -> RecordError:
    return RecordError(problem, field="type", word=word)


def _number_of(word: str, search: Callable[[str], int]) -> int | None:
    try:
        return search(word)
    except ValueError:
        return None
