"""Reads the text of a response policy zone into records, each with its line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from corepy.dns import constants as c
from corepy.dns.names import InvalidName, from_text, lower
from corepy.dns.presentation import Record, RecordError, entries, read_entry
from corepy.dns.presentation.fields import name_from_text, to_seconds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from corepy.dns.presentation.words import ZoneFileEntry

DEFAULT_TTL: Final = 60
"""Seconds, for records in a file without any TTL."""

_PLAIN_TARGETS: Final = {
    text: from_text(text) for text in (".", "*.", "rpz-passthru.", "rpz-drop.", "rpz-tcp-only.")
}


class ZoneError(ValueError):
    """A file is not a response policy zone; the message begins with the line."""


class ZoneRecord(NamedTuple):
    """A record, and the line that it begins on."""

    line: int
    record: Record


def read_records(text: str, zone: bytes) -> Iterator[ZoneRecord]:
    """Yield the records of a zone file whose relative names are in `zone`; raises ZoneError.

    $ORIGIN and $TTL are supported, $INCLUDE and $GENERATE are refused.
    """
    state = _State(zone)
    line, counted = 1, 0
    try:
        for entry in entries(text):
            line += text.count("\n", counted, entry.offset)
            counted = entry.offset
            record = state.read(entry)
            if record is not None:
                yield ZoneRecord(line, record)
    except (RecordError, InvalidName) as error:
        if isinstance(error, RecordError) and error.offset is not None:
            line = 1 + text.count("\n", 0, error.offset)
        raise ZoneError(f"line {line}: {error}") from None


class _State:
    """The directives and the owner that apply to the next entry."""

    def __init__(self, zone: bytes) -> None:
        self._origin = zone
        self._ttl: int | None = None
        self._last_ttl = DEFAULT_TTL
        self._owner: bytes | None = None

    def read(self, entry: ZoneFileEntry) -> Record | None:
        words = entry.words
        if words[0].startswith("$") and not entry.indented:
            self._direct(words)
            return None
        if entry.indented and self._owner is None:
            raise RecordError("has no owner: it is indented, and no record precedes it")
        record = self._read_plain(entry)
        if record is None:
            ttl = self._last_ttl if self._ttl is None else self._ttl
            record = read_entry(entry, self._owner, ttl, self._origin)
        self._owner, self._last_ttl = record.owner, record.ttl
        return record

    def _read_plain(self, entry: ZoneFileEntry) -> Record | None:
        """Return a record such as `name CNAME .`: most lines, without the general reader."""
        words = entry.words
        if entry.indented or len(words) < 3 or words[-2] != "CNAME" or len(words) > 5:
            return None
        target = _PLAIN_TARGETS.get(words[-1])
        ttl = self._last_ttl if self._ttl is None else self._ttl
        if target is None or "@" in words[0]:
            return None
        for word in words[1:-2]:
            if word.isdigit() and len(word) < 10:
                ttl = int(word)
            elif word != "IN":
                return None
        return Record(name_from_text(words[0], self._origin), ttl, c.CLASS_IN, c.TYPE_CNAME, target)

    def _direct(self, words: list[str]) -> None:
        directive, values = words[0].upper(), words[1:]
        if directive == "$ORIGIN" and len(values) == 1:
            self._origin = name_from_text(values[0], self._origin)
        elif directive == "$TTL" and len(values) == 1:
            seconds = to_seconds(values[0])
            if seconds is None:
                raise RecordError(f"{values[0]!r} is not a TTL", field="directive")
            self._ttl = seconds
        else:
            problem = f"{words[0]} is not supported, or its value is missing"
            raise RecordError(problem, field="directive")


def zone_of(text: str) -> bytes | None:
    """Return the zone that a file names: the owner of its SOA record, if it is absolute.

    None if the zone is only known from outside; raises ZoneError.
    """
    mark = from_text("zone-of-this-file.invalid.")
    for _, record in read_records(text, mark):
        if record.rtype == c.TYPE_SOA:
            owner = lower(record.owner)
            return None if owner.endswith(mark) else owner
    return None
