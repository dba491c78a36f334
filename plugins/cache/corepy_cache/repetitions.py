"""Count the packet cache's answers from an entry as hits of this cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from corepy_cache.entry import Entry
    from corepy_cache.handler import Cache
    from corepy_cache.meters import Meters


class Repetitions:
    """Counts the hits that the packet cache answered for one entry."""

    __slots__ = ("_cache", "_entry", "_meters")

    def __init__(self, cache: Cache, entry: Entry, meters: Meters) -> None:
        self._cache = cache
        self._entry = entry
        self._meters = meters

    def repeated(self, times: int) -> None:
        """Count `times` hits as if this cache had answered them."""
        cache, entry, meters = self._cache, self._entry, self._meters
        meters.requests.value += times
        hits = meters.denial_hits if entry.denial else meters.success_hits
        hits.value += times
        entry.used = True
        if cache.settings.prefetch.amount > 0:
            entry.count(times, cache.keeper.clock(), cache.settings.prefetch.duration)
