"""`Catalogs`: adds and removes the member zones of catalog zones (RFC 9432 section 5)."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from corepy.dns.names import to_text
from corepy.plugin import in_thread, plugin_logger
from corepy_secondary.catalog import CatalogError, Member, read_members

if TYPE_CHECKING:
    from collections.abc import Mapping

    from corepy_secondary.follower import Follower
    from corepy_secondary.settings import Settings

LOG: Final = plugin_logger("secondary")


_PORTION: Final = 20
"""Members that are added without a pause."""


class Owner(Protocol):
    """The handler of the zones."""

    @property
    def followers(self) -> Mapping[bytes, Follower]:
        """All zones by their origins."""

    def settings_of(self, origin: bytes) -> Settings:
        """Return the settings of a zone."""

    async def add_member(self, origin: bytes, catalog: bytes) -> None:
        """Follow a zone, with the settings of its catalog."""

    async def remove_member(self, origin: bytes) -> None:
        """Stop to follow a zone."""


class Catalogs:
    """The member zones of all catalogs of a handler."""

    def __init__(self, owner: Owner) -> None:
        """Add and remove the zones of `owner`."""
        self._owner = owner
        self._members: dict[bytes, dict[bytes, Member]] = {}
        """The members that each catalog lists."""
        self._in_use: dict[bytes, tuple[bytes, Member]] = {}
        """The catalog and the entry of each zone that is followed for a catalog."""
        self._refused: set[tuple[bytes, bytes]] = set()
        self._turn = asyncio.Lock()

    def has(self, origin: bytes) -> bool:
        """Return whether a zone is followed for a catalog."""
        return origin in self._in_use

    async def apply_all(self) -> None:
        """Follow the members of all catalogs, as far as they are loaded."""
        for origin in list(self._owner.followers):
            if self._owner.settings_of(origin).members is not None:
                await self.apply(origin)

    async def apply(self, catalog: bytes) -> None:
        """Follow the members of a catalog that has a new version, and no former members."""
        async with self._turn:
            await self._apply(catalog)

    async def _apply(self, catalog: bytes) -> None:
        zone = self._owner.followers[catalog].zone
        if zone is None:
            return
        try:
            self._members[catalog] = await in_thread(partial(read_members, zone))
        except CatalogError as error:  # RFC 9432 section 5.1: the members stay as they are
            LOG.error("the catalog zone %s is not processed: %s", to_text(catalog), error)
            return
        await self._add(catalog)
        moves = any(it.new_owner is not None for it in self._members[catalog].values())
        if await self._remove(catalog) or moves:
            for other in self._members:  # it may have waited for a name
                if other != catalog:
                    await self._add(other)

    async def _add(self, catalog: bytes) -> None:
        allowed = self._owner.settings_of(catalog).members
        assert allowed is not None
        for number, member in enumerate(self._members[catalog].values(), 1):
            if not number % _PORTION:
                await asyncio.sleep(0)  # queries go on beside a catalog with many members
            if allowed.find(member.zone) is None:
                self._refuse(catalog, member.zone, "it is not one of the zones in the Corefile")
            elif member.zone not in self._in_use and member.zone in self._owner.followers:
                self._refuse(catalog, member.zone, "the Corefile has this zone")
            else:
                await self._follow(catalog, member)

    async def _follow(self, catalog: bytes, member: Member) -> None:
        """Follow a member, or continue to do so."""
        origin = member.zone
        owner, before = self._in_use.get(origin, (b"", None))
        if before is None:
            LOG.info("zone %s is added by the catalog %s", to_text(origin), to_text(catalog))
        elif owner == catalog and before.node == member.node:
            self._in_use[origin] = catalog, member
            return
        elif owner != catalog and not self._may_move(origin, owner, catalog):
            self._refuse(catalog, origin, f"it is a member of {to_text(owner)}")
            return
        else:
            kept = before.node == member.node and self._has_same_primaries(owner, catalog)
            LOG.info(
                "zone %s moves from the catalog %s to %s, %s",
                *(to_text(origin), to_text(owner), to_text(catalog)),
                "with its data" if kept else "and begins anew",
            )
            if kept:
                self._in_use[origin] = catalog, member
                return
            await self._owner.remove_member(origin)
        self._in_use[origin] = catalog, member
        await self._owner.add_member(origin, catalog)

    def _may_move(self, origin: bytes, owner: bytes, catalog: bytes) -> bool:
        """Return whether the owner of a member lets another catalog take it over (section 4.4.1).

        That is so if its property coo names the other catalog.
        """
        listed = self._members.get(owner, {}).get(origin)
        return listed is not None and listed.new_owner == catalog

    def _has_same_primaries(self, one: bytes, other: bytes) -> bool:
        settings = self._owner.settings_of(one), self._owner.settings_of(other)
        return settings[0].primaries == settings[1].primaries

    async def _remove(self, catalog: bytes) -> bool:
        """Stop to follow the former members of a catalog; return whether there were any."""
        allowed = self._owner.settings_of(catalog).members
        assert allowed is not None
        listed = self._members[catalog]
        gone = [
            origin
            for origin, (owner, _) in self._in_use.items()
            if owner == catalog and (origin not in listed or allowed.find(origin) is None)
        ]
        for origin in gone:
            del self._in_use[origin]
            LOG.info("zone %s is removed by the catalog %s", to_text(origin), to_text(catalog))
            await self._owner.remove_member(origin)
        self._refused = {it for it in self._refused if it[0] != catalog or it[1] in listed}
        return bool(gone)

    def _refuse(self, catalog: bytes, origin: bytes, reason: str) -> None:
        """Log once that a member is not followed."""
        if (catalog, origin) not in self._refused:
            self._refused.add((catalog, origin))
            message = "zone %s of the catalog %s is not followed: %s"
            LOG.warning(message, to_text(origin), to_text(catalog), reason)
