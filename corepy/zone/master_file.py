"""Reads master files, the text form of zones (RFC 1035 section 5).

The directives are $ORIGIN and $INCLUDE of RFC 1035, $TTL of RFC 2308 section 4, and $GENERATE of
BIND. Records are read by the record codec, `corepy.dns.presentation`, so every type can be written,
also by RFC 3597. A reader never needs more than one included file of each level at a time.
"""

from __future__ import annotations

import contextlib
import hashlib
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn

from corepy.corefile import Diagnostic, Token, suggest
from corepy.corefile.model import Import, Source
from corepy.dns import constants as c
from corepy.dns.names import InvalidName, from_text, to_text
from corepy.dns.presentation import Record, RecordError, entries, offset_of, read_entry
from corepy.dns.presentation.fields import name_from_text, to_seconds
from corepy.plugin.reading import FileVersion, read_file
from corepy.zone.generate import expand
from corepy.zone.zone import SOA
from corepy.zone.zone_builder import ZoneBuilder
from corepy.zone.zone_errors import OutOfZone, RecordRefused, ZoneError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from corepy.dns.presentation.words import ZoneFileEntry
    from corepy.zone.zone import Zone

LARGEST: Final = 1 << 30
"""Maximum size of a file in bytes."""

DEEPEST: Final = 7
"""Maximum nesting depth of $INCLUDE, as in CoreDNS (miekg/dns, scan.go)."""

MOST_FILES: Final = 10_000
"""Maximum number of files of a zone: files that include each other twice make 2**7."""

MOST_ERRORS: Final = 1000
"""Number of errors after which the rest of a file is not read."""

MOST_WARNINGS: Final = 1000
"""Number of warnings that are reported; reading continues after it."""

MOST_GENERATED: Final = 1 << 22
"""Maximum number of records that all $GENERATE directives of a zone make."""

LONGEST_TTL: Final = 0x7FFFFFFF
"""Seconds (RFC 2181 section 8)."""

DIRECTIVES: Final = ("$ORIGIN", "$TTL", "$INCLUDE", "$GENERATE")

_SHOWN: Final = 1000
"""Maximum characters of a word in a diagnostic."""

_NO_TTL: Final = -1


class MasterFileError(ZoneError):
    """A master file is invalid; `diagnostics` have the positions."""

    def __init__(self, diagnostics: list[Diagnostic]) -> None:
        first = diagnostics[0]
        more = f" (and {len(diagnostics) - 1} more errors)" if len(diagnostics) > 1 else ""
        super().__init__(f"{first}{more}")
        self.diagnostics = diagnostics


class _Stop(Exception):
    """Reading ends early; the reason was reported."""


class Place(NamedTuple):
    """The position of an entry in a file, from which a diagnostic gets its token."""

    source: Source
    entry: ZoneFileEntry
    origin: Import | None

    def token(self, word: int | None) -> Token:
        """Return a word of the entry as a token; None, or a word that is missing, is its end."""
        text = self.source.text
        offset = offset_of(text, self.entry, word)
        if word is None or word >= len(self.entry.words):
            offset = self.entry.offset + len(text[self.entry.offset : offset].rstrip())
        return token_at(self.source, offset, self.origin)


def token_at(source: Source, offset: int, origin: Import | None = None) -> Token:
    """Return the word at an offset of a text as a token; a long word is cut off."""
    text = source.text
    end = offset
    most = min(len(text), offset + _SHOWN)
    while end < most and text[end] not in " \t\r\n":
        end += 1
    line = text.count("\n", 0, offset) + 1
    column = offset - text.rfind("\n", 0, offset)
    word = text[offset:end]
    return Token(word, word, source, line, column, len(word), False, origin)


class ReadFile(NamedTuple):
    """A file that was read, or could not be read."""

    path: Path
    version: FileVersion | None = None
    """Its version when it was read; None if it must be read again (`corepy.plugin.reading`)."""

    digest: bytes = b""
    """The SHA-256 digest of the content, b"" if it could not be read."""


def read_with_digest(path: Path) -> tuple[bytes, ReadFile]:
    """Return the content of a file, and its state; raises `OSError`."""
    content, version = read_file(path, LARGEST)
    return content, ReadFile(path, version, hashlib.sha256(content).digest())


class MasterFileReader:
    """Reads a file and all that it includes into a `ZoneBuilder`.

    Errors are passed to `report`, after which reading continues with the next entry; it may raise
    an exception to stop. A record whose owner is outside the zone is a warning, and left out.
    """

    def __init__(
        self,
        builder: ZoneBuilder,
        report: Callable[[Diagnostic], None],
        on_record: Callable[[Record, Place, bool], None] | None = None,
    ) -> None:
        """Call `on_record` for each record, with False for one that the zone has already."""
        self.files: list[ReadFile] = []
        self._builder = builder
        self._report = report
        self._on_record = on_record
        self._size = 0
        """The bytes of all files."""
        self._errors = 0
        self._warnings = 0
        self._generated = 0
        """The number of records that $GENERATE has made."""
        self._owner: bytes | None = None
        self._default_ttl: int | None = None
        """The value of $TTL."""
        self._last_ttl: int | None = None
        """The TTL of the last record that had one of its own (RFC 1035 section 5.1)."""

    def read(self, path: Path) -> None:
        """Read a file; raises `OSError` if it cannot be read."""
        try:
            content, state = read_with_digest(path)
        except OSError:
            self.files.append(ReadFile(path))
            raise
        self.files.append(state)
        self._size += len(content)
        text = _decode(content)
        del content  # a large file is in memory once
        self._read_first(text, path)

    def read_content(self, content: bytes, path: Path) -> None:
        """Read the content of a file; paths in it are relative to the folder of `path`."""
        self._read_first(_decode(content), path)

    def _read_first(self, text: str, path: Path) -> None:
        with contextlib.suppress(_Stop):
            self._read(Source(str(path), text), path, self._builder.origin, None)

    def _error(self, message: str, token: Token, hint: str | None = None) -> None:
        """Report an error; raises `_Stop` after the last one that is reported."""
        self._report(Diagnostic(message, token, hint))
        self._errors += 1
        if self._errors == MOST_ERRORS:
            self._abandon(f"the rest is not read after {MOST_ERRORS} errors", token)

    def _abandon(self, message: str, token: Token) -> NoReturn:
        self._report(Diagnostic(message, token))
        raise _Stop

    def _read(self, source: Source, path: Path, origin: bytes, included: Import | None) -> None:
        """Read one text; `origin` completes relative names until the first $ORIGIN."""
        scanned = entries(source.text)
        while True:
            try:
                entry = next(scanned, None)
            except RecordError as error:  # a quote or parenthesis that is not closed
                offset = error.offset or 0
                self._error(f"the entry {error.problem}", token_at(source, offset, included))
                return
            if entry is None:
                return
            place = Place(source, entry, included)
            try:
                if entry.words[0].startswith("$") and type(entry.words[0]) is str:
                    origin = self._directive(entry, place, path, origin)
                else:
                    self._record(entry, place, origin)
            except RecordError as error:
                self._error(str(error), place.token(error.word))

    def _record(self, entry: ZoneFileEntry, place: Place, origin: bytes) -> None:
        """Add the record of an entry; raises `RecordError`."""
        if entry.indented and self._owner is None:
            raise RecordError("has no owner: the line begins with a blank", word=0)
        record = read_entry(entry, self._owner, _NO_TTL, origin)
        self._owner = record.owner
        if record.rclass != c.CLASS_IN:
            problem = f"has class {c.class_name(record.rclass)}; zones of class IN are served"
            raise RecordError(problem, word=0)
        self._add(self._with_ttl(record, place), place)

    def _with_ttl(self, record: Record, place: Place) -> Record:
        """Return a record with the TTL that applies; raises `RecordError`."""
        if record.ttl != _NO_TTL:
            if record.ttl > LONGEST_TTL:
                problem = f"has a TTL of more than {LONGEST_TTL} seconds (RFC 2181 section 8)"
                raise RecordError(problem, word=0)
            self._last_ttl = record.ttl
            return record
        ttl = self._last_ttl if self._default_ttl is None else self._default_ttl
        if ttl is None and record.rtype == c.TYPE_SOA:
            ttl = self._last_ttl = min(SOA.from_rdata(record.rdata).minimum, LONGEST_TTL)
        if ttl is None:
            raise RecordError("has no TTL, and there is no $TTL before it", word=0)
        return record._replace(ttl=ttl)

    def _add(self, record: Record, place: Place) -> None:
        owner, ttl, _, rtype, rdata = record
        try:
            is_new = self._builder.add(owner, ttl, rtype, rdata)
        except OutOfZone:
            self._leave_out(owner, place)
        except RecordRefused as error:
            message = f"{to_text(owner)} {c.type_name(rtype)}: {error.problem}"
            self._error(message, place.token(0))
        else:
            if self._on_record is not None:
                self._on_record(record, place, is_new)

    def _leave_out(self, owner: bytes, place: Place) -> None:
        """Warn of a record outside the zone, unless there were many."""
        self._warnings += 1
        if self._warnings <= MOST_WARNINGS:
            message = f"{to_text(owner)} is not in the zone {to_text(self._builder.origin)}"
            hint = "the record is left out"
            self._report(Diagnostic(message, place.token(0), hint, "warning"))

    def _directive(self, entry: ZoneFileEntry, place: Place, path: Path, origin: bytes) -> bytes:
        """Execute a directive, and return the origin after it; raises `RecordError`."""
        name, *arguments = entry.words
        match name.upper():
            case "$ORIGIN":
                _check_arguments(name, arguments, 1, 1)
                return _name(arguments[0], origin)
            case "$TTL":
                _check_arguments(name, arguments, 1, 1)
                self._default_ttl = _ttl(arguments[0])
            case "$INCLUDE":
                _check_arguments(name, arguments, 1, 2)
                self._include(place, path, arguments, origin)
            case "$GENERATE":
                self._generate(entry, place, origin)
            case _:
                near = suggest(name.upper(), DIRECTIVES)
                hint = f"did you mean {near}?" if near else f"directives: {', '.join(DIRECTIVES)}"
                self._error(f"unknown directive {name!r}", place.token(0), hint)
        return origin

    def _include(self, place: Place, path: Path, arguments: list[str], origin: bytes) -> None:
        """Read another file, whose directives $ORIGIN and owners end with it (RFC 1035)."""
        inner = _name(arguments[1], origin) if len(arguments) > 1 else origin
        token = place.token(1)
        included = Import(arguments[0], token)
        if included.depth > DEEPEST:
            message = f"$INCLUDE is nested more than {DEEPEST} times"
            self._error(message, token, "does the file include itself?")
            return
        if len(self.files) >= MOST_FILES:
            self._abandon(f"the zone has more than {MOST_FILES} files", token)
        target = path.parent / arguments[0]
        try:
            content, state = read_with_digest(target)
        except OSError as error:
            self.files.append(ReadFile(target))
            self._error(f"cannot read {target}: {error.strerror}", token)
            return
        self.files.append(state)
        self._size += len(content)
        if self._size > LARGEST:
            self._abandon(f"the files of the zone are larger than {LARGEST >> 20} MiB", token)
        owner = self._owner
        self._read(Source(str(target), _decode(content)), target, inner, included)
        self._owner = owner

    def _generate(self, entry: ZoneFileEntry, place: Place, origin: bytes) -> None:
        """Add the records of $GENERATE, with the TTL in force."""
        for words in expand(entry.words):
            self._generated += 1
            if self._generated > MOST_GENERATED:
                problem = f"$GENERATE makes more than {MOST_GENERATED} records of the zone"
                self._abandon(problem, place.token(0))
            try:
                generated = entry._replace(indented=False, words=words)
                record = read_entry(generated, None, _NO_TTL, origin)
                self._add(self._with_ttl(record, place), place)
            except RecordError as error:
                message = f"$GENERATE makes {' '.join(words)!r}: {error}"
                self._error(message, place.token(None))
                return


def _decode(content: bytes) -> str:
    return content.decode("utf-8-sig", "surrogateescape")


def _check_arguments(name: str, arguments: list[str], least: int, most: int) -> None:
    if len(arguments) < least:
        raise RecordError(
            "is missing", field=f"argument of {name.upper()}", word=len(arguments) + 1
        )
    if len(arguments) > most:
        raise RecordError("is one too many", field=f"argument of {name.upper()}", word=most + 1)


def _name(word: str, origin: bytes) -> bytes:
    try:
        return name_from_text(word, origin)
    except RecordError as error:
        error.field, error.word = "origin", 1
        raise


def _ttl(word: str) -> int:
    seconds = to_seconds(word)
    if seconds is None or seconds > LONGEST_TTL:
        problem = f"is not a time from 0 to {LONGEST_TTL} seconds, such as 3600 or 1h: {word!r}"
        raise RecordError(problem, field="$TTL", word=1)
    return seconds


class LoadedZone(NamedTuple):
    """A zone that was read, and the warnings about it."""

    zone: Zone
    warnings: list[Diagnostic]


def read_zone(path: Path, origin: bytes, files: list[ReadFile] | None = None) -> LoadedZone:
    """Return the zone in a file; raises `MasterFileError`, and `OSError` if it cannot be read.

    All errors are collected. The files that were read are appended to `files`, also if an exception
    is raised. This may be called in a thread.
    """
    builder = ZoneBuilder(origin)
    problems: list[Diagnostic] = []
    reader = MasterFileReader(builder, problems.append)
    try:
        reader.read(path)
        warnings = [it for it in problems if it.severity == "warning"]
        return LoadedZone(finish(builder, path, problems), warnings)
    finally:
        if files is not None:
            files += reader.files


def finish(builder: ZoneBuilder, path: Path, problems: list[Diagnostic]) -> Zone:
    """Return the zone of a builder; raises `MasterFileError` for `problems` that are errors."""
    errors = [it for it in problems if it.severity == "error"]
    if errors:
        raise MasterFileError(errors)
    try:
        return builder.build()
    except ZoneError as error:
        raise MasterFileError([Diagnostic(f"{path}: {error}")]) from None


def origin_from_text(text: str) -> bytes:
    """Return an origin in wire form and lower case; raises `ZoneError`."""
    try:
        return from_text(text).lower()
    except (InvalidName, ValueError) as error:
        raise ZoneError(str(error)) from None
