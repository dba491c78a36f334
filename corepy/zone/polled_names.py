"""The names whose replies change with a zone: those to remove from caches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corepy.dns import constants as c
from corepy.dns.names import is_subdomain, parent_offsets
from corepy.zone.additional import TARGET_OFFSETS, targets_of
from corepy.zone.rrset import EMPTY, find_set, first_rdata_of, key_of, sets_of, type_of
from corepy.zone.zone import NS_KEY
from corepy.zone.zone_lookup import LONGEST_CHAIN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from corepy.zone.rrset import Node
    from corepy.zone.zone import Zone

_CNAME: Final = key_of(c.TYPE_CNAME)
_DNAME: Final = key_of(c.TYPE_DNAME)


class BelowNames:
    """Selects some names with all names below them, and some exactly; in wire form, lower case."""

    __slots__ = ("exact", "names")

    def __init__(self, names: set[bytes], exact: set[bytes]) -> None:
        self.names = names
        self.exact = exact

    def __call__(self, name: bytes) -> bool:
        """Return whether `name` is one of the names."""
        names = self.names
        return name in self.exact or any(name[at:] in names for at in parent_offsets(name))


def affected_names(
    before: Zone | None, after: Zone, copies: Sequence[Zone] = ()
) -> Callable[[bytes], bool] | None:
    """Return a predicate for the names whose replies may differ; None if there are none.

    A changed name affects those below it (wildcards, zone cuts, denials) and those that refer to
    it: aliases, and owners of records such as MX. `copies` are the other zones at the same origin,
    in which such names are, too. A serial alone only changes the replies for the origin. In a
    thread: it visits all names.
    """
    origin = after.origin
    if before is None:
        return lambda name: is_subdomain(name, origin)
    changed = {_without_wildcard(name) for name in changed_nodes(before, after)}
    if not changed:
        return None
    if origin in changed and not _has_same_origin(before, after):
        return lambda name: is_subdomain(name, origin)
    names = BelowNames(changed - {origin}, changed & {origin})
    _add_referrers(names, [before, after, *copies])
    return names


def changed_nodes(before: Zone, after: Zone) -> Iterator[bytes]:
    """Yield the names with other records, and those that exist in one version only.

    These may be empty non-terminals, which wildcards and denials depend on. In a thread: names are
    compared one by one, since operators of dictionaries and sets do not let the event loop run.
    """
    for name, node in before.nodes.items():
        if after.nodes.get(name) != node:
            yield name
    for name in after.nodes:
        if name not in before.nodes:
            yield name


def _without_wildcard(name: bytes) -> bytes:
    """Return the parent of a wildcard, whose descendants it answers for, or the name."""
    return name[2:] if name.startswith(b"\1*") else name


def _has_same_origin(before: Zone, after: Zone) -> bool:
    """Return whether the origins differ only in records that other replies do not have."""
    origin = after.origin
    wildcard = b"\1*" + origin
    return (
        before.ns == after.ns
        and before.soa[1:] == after.soa[1:]
        and before.nodes.get(wildcard) == after.nodes.get(wildcard)
        and find_set(before.nodes[origin], _DNAME) == find_set(after.nodes[origin], _DNAME)
    )


def _add_referrers(names: BelowNames, zones: Sequence[Zone]) -> None:
    """Add the names whose records have a target among the names, also through several aliases."""
    references = [reference for zone in zones for reference in _references(zone)]
    for _ in range(LONGEST_CHAIN):
        found = {owner for owner, target in references if names(target)}
        known = len(names.names), len(names.exact)
        names.exact |= found & {zone.origin for zone in zones}
        names.names |= {_without_wildcard(owner) for owner in found - names.exact}
        if known == (len(names.names), len(names.exact)):
            return


def _references(zone: Zone) -> Iterator[tuple[bytes, bytes]]:
    """Yield the owners of references and their targets in lower case."""
    for owner in zone.names:
        for target in _targets(owner, zone.nodes.get(owner, EMPTY)):
            yield owner, target


def _targets(name: bytes, node: Node) -> Iterator[bytes]:
    for packed in sets_of(node):
        if packed[:4] in (_CNAME, _DNAME):
            yield first_rdata_of(packed).lower()
        elif type_of(packed) in TARGET_OFFSETS or packed[:4] == NS_KEY:
            yield from targets_of(packed, name)
