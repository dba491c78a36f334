"""Reads trust anchors in the XML that IANA publishes for the root (RFC 9718).

Expat parses the text. Document types are refused, and with them all entities, which could expand to
any size; the size of the file bounds the rest.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final, NoReturn
from xml.parsers import expat

from corepy.dns.constants import CLASS_IN, TYPE_DS
from corepy.dns.names import InvalidName, from_text
from corepy.dns.presentation import Record, RecordError, rdata_from_text
from corepy_forward.validation.anchor import Period
from corepy_forward.validation.anchor_records import AnchorError, checked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from corepy_forward.validation.anchor import Configured

_PATH: Final = ("TrustAnchor", "KeyDigest")
_FIELDS: Final = ("KeyTag", "Algorithm", "DigestType", "Digest")
_DEEPEST: Final = 16


class _Digest:
    """One element KeyDigest."""

    def __init__(self, attributes: dict[str, str], line: int) -> None:
        self.attributes = attributes
        self.line = line
        self.fields: dict[str, str] = {}


class _Reader:
    """Receives the events of expat."""

    def __init__(self) -> None:
        self.zone = ""
        self.digests: list[_Digest] = []
        self._path: list[str] = []
        self._parser = parser = expat.ParserCreate()
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        parser.StartDoctypeDeclHandler = self._refuse

    def read(self, content: bytes) -> None:
        try:
            self._parser.Parse(content, True)
        except expat.ExpatError as error:
            problem = expat.ErrorString(error.code)
            raise AnchorError(f"is not valid XML: {problem}", error.lineno) from None

    def _refuse(self, *_: object) -> NoReturn:
        raise AnchorError("a document type is not allowed", self._line)

    @property
    def _line(self) -> int:
        return self._parser.CurrentLineNumber

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._path.append(name)
        if self._path[0] != _PATH[0] or len(self._path) > _DEEPEST:
            raise AnchorError("is not IANA's XML, whose root is TrustAnchor", self._line)
        if tuple(self._path) == _PATH:
            self.digests.append(_Digest(attributes, self._line))

    def _end(self, name: str) -> None:
        self._path.pop()

    def _text(self, data: str) -> None:
        if self._path[1:] == ["Zone"]:
            self.zone += data
        elif tuple(self._path[:2]) == _PATH and len(self._path) == 3:
            fields, name = self.digests[-1].fields, self._path[2]
            fields[name] = fields.get(name, "") + data


def read_xml(content: bytes) -> Iterator[Configured]:
    """Yield the anchors in the content of a file; raises `AnchorError`."""
    reader = _Reader()
    reader.read(content)
    if not reader.zone.strip():
        raise AnchorError("the element Zone is missing")
    try:
        zone = from_text(reader.zone.strip())
    except InvalidName as error:
        raise AnchorError(f"Zone: {error}") from None
    for digest in reader.digests:
        yield _anchor(zone, digest)


def _anchor(zone: bytes, digest: _Digest) -> Configured:
    words = [digest.fields.get(name, "").strip() for name in _FIELDS]
    for name, word in zip(_FIELDS, words, strict=True):
        if not (word.isascii() and word.isalnum()):
            raise AnchorError(f"KeyDigest: {name} is missing or invalid", digest.line)
    try:
        rdata = rdata_from_text(TYPE_DS, " ".join(words))
    except RecordError as error:
        raise AnchorError(f"KeyDigest: {error}", digest.line) from None
    period = Period(
        _time(digest, "validFrom", float("-inf")), _time(digest, "validUntil", float("inf"))
    )
    return checked(Record(zone, 0, CLASS_IN, TYPE_DS, rdata), digest.line)._replace(period=period)


def _time(digest: _Digest, name: str, default: float) -> float:
    """Return an attribute in seconds since 1970; raises `AnchorError`."""
    text = digest.attributes.get(name)
    if text is None:
        return default
    try:
        found = datetime.fromisoformat(text)
        if found.tzinfo is None:
            raise ValueError
    except ValueError:
        problem = f"KeyDigest: {name} is not a time with its zone: {text[:40]!r}"
        raise AnchorError(problem, digest.line) from None
    return found.timestamp()
