"""The last changes of a zone, for incremental transfers (RFC 1995).

Records are bytes from `corepy.dns.records.rr`.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from corepy.dns.constants import TYPE_SOA
from corepy.dns.records import rr
from corepy.zone import changes_between, is_newer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from corepy.dns.presentation import Record
    from corepy.zone import Zone

MOST_BYTES: Final = 4 * 1024 * 1024
"""Size of all changes that are kept for one zone, in bytes of records."""

MOST_CHANGES: Final = 1000
"""Number of changes that are kept for one zone."""


class Change(NamedTuple):
    """The difference between two versions of a zone; each part begins with the SOA record."""

    old_serial: int
    new_serial: int
    removed: Sequence[bytes]
    """The records of the old version that the new one does not have."""

    added: Sequence[bytes]
    """The records of the new version that the old one does not have."""

    @property
    def size(self) -> int:
        """The bytes of all records."""
        return sum(map(len, self.removed)) + sum(map(len, self.added))

    @property
    def number(self) -> int:
        """The number of records."""
        return len(self.removed) + len(self.added)


def change_of(before: Zone, after: Zone) -> Change:
    """Return the difference between two versions; in a thread if they are large."""
    removed, added = changes_between(before, after)
    return Change(
        before.serial,
        after.serial,
        (before.soa_record, *_without_soa(removed)),
        (after.soa_record, *_without_soa(added)),
    )


def _without_soa(records: Iterable[Record]) -> Iterator[bytes]:
    for owner, ttl, rclass, rtype, rdata in records:
        if rtype != TYPE_SOA:
            yield rr(owner, rtype, ttl, rdata, rclass)


class Journal:
    """The last changes of one zone, from the oldest to the newest, without gaps."""

    __slots__ = ("_changes", "_most_bytes", "_most_changes", "size")

    def __init__(self, most_bytes: int = MOST_BYTES, most_changes: int = MOST_CHANGES) -> None:
        """Keep changes of at most `most_bytes`; the oldest ones are dropped first."""
        self._most_bytes = most_bytes
        self._most_changes = most_changes
        self._changes: deque[Change] = deque()
        self.size = 0
        """The bytes of the records of all changes."""

    def __len__(self) -> int:
        return len(self._changes)

    def add(self, change: Change) -> None:
        """Take the newest change; one that does not continue the last one removes all others.

        If the serial goes back, the zone began anew, and nothing is kept.
        """
        if self._changes and self._changes[-1].new_serial != change.old_serial:
            self.clear()
        if not is_newer(change.new_serial, change.old_serial):
            self.clear()
            return
        self._changes.append(change)
        self.size += change.size
        while self._changes and (
            self.size > self._most_bytes or len(self._changes) > self._most_changes
        ):
            self.size -= self._changes.popleft().size

    def clear(self) -> None:
        """Forget all changes."""
        self._changes.clear()
        self.size = 0

    def since(self, serial: int, current: int) -> list[Change] | None:
        """Return the changes from `serial` to the serial `current`, None if they are not kept."""
        if not self._changes or self._changes[-1].new_serial != current:
            return None
        for index, change in enumerate(self._changes):
            if change.old_serial == serial:
                return list(islice(self._changes, index, None))
        return None


def incremental(changes: Sequence[Change]) -> Iterator[Sequence[bytes]]:
    """Yield the records of an incremental transfer, in portions (RFC 1995 section 4)."""
    current = changes[-1].added[:1]
    yield current
    for change in changes:
        yield change.removed
        yield change.added
    yield current
