"""The entries that a cache stores, which two caches share during a reload.

The limits of the cache that stays are applied when the other one has left: in slices, because a
large cache takes time. TTLs only decrease.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Protocol

from corepy_cache.changes import RecentChanges
from corepy_cache.entry_table import EntryTable
from corepy_cache.keys import Networks
from corepy_cache.purge import SLICE, remove_entries

if TYPE_CHECKING:
    from corepy_cache.budget import Budget
    from corepy_cache.entry import CacheEntry
    from corepy_cache.settings import Settings


class User(Protocol):
    """A cache that uses the entries; see `cache_store.CacheStore`."""

    settings: Settings

    def limit(self, entry: CacheEntry) -> bool:
        """Apply the settings to an entry stored under others; return whether it may be kept."""


class Contents:
    """The entries that one *cache* directive stores, and during a reload its successor, too."""

    __slots__ = ("changes", "denial", "networks", "success", "users", "uses_lookups")

    def __init__(self, settings: Settings, budget: Budget) -> None:
        self.success = EntryTable(settings.success.capacity, budget)
        self.denial = EntryTable(settings.denial.capacity, budget)
        self.networks = Networks()
        self.changes = RecentChanges()
        self.uses_lookups = False
        """Whether a reply was made with `corepy.plugin.lookup`, so that other blocks matter."""
        self.users: list[User] = []
        """The caches that use this object, the newest last."""

    @property
    def min_ttls(self) -> tuple[int, int]:
        """The minimum TTLs up to which positive entries and denials may have been extended."""
        settings = [user.settings for user in self.users]
        return (
            max((it.success.min_ttl for it in settings), default=0),
            max((it.denial.min_ttl for it in settings), default=0),
        )

    async def leave(self, user: User) -> bool:
        """Let `user` go; return whether another one remains, whose limits apply from now on."""
        if user in self.users[:-1]:  # before it goes, since `min_ttls` counts it until then
            await self._remove_extended(user.settings, self.users[-1].settings)
        if user in self.users:
            self.users.remove(user)
        if not self.users:
            return False
        await self._limit(self.users[-1])
        return True

    async def _remove_extended(self, before: Settings, after: Settings) -> None:
        """Remove the entries that may live too long, because the minimum TTL was higher before."""
        positive = self.success, before.success, after.success
        for table, earlier, bounds in (positive, (self.denial, before.denial, after.denial)):
            if bounds.min_ttl < earlier.min_ttl:
                await remove_entries(table, partial(is_within, earlier.min_ttl))

    async def _limit(self, user: User) -> None:
        settings = user.settings
        for table, bounds in ((self.success, settings.success), (self.denial, settings.denial)):
            await remove_entries(table, lambda entry: not user.limit(entry))
            table.capacity = bounds.capacity
            while len(table) > bounds.capacity:
                for _ in range(min(len(table) - bounds.capacity, SLICE)):
                    table.evict()
                await asyncio.sleep(0)
            table.evicted = 0


def is_within(ttl: int, entry: CacheEntry) -> bool:
    """Return whether a minimum of `ttl` may have extended an entry, or the answer behind it."""
    good = entry.last_good
    return entry.ttl <= ttl or (good is not None and is_within(ttl, good))
