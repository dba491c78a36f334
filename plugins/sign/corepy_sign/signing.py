"""Signs a zone: adds keys, signatures and NSEC records (RFC 4035 section 2)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from corepy.dns import constants as c
from corepy.dns.names import is_subdomain
from corepy.zone import ZoneBuilder
from corepy.zone.canonical import in_canonical_order
from corepy.zone.rrset import find_set, key_of, rdatas_of, sets_of, ttl_of, type_of
from corepy.zone.signatures import signatures, signed_data
from corepy.zone.type_bitmaps import type_bitmap
from corepy.zone.zone import NS_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from corepy.zone import Zone
    from corepy.zone.rrset import Node
    from corepy.zone.signatures import Validity
    from corepy.zone.signing_keys import SigningKey

_DNSKEY: Final = c.TYPES["DNSKEY"]
_CDS: Final = c.TYPES["CDS"]
_CDNSKEY: Final = c.TYPES["CDNSKEY"]
_REPLACED: Final = frozenset(
    (
        _DNSKEY, _CDS, _CDNSKEY, c.TYPE_RRSIG, c.TYPE_NSEC, c.TYPE_NSEC3, c.TYPES["NSEC3PARAM"],
        c.TYPES["ZONEMD"],
    )
)  # fmt: skip
"""Types that signing makes, or that it would make wrong; those of the file are left out."""

_DNAME_KEY: Final = key_of(c.TYPE_DNAME)
_SERIAL_FROM_END: Final = 20
_AT_CUT: Final = frozenset((c.TYPE_NS, c.TYPE_DS))
"""Types of a delegation that its NSEC record lists; its other records are glue."""

_PORTION: Final = 50
"""Names after which the event loop may run."""


def signed_zone(zone: Zone, keys: Sequence[SigningKey], serial: int, validity: Validity) -> Zone:
    """Return a zone with another serial, signed with all keys; in a thread.

    Raises `ZoneError`, for example if a set of signatures does not fit into a message.
    """
    builder = _unsigned(zone, serial)
    _add_keys(builder, keys, ttl_of(zone.soa_set))
    nsec_ttl = min(ttl_of(zone.soa_set), zone.soa.minimum)  # RFC 9077
    unsigned = builder.build()
    builder = ZoneBuilder(zone.origin, unsigned)
    owners = list(_owners(unsigned))
    following = [*(name for name, _, _ in owners[1:]), zone.origin]
    for number, ((name, node, is_cut), after) in enumerate(zip(owners, following, strict=True)):
        nsec = after + type_bitmap(_types(node, is_cut))
        builder.add(name, nsec_ttl, c.TYPE_NSEC, nsec)
        sets = [
            (type_of(it), ttl_of(it), rdatas_of(it))
            for it in sets_of(node)
            if not is_cut or type_of(it) == c.TYPE_DS
        ]
        for rtype, ttl, rdatas in [*sets, (c.TYPE_NSEC, nsec_ttl, [nsec])]:
            data = signed_data(name, rtype, ttl, rdatas)
            for rdata in signatures(data, keys, zone.origin, validity):
                builder.add(name, ttl, c.TYPE_RRSIG, rdata)
        if not number % _PORTION:
            time.sleep(0)
    return builder.build()


def _unsigned(zone: Zone, serial: int) -> ZoneBuilder:
    """Return the records of a zone without those that signing makes."""
    builder = ZoneBuilder(zone.origin)
    for record in zone:
        rdata = record.rdata
        if record.rtype in _REPLACED:
            continue
        if record.rtype == c.TYPE_SOA:
            end = len(rdata) - _SERIAL_FROM_END
            rdata = rdata[:end] + (serial & 0xFFFFFFFF).to_bytes(4, "big") + rdata[end + 4 :]
        builder.add(record.owner, record.ttl, record.rtype, rdata)
    return builder


def _add_keys(builder: ZoneBuilder, keys: Sequence[SigningKey], ttl: int) -> None:
    """Add the keys, and the records that ask the parent zone for their DS records (RFC 7344)."""
    for key in keys:
        builder.add(builder.origin, ttl, _DNSKEY, key.rdata)
        builder.add(builder.origin, ttl, _CDS, key.ds(builder.origin))
        builder.add(builder.origin, ttl, _CDNSKEY, key.rdata)


def _owners(zone: Zone) -> Iterator[tuple[bytes, Node, bool]]:
    """Yield the names that get NSEC records, their nodes, and whether they are delegations.

    Names below delegations and below DNAME records do not belong to the zone. The order is the
    canonical one.
    """
    cut: bytes | None = None
    for name in in_canonical_order(zone.names):
        if cut is not None and is_subdomain(name, cut):
            continue
        node = zone.nodes[name]
        is_cut = name != zone.origin and find_set(node, NS_KEY) is not None
        cut = name if is_cut or find_set(node, _DNAME_KEY) is not None else None
        yield name, node, is_cut


def _types(node: Node, is_cut: bool) -> Iterator[int]:
    yield c.TYPE_RRSIG
    yield c.TYPE_NSEC
    for packed in sets_of(node):
        if not is_cut or type_of(packed) in _AT_CUT:
            yield type_of(packed)
