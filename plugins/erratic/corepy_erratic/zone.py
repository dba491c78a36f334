"""The zone that *erratic* transfers (CoreDNS: plugin/erratic/xfr.go)."""

from __future__ import annotations

from typing import Final

from corepy.dns.presentation import read_record

_LINES: Final = (
    "@ IN SOA sns.dns.icann.org. noc.dns.icann.org. 2018050825 7200 3600 1209600 3600",
    "@ IN NS b",
    "@ IN NS a",
    "a IN AAAA 2001:bd8::53",
    "b IN AAAA 2001:500::54",
)


def zone_records(name: bytes, *, is_whole: bool) -> list[bytes]:
    """Return the records of the zone `name`, a wire name in the case of the query.

    Only a whole zone ends with its SOA record. Raises `RecordError` if `name` leaves no room for
    the names in the zone.
    """
    records = [read_record(line, 0, name).wire for line in _LINES]
    return [*records, records[0]] if is_whole else records
