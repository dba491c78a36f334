"""Catalog zones (RFC 9432): the member zones that a zone lists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from corepy.dns.constants import TYPE_PTR, TYPE_TXT
from corepy.dns.names import is_subdomain, to_text
from corepy.zone.rrset import rdatas_of

if TYPE_CHECKING:
    from corepy.zone import Zone

VERSION: Final = b"\x012"
"""The rdata of the version record (RFC 9432 section 4.1)."""

_VERSION_LABEL: Final = b"\7version"
_ZONES_LABEL: Final = b"\5zones"
_COO_LABEL: Final = b"\3coo"


class CatalogError(Exception):
    """A catalog zone cannot be processed; the message contains the reason."""


class Member(NamedTuple):
    """A member zone."""

    zone: bytes
    """The origin, in wire form and lower case."""

    node: bytes
    """The unique label of the member in the catalog; another one resets the zone (section 5.4)."""

    new_owner: bytes | None
    """The catalog that may take over the member (property coo, section 4.4.1)."""


def read_members(catalog: Zone) -> dict[bytes, Member]:
    """Return the members of a catalog zone by their origins.

    Raises CatalogError for a catalog that must not be processed (RFC 9432 section 5.1).
    """
    version = catalog.rrset(_VERSION_LABEL + catalog.origin, TYPE_TXT)
    versions = [] if version is None else rdatas_of(version)
    if versions != [VERSION]:
        raise CatalogError('the catalog zone does not have one version record with "2"')
    members: dict[bytes, Member] = {}
    for member in _members(catalog):
        other = members.get(member.zone)
        if other is not None:
            nodes = " and ".join(sorted(to_text(it.node + b"\0") for it in (member, other)))
            raise CatalogError(f"{to_text(member.zone)} is the member of {nodes}")
        members[member.zone] = member
    return members


def _members(catalog: Zone) -> list[Member]:
    parent = _ZONES_LABEL + catalog.origin
    found = []
    for owner in catalog.names:
        label = owner[: owner[0] + 1]
        if owner[len(label) :] != parent or not is_subdomain(owner, parent):
            continue
        target = _target(catalog, owner)
        if target is not None:
            coo = _target(catalog, _COO_LABEL + owner)
            found.append(Member(target, label, coo))
    return found


def _target(catalog: Zone, owner: bytes) -> bytes | None:
    """Return the name in the PTR record of `owner`, None without one."""
    packed = catalog.rrset(owner, TYPE_PTR)
    if packed is None:
        return None
    rdatas = rdatas_of(packed)
    if len(rdatas) > 1:
        raise CatalogError(f"{to_text(owner)} has more than one PTR record")
    return rdatas[0].lower()
