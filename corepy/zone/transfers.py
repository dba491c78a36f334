"""The records of a zone in the portions of a transfer (RFC 5936 section 2.2)."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from corepy.zone.serial import is_newer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from corepy.zone.zone import Zone

_PORTION: Final = 100
"""Records of a portion, which are made in less than a millisecond."""


def whole_zone(zone: Zone, serial: int | None) -> Iterator[list[bytes]]:
    """Yield all records, the SOA record first and last, for an AXFR or an IXFR without differences.

    Only the SOA record if `serial`, that of the client, is the same or newer (RFC 1995 section 2).
    With a distance of 2**31 neither is newer (RFC 1982 section 3.2), and the client gets the zone.
    """
    soa = zone.soa_record
    if serial is not None and (serial == zone.serial or is_newer(serial, zone.serial)):
        yield [soa]
        return
    records = zone.wires()
    while portion := list(islice(records, _PORTION)):
        yield portion
    yield [soa]
