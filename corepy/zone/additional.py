"""The names in rdata whose addresses belong into the additional section.

RFC 1034 section 4.3.2, step 6.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corepy.dns import constants as c
from corepy.dns.names import ROOT
from corepy.zone.rrset import rdatas_of, type_of

if TYPE_CHECKING:
    from collections.abc import Iterator

TARGET_OFFSETS: Final = {
    c.TYPE_NS: 0,
    c.TYPE_MX: 2,
    c.TYPE_SRV: 6,
    c.TYPE_SVCB: 2,
    c.TYPE_HTTPS: 2,
    c.TYPE_AFSDB: 2,
    c.TYPE_KX: 2,
}
"""The offset of the target in the rdata of each type that has one."""

SERVICE_TYPES: Final = frozenset((c.TYPE_SVCB, c.TYPE_HTTPS))
"""Types whose targets' records of the same type are additional, too (RFC 9460 section 4.1)."""


def targets_of(packed: bytes, owner: bytes) -> Iterator[bytes]:
    """Yield the targets of a packed set in lower case, if its type has any.

    The target "." of a service is `owner` (RFC 9460 section 2.5).
    """
    rtype = type_of(packed)
    offset = TARGET_OFFSETS.get(rtype)
    if offset is None:
        return
    for rdata in rdatas_of(packed):
        target = name_at(rdata, offset).lower()
        yield owner if target == ROOT and rtype in SERVICE_TYPES else target


def name_at(rdata: bytes, at: int) -> bytes:
    """Return the name in wire form that begins at an offset of valid rdata."""
    end = at
    while rdata[end]:
        end += rdata[end] + 1
    return rdata[at : end + 1]
