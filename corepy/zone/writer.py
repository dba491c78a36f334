"""Writes zones as master files, which `master_file` reads again as the same records."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corepy.dns import constants as c
from corepy.dns.names import to_text
from corepy.dns.presentation import Record, rdata_to_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from corepy.zone.zone import Zone


def record_to_text(record: Record) -> str:
    """Return a record as one line without its end; all names are absolute."""
    owner, rtype = to_text(record.owner), c.type_name(record.rtype)
    rclass = c.class_name(record.rclass)
    return f"{owner}\t{record.ttl}\t{rclass}\t{rtype}\t{rdata_to_text(record.rtype, record.rdata)}"


def zone_to_text(zone: Zone) -> Iterator[str]:
    """Yield the lines of a zone, each with its end: the SOA record, then in canonical order."""
    for record in zone:
        yield f"{record_to_text(record)}\n"
