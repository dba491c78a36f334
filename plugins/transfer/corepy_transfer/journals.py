"""`Journals`: follows the zones of a server block, and keeps their changes."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final

from corepy.dns.names import to_text
from corepy.plugin import in_thread, plugin_logger
from corepy_transfer.journal import Journal, change_of, incremental

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from corepy.zone import ServedZone, Zone

MOST_BYTES: Final = 64 * 1024 * 1024
"""Bytes of the records in all journals; beyond it, those without recent changes are emptied."""

LOG: Final = plugin_logger("transfer")


class Journals:
    """The journals of zones, a `ZoneSubscriber`.

    Versions are compared in a thread, one comparison of a zone at a time. Versions that follow
    during a comparison are compared with it as one change, so that few are kept in memory.
    """

    def __init__(self, changed: Callable[[bytes], None], most_bytes: int = MOST_BYTES) -> None:
        """Call `changed` with the origin when a new version can be transferred."""
        self._changed = changed
        self._most_bytes = most_bytes
        self._journals: dict[bytes, Journal] = {}
        self._tasks: dict[bytes, asyncio.Task[None]] = {}
        self._latest: dict[bytes, Zone] = {}
        """The last version of each zone that is being compared."""

    def records(self, zone: Zone, serial: int) -> Iterator[Sequence[bytes]] | None:
        """Return an incremental transfer to the version `zone`; None if a whole one is better.

        That is so if the changes since `serial` are not kept, or have more records than the zone
        (RFC 1995 section 4).
        """
        journal = self._journals.get(zone.origin)
        changes = None if journal is None else journal.since(serial, zone.serial)
        if changes is None or sum(change.number for change in changes) > zone.records:
            return None
        return incremental(changes)

    def comparison(self, origin: bytes) -> asyncio.Task[None] | None:
        """Return the task that compares versions of a zone now, None without one."""
        return self._tasks.get(origin)

    def zone_changed(self, served: ServedZone, before: Zone | None) -> None:
        """Compare a new version of a zone with the one before."""
        origin, current = served.origin, served.current
        if current is None:
            return  # expired: the next version begins anew
        if before is None or before.serial == current.serial:
            self._begin_anew(origin)
            self._changed(origin)
            return
        self._latest[origin] = current
        if origin not in self._tasks:
            name = f"compare versions of {to_text(origin)}"
            task = asyncio.create_task(self._follow(origin, before), name=name)
            self._tasks[origin] = task

    def zone_removed(self, served: ServedZone) -> None:
        """Forget the changes of a zone."""
        self._begin_anew(served.origin)

    def stop(self) -> None:
        """Stop comparing."""
        for origin in list(self._tasks):
            self._begin_anew(origin)

    def _begin_anew(self, origin: bytes) -> None:
        self._journals.pop(origin, None)
        self._latest.pop(origin, None)
        task = self._tasks.pop(origin, None)
        if task is not None:
            task.cancel()

    async def _follow(self, origin: bytes, before: Zone) -> None:
        """Compare versions until there is no later one."""
        while (after := self._latest.pop(origin, None)) is not None:
            try:
                change = await in_thread(partial(change_of, before, after))
            except Exception:
                LOG.exception("the versions of zone %r cannot be compared", to_text(origin))
                self._journals.pop(origin, None)
            else:
                journal = self._journals.pop(origin, None) or Journal()
                journal.add(change)
                self._journals[origin] = journal  # the last one is the most recent one
                self._shrink()
            self._changed(origin)
            before = after
        del self._tasks[origin]

    def _shrink(self) -> None:
        """Empty journals until the size of all is within the limit."""
        size = sum(journal.size for journal in self._journals.values())
        for journal in list(self._journals.values()):
            if size <= self._most_bytes:
                return
            size -= journal.size
            journal.clear()
