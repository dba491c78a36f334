"""Reads the trust anchors in a file.

The form of a file is recognized by its content:

* DS and DNSKEY records in the form of a zone file, as unbound and Knot Resolver have them. In a
  file that unbound keeps (`auto-trust-anchor-file`), a comment has the state of each key.
* The statements `trust-anchors`, `managed-keys` and `trusted-keys` of BIND (`bind_keys`).
* The XML of IANA (`iana_xml`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from corepy.dns.names import ROOT, InvalidName, from_text, to_text
from corepy.dns.presentation import RecordError, entries, offset_of, read_entry
from corepy.plugin.reading import read_file
from corepy_forward.validation.anchor import DIGESTS, SEP_FLAG, Configured, flags_of, zones_of
from corepy_forward.validation.anchor_records import AnchorError, checked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from corepy.dns.presentation import Record
    from corepy.dns.presentation.words import ZoneFileEntry
    from corepy.plugin.reading import FileVersion

MOST_BYTES: Final = 1 << 20
"""Maximum size of a file."""

MOST_ANCHORS: Final = 1000
"""Maximum number of anchors in a file."""

_BIND: Final = re.compile(r"^[ \t]*+(?:trust-anchors|managed-keys|trusted-keys)\b", re.MULTILINE)
_UNBOUND_STATE: Final = re.compile(r";;state=([0-9])")
_UNBOUND_TRUSTED: Final = ("2", "3")
"""The states VALID and MISSING (unbound: validator/autotrust.h)."""

_DIRECTIVES: Final = ("$TTL", "$ORIGIN")


class AnchorFile(NamedTuple):
    """The contents of a file."""

    anchors: tuple[Configured, ...]
    warnings: tuple[str, ...]
    version: FileVersion | None
    """The version that was read; None if the file may change again without a new version."""


def read_anchor_file(path: Path) -> AnchorFile:
    """Return the anchors in a file, at least one; raises `AnchorError`."""
    try:
        content, version = read_file(path, MOST_BYTES)
    except OSError as error:
        raise AnchorError(f"cannot read {str(path)!r}: {error.strerror}") from None
    try:
        anchors = parse(content)
    except AnchorError as error:
        where = f"{path}:{error.line}" if error.line else str(path)
        raise AnchorError(f"{where}: {error}") from None
    return AnchorFile(anchors, tuple(_warnings(anchors, path)), version)


def parse(content: bytes) -> tuple[Configured, ...]:
    """Return the anchors in the content of a file; raises `AnchorError` with the line at fault."""
    text = _decode(content)
    if text.lstrip().startswith("<"):
        from corepy_forward.validation.iana_xml import read_xml

        found = read_xml(content)
    elif _BIND.search(text):
        from corepy_forward.validation.bind_keys import read_statements

        found = read_statements(text)
    else:
        found = _read_records(text)
    anchors = tuple(dict.fromkeys(_bounded(found)))
    if not anchors:
        raise AnchorError("contains no trust anchor: neither DS nor DNSKEY records")
    return anchors


def _decode(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise AnchorError("is not text in UTF-8", line) from None


def _bounded(anchors: Iterator[Configured]) -> Iterator[Configured]:
    for number, anchor in enumerate(anchors):
        if number == MOST_ANCHORS:
            raise AnchorError(f"contains more than {MOST_ANCHORS} trust anchors")
        yield anchor


def _warnings(anchors: tuple[Configured, ...], path: Path) -> Iterator[str]:
    for anchor in anchors:
        if not anchor.is_ds and not flags_of(anchor.rdata) & SEP_FLAG:
            yield (
                f"{path}: {anchor.name} is a zone-signing key, which its owner may replace without"
                " notice; a trust anchor is usually a key-signing key (flags 257)"
            )
    for zone, its in zones_of(anchors).items():
        if not any(anchor.rdata[3] in DIGESTS for anchor in its if anchor.is_ds) and all(
            anchor.is_ds for anchor in its
        ):
            yield f"{path}: no DS record of {to_text(zone)} has a known digest type (1, 2 or 4)"


def _read_records(text: str) -> Iterator[Configured]:
    """Yield the anchors in a text in the form of a zone file."""
    origin, owner, offset = ROOT, None, 0
    try:
        for entry in entries(text):
            offset = entry.offset
            if entry.words[0].startswith("$"):
                origin = _directive(entry.words, origin)
                continue
            record = _record(text, entry, owner, origin)
            owner = record.owner
            state = _UNBOUND_STATE.search(text, offset, _end_of_line(text, offset))
            if state is None or state[1] in _UNBOUND_TRUSTED:
                yield checked(record)
    except RecordError as error:
        problem = str(error) if error.rtype else f"not a DS or DNSKEY record: {error}"
        raise AnchorError(problem, _line(text, error.offset or offset)) from None
    except AnchorError as error:
        error.line = _line(text, offset)
        raise


def _record(text: str, entry: ZoneFileEntry, owner: bytes | None, origin: bytes) -> Record:
    try:
        return read_entry(entry, owner, 0, origin)
    except RecordError as error:
        error.offset = offset_of(text, entry, error.word)
        raise


def _directive(words: list[str], origin: bytes) -> bytes:
    """Return the origin after a directive; raises `AnchorError`."""
    if words[0].upper() not in _DIRECTIVES or len(words) != 2:
        raise AnchorError(f"{words[0][:20]!r} is not a directive of a file with anchors")
    if words[0].upper() == "$TTL":
        return origin
    try:
        return from_text(words[1]).lower()
    except InvalidName as error:
        raise AnchorError(str(error)) from None


def _end_of_line(text: str, offset: int) -> int:
    end = text.find("\n", offset)
    return len(text) if end < 0 else end


def _line(text: str, offset: int) -> int:
    return text.count("\n", 0, offset) + 1
