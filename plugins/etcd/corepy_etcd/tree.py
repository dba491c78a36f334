"""`Tree`: services by name, for look-ups of a name with all names below it."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from corepy_etcd.skydns import path_of_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corepy_etcd.skydns import Entry

MOST_FOUND: Final = 512
"""Services that one look-up returns; to make a reply of them takes some milliseconds."""

MOST_VISITED: Final = 4096
"""Names that one look-up visits, in about two milliseconds."""

ANY_LABEL: Final = frozenset((b"*", b"any"))
"""Labels of a query that match each label (msg.PathWithWildcard)."""


_NONE: Final[dict[bytes, Node]] = {}
"""The names below a name without any; it stays empty, and saves a dictionary for each."""


class Node:
    """A name with services, or above names with services."""

    __slots__ = ("below", "entries")

    def __init__(self) -> None:
        self.entries: tuple[Entry, ...] = ()
        self.below: dict[bytes, Node] = _NONE

    @property
    def is_empty(self) -> bool:
        """Whether neither this name nor one below it has services."""
        return not (self.entries or self.below)


class Tree:
    """Entries by name; several keys may denote one name."""

    __slots__ = ("_root",)

    def __init__(self) -> None:
        self._root = Node()

    def set(self, name: bytes, key: bytes, entry: Entry | None) -> None:
        """Add or replace the entry of a key; None removes it."""
        path, nodes = path_of_name(name), [self._root]
        for label in path:
            below = nodes[-1].below
            node = below.get(label)
            if node is None:
                if entry is None:
                    return
                if below is _NONE:
                    below = nodes[-1].below = {}
                node = below[label] = Node()
            nodes.append(node)
        node = nodes[-1]
        others = tuple(it for it in node.entries if it.key != key)
        node.entries = others if entry is None else (*others, entry)
        if entry is None:
            _prune(nodes, path)

    def find(self, name: bytes, *, exact: bool) -> list[Entry] | None:
        """Return the entries of a name, None if it does not exist.

        They are those of the names below it, or if there are none, those of the name itself, as in
        SkyDNS. With `exact`, they are those of the name itself. A label of `ANY_LABEL` stands for
        each label at its place.
        """
        path = path_of_name(name)
        nodes = [self._root]
        for label in path:
            if label in ANY_LABEL:
                nodes = [
                    *islice((it for node in nodes for it in node.below.values()), MOST_VISITED)
                ]
            else:
                nodes = [node.below[label] for node in nodes if label in node.below]
        if all(node.is_empty for node in nodes):
            return None
        if exact:
            return [entry for node in nodes for entry in node.entries][:MOST_FOUND]
        return _below(nodes, with_own=not ANY_LABEL.isdisjoint(path))


def _prune(nodes: Sequence[Node], path: Sequence[bytes]) -> None:
    """Remove nodes without entries from the end of a path."""
    for above, label, node in zip(nodes[-2::-1], path[::-1], nodes[::-1], strict=False):
        if not node.is_empty:
            return
        del above.below[label]
        if not above.below:
            above.below = _NONE


def _below(nodes: Sequence[Node], *, with_own: bool) -> list[Entry]:
    """Return the entries below some nodes; their own ones with `with_own`, or without others."""
    own = [entry for node in nodes for entry in node.entries]
    found: list[Entry] = own[:MOST_FOUND] if with_own else []
    levels = [iter(node.below.values()) for node in reversed(nodes)]
    visited = 0
    while levels and visited < MOST_VISITED and len(found) < MOST_FOUND:
        node = next(levels[-1], None)
        if node is None:
            levels.pop()
            continue
        visited += 1
        found += node.entries
        levels.append(iter(node.below.values()))
    return found or own[:MOST_FOUND]
