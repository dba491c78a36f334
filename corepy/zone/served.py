"""The zones that a handler serves, for the plugins of its server block.

A handler that serves zones is a `ZoneSource`. Another plugin finds it in the hook `before_listen`,
as all handlers (`corepy.plugin.block_handlers`), and subscribes to new versions:

    for handler in self.block_handlers:
        zones = zones_of(handler)
        if zones is not None:
            zones.subscribe(self)

All of this is called in the event loop; only a `ZoneBuilder` works in a thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from corepy.dns.names import parent_offsets, to_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from corepy.zone.zone import Zone


class ZoneSubscriber(Protocol):
    """An object that is called when zones are added, replaced and removed; it must not raise."""

    def zone_changed(self, served: ServedZone, before: Zone | None) -> None:
        """Handle a new version, `served.current`; `before` is None for a zone that is new.

        The current version is None when the zone has expired.
        """

    def zone_removed(self, served: ServedZone) -> None:
        """Handle a zone that is not served any more."""


class ServedZone:
    """A zone at one origin, and its current version."""

    __slots__ = ("_subscribers", "current", "is_expired", "origin")

    def __init__(self, origin: bytes, current: Zone | None = None) -> None:
        """`origin` is in wire form and lower case. Without a version, queries get SERVFAIL."""
        self.origin = origin
        self.current = current
        self.is_expired = False
        """Whether the last version may not be used any more (RFC 1035 section 3.3.13, EXPIRE)."""
        self._subscribers: list[ZoneSubscriber] = []

    def replace(self, zone: Zone) -> None:
        """Serve another version from the next query on, and call the subscribers.

        The caller clears the caches: `LifecycleContext.forget_names`.
        """
        before, self.current, self.is_expired = self.current, zone, False
        for subscriber in self._subscribers:
            subscriber.zone_changed(self, before)

    def expire(self) -> None:
        """Stop to serve the zone until the next version: queries get SERVFAIL."""
        before, self.current, self.is_expired = self.current, None, True
        for subscriber in self._subscribers:
            subscriber.zone_changed(self, before)

    def __repr__(self) -> str:
        return f"<ServedZone {to_text(self.origin)} {self.current!r}>"


class ServedZones:
    """The zones of one handler by their origins, which may come and go."""

    __slots__ = ("_by_origin", "_subscribers")

    def __init__(self) -> None:
        self._by_origin: dict[bytes, ServedZone] = {}
        self._subscribers: list[ZoneSubscriber] = []

    def __iter__(self) -> Iterator[ServedZone]:
        return iter(list(self._by_origin.values()))

    def __len__(self) -> int:
        return len(self._by_origin)

    def get(self, origin: bytes) -> ServedZone | None:
        """Return the zone at an origin in lower case, None without one."""
        return self._by_origin.get(origin)

    def find(self, name: bytes) -> ServedZone | None:
        """Return the zone with the longest origin that contains a name in lower case."""
        by_origin = self._by_origin
        for at in parent_offsets(name):
            found = by_origin.get(name[at:])
            if found is not None:
                return found
        return None

    def subscribe(self, subscriber: ZoneSubscriber) -> None:
        """Call `subscriber` from now on about all zones; nothing is called for those of now."""
        self._subscribers.append(subscriber)

    def add(self, served: ServedZone) -> None:
        """Serve one more zone, in place of one at the same origin."""
        before = self._by_origin.get(served.origin)
        self._by_origin[served.origin] = served
        served._subscribers = self._subscribers
        if served.current is not None:
            for subscriber in self._subscribers:
                subscriber.zone_changed(served, None if before is None else before.current)

    def remove(self, origin: bytes) -> None:
        """Stop to serve a zone; no effect if it is not served."""
        served = self._by_origin.pop(origin, None)
        if served is not None:
            for subscriber in self._subscribers:
                subscriber.zone_removed(served)


class ZoneSource(Protocol):
    """A handler that serves zones: *file*, *auto*, *secondary*; `zones_of` recognizes it."""

    zones: ServedZones


def zones_of(handler: object) -> ServedZones | None:
    """Return the zones of a `ZoneSource`, None for any other handler.

    `isinstance` does not distinguish them: other handlers, such as *tsig*, have an attribute with
    this name that is a matcher.
    """
    zones = getattr(handler, "zones", None)
    return zones if isinstance(zones, ServedZones) else None
