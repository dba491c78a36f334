"""The difference of two versions of a zone, for incremental transfers and `corepy zone diff`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from corepy.dns import constants as c
from corepy.dns.presentation import Record
from corepy.zone.canonical import canonical_key
from corepy.zone.rrset import EMPTY, Node, rdatas_of, sets_of, ttl_of, type_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from corepy.zone.zone import Zone


class Changes(NamedTuple):
    """The records that a version has and the other one has not, in canonical order of owners.

    A record whose TTL differs is in both lists. SOA records are among them if they differ.
    """

    removed: list[Record]
    added: list[Record]


def changes_between(before: Zone, after: Zone) -> Changes:
    """Return the changes of a zone; in a thread if it is large.

    Names whose records are the same cost a comparison.
    """
    removed: list[Record] = []
    added: list[Record] = []
    for old, new in ((before.nodes, after.nodes), (before.hashed_nodes, after.hashed_nodes)):
        for name in sorted(_changed_names(old, new), key=canonical_key):
            mine, theirs = _records(name, old), _records(name, new)
            removed += [it for it in mine if it not in theirs]
            added += [it for it in theirs if it not in mine]
    return Changes(removed, added)


def _changed_names(old: Mapping[bytes, Node], new: Mapping[bytes, Node]) -> Iterator[bytes]:
    for name, node in old.items():
        if new.get(name, EMPTY) != node:
            yield name
    for name, node in new.items():
        if node and name not in old:
            yield name


def _records(name: bytes, nodes: Mapping[bytes, Node]) -> dict[Record, None]:
    return {
        Record(name, ttl_of(packed), c.CLASS_IN, type_of(packed), rdata): None
        for packed in sets_of(nodes.get(name, EMPTY))
        for rdata in rdatas_of(packed)
    }
