r"""Reads a page of ListResourceRecordSets.

Names and values have the escapes of Route 53: a backslash and three octal digits for a byte
(Route 53 Developer Guide, "DNS domain name format" and "TXT record type").
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from corepy.zone.polled_api import PollError
from corepy_route53.xml_reader import read_xml

if TYPE_CHECKING:
    from corepy.zone.polled_records import HostedRecords
    from corepy_route53.xml_reader import Element

_ESCAPE: Final = re.compile(r"\\([0-7]{3}|.?)", re.DOTALL)
_ALIAS: Final = "an alias record, which only Route 53 itself can answer"


class Cursor(NamedTuple):
    """Where the next page begins."""

    name: str
    rtype: str
    identifier: str

    @property
    def parameters(self) -> list[tuple[str, str]]:
        """The parameters of the request for the page."""
        named = (("name", self.name), ("type", self.rtype), ("identifier", self.identifier))
        return [(name, value) for name, value in named if value]


def read_page(data: bytes, records: HostedRecords) -> Cursor | None:
    """Add the records of a page, and return where the next one begins; None after the last one.

    Raises `PollError`. In a thread.
    """
    try:
        root = read_xml(data)
    except ValueError as error:
        raise PollError(f"the response cannot be read: {error}") from None
    if root.tag != "ListResourceRecordSetsResponse":
        raise PollError(f"the response is not a list of record sets but {root.tag[:40]!r}")
    for record_set in root.find("ResourceRecordSets", "ResourceRecordSet"):
        _add(record_set, records)
    if root.text_of("IsTruncated").strip().lower() != "true":
        return None
    names = ("NextRecordName", "NextRecordType", "NextRecordIdentifier")
    cursor = Cursor(*(root.text_of(name) for name in names))
    if not cursor.name:
        raise PollError("the response does not name the next page")
    return cursor


def _add(record_set: Element, records: HostedRecords) -> None:
    """Add the records of one set; sets of routing policies with one name and type are joined."""
    name, rtype = record_set.text_of("Name"), record_set.text_of("Type")
    try:
        owner = decimal_escapes(name)
    except ValueError as error:
        records.refuse(name, rtype, str(error))
        return
    if record_set.child("AliasTarget") is not None:
        records.refuse(owner, rtype, _ALIAS)
        return
    ttl = record_set.text_of("TTL").strip()
    if not (ttl.isascii() and ttl.isdigit() and len(ttl) <= 10):
        records.refuse(owner, rtype, f"the TTL is not a number: {ttl[:20]!r}")
        return
    for record in record_set.find("ResourceRecords", "ResourceRecord"):
        value = record.text_of("Value")
        try:
            records.add_text(owner, int(ttl), rtype, decimal_escapes(value))
        except ValueError as error:
            records.refuse(owner, rtype, str(error))


def decimal_escapes(text: str) -> str:
    r"""Return a name or a value with the escapes of zone files, `\DDD` in decimal.

    Other escapes, such as `\"`, are kept. Raises ValueError for a malformed one.
    """
    return _ESCAPE.sub(_decimal, text) if "\\" in text else text


def _decimal(match: re.Match[str]) -> str:
    escaped = match[1]
    if len(escaped) == 3:
        code = int(escaped, 8)
        if code > 255:
            raise ValueError(f"invalid escape sequence \\{escaped}")
        return f"\\{code:03}"
    if not escaped or escaped.isdigit():
        raise ValueError(f"invalid escape sequence {match[0]!r}")
    return match[0]
