"""The zone that *erratic* transfers (CoreDNS: plugin/erratic/xfr.go)."""

from __future__ import annotations

from typing import Final

from corepy.dns.names import MAX_NAME
from corepy.dns.presentation import read_record

_LINES: Final = (
    "@ IN SOA sns.dns.icann.org. noc.dns.icann.org. 2018050825 7200 3600 1209600 3600",
    "@ IN NS b",
    "@ IN NS a",
    "a IN AAAA 2001:bd8::53",
    "b IN AAAA 2001:500::54",
)

LONGEST: Final = MAX_NAME - 2
"""Bytes of the longest name that leaves room for the names in the zone."""


def zone_records(name: bytes, *, is_whole: bool) -> list[bytes]:
    """Return the records of the zone `name`, a wire name in the case of the query.

    `name` has at most `LONGEST` bytes. Only a whole zone ends with its SOA record.
    """
    records = [read_record(line, 0, name).wire for line in _LINES]
    return [*records, records[0]] if is_whole else records
