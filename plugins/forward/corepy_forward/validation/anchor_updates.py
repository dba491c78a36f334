"""`AnchorKeeper`: the current trust anchors, from files and from the DNSKEY sets of their zones.

Without a state file, the anchors are those of the files. With one, new keys of a zone are trusted
after 30 days, and revoked keys are not (RFC 5011). A configured anchor is always trusted unless its
key was revoked.

The processes of a server, and the generations before and after a reload, share the state file. The
leader alone writes it; all of them read it again when it has changed.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from corepy.dns.names import to_text
from corepy_forward.validation.anchor import Anchor, matches
from corepy_forward.validation.anchor_reports import log, report_changes
from corepy_forward.validation.anchor_schedule import Schedule
from corepy_forward.validation.anchor_states import (
    GONE,
    TRUSTED,
    advance,
    changes,
    expire,
    is_signed,
    shift,
)
from corepy_forward.validation.anchor_store import ZoneState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from corepy_forward.validation.anchor import Configured, SeenKeys
    from corepy_forward.validation.anchor_sources import AnchorSources
    from corepy_forward.validation.anchor_states import Keys
    from corepy_forward.validation.anchor_store import Zones

_SHORTEST_KEY = 5


class AnchorKeeper:
    """The trust anchors of all zones; `AnchorService` calls it from hooks and timers."""

    def __init__(self, sources: AnchorSources, state: Path | None = None) -> None:
        """Begin with the configured anchors; `state` is the path of the state file."""
        self.sources = sources
        self.state = state
        self.zones: Zones = {}
        self.anchors: dict[bytes, Anchor] = {}
        self.deleted: tuple[bytes, ...] = ()
        """Zones whose keys were all revoked: they have no anchor (RFC 5011 section 5)."""

        self.unsigned: set[bytes] = set()
        """Zones whose last DNSKEY set no trusted key has signed."""

        self.version = 0
        self.schedule = Schedule()
        self.is_changed = False
        """Whether the state file is to be written."""

        self.tracks = False
        """Whether this process tracks keys, as the leader of a server with a state file."""

        self.synchronize: Callable[[], object] = lambda: None
        """Reads the state file if another process has written it."""

        self.rebuild()

    def observe(self, zone: bytes, seen: SeenKeys) -> None:
        """Track the keys of a zone by a DNSKEY set that was just received."""
        if zone not in self.sources.zones:
            return
        self.synchronize()
        now = time.time()  # time of day: RFC 5011 compares it with times in the state file
        is_configured = self._is_configured(zone, now)
        keys = tuple(key for key in seen.keys if len(key) >= _SHORTEST_KEY)
        seen = seen._replace(keys=keys, signers=seen.signers.intersection(keys))
        if is_signed(self._keys(zone), seen, is_configured):
            self.unsigned.discard(zone)
            self.schedule.succeeded(zone, seen, now)
        else:
            self.unsigned.add(zone)
        if self.tracks:
            self._replace(zone, advance(self._keys(zone), seen, is_configured, int(now)))

    def _keys(self, zone: bytes) -> Keys:
        return self.zones[zone].keys if zone in self.zones else {}

    def _is_configured(self, zone: bytes, now: float) -> Callable[[bytes], bool]:
        usable = _usable(self.sources.zones[zone], now)
        return lambda key: any(anchor.matches(key) for anchor in usable)

    def _replace(self, zone: bytes, keys: Keys) -> None:
        """Replace the states of a zone's keys, and report the changes."""
        before = self._keys(zone)
        state = ZoneState(self._origins(zone), keys)
        if self.zones.get(zone) == state:
            return
        self.zones = self.zones | {zone: state}
        self.is_changed = True
        report_changes(zone, keys, changes(before, keys))
        self.rebuild()

    def _origins(self, zone: bytes) -> frozenset[bytes]:
        return frozenset(anchor.identity for anchor in self.sources.zones[zone])

    def expire(self) -> None:
        """Remove the revoked keys whose hold-down time has ended."""
        now = int(time.time())  # time of day: as in `observe`
        for zone in self.zones if self.tracks else ():
            if zone in self.sources.zones:
                self._replace(zone, expire(self._keys(zone), now))

    def shift(self, before: float, seconds: float) -> None:
        """Move hold-down times with the clock, which was set from `before` by `seconds`."""
        zones = {
            name: zone._replace(keys=shift(zone.keys, int(before), int(seconds)))
            for name, zone in self.zones.items()
        }
        if self.tracks and zones != self.zones:
            self.zones, self.is_changed = zones, True

    def adopt(self, stored: Zones) -> None:
        """Use the states that were read from the file, as far as they belong to the anchors.

        A key that is known to be revoked stays so.
        """
        zones = {
            name: ZoneState(self._origins(name), self._adopted(name, stored.get(name)))
            for name in self.sources.zones
        }
        if self.tracks and zones != stored:
            self.is_changed = True
        self.zones = zones
        self.rebuild()

    def _adopted(self, zone: bytes, stored: ZoneState | None) -> Keys:
        """Return the states to use of a zone, for which the file has `stored`."""
        kept, origins = _gone(self._keys(zone)), self._origins(zone)
        keys = {} if stored is None else dict(stored.keys)
        if stored is not None and not origins & stored.origins:
            name = to_text(zone)
            log.warning(
                "trust anchors of %s: the states are of other anchors; they are not used", name
            )
            keys = _gone(keys)
        elif stored is not None:
            keys = _without(zone, keys, stored.origins - origins)
        return keys | {key: it for key, it in kept.items() if key not in _gone(keys)}

    def rebuild(self) -> bool:
        """Compute the anchors from files and states; return whether they have changed."""
        now = time.time()  # time of day: anchors of IANA have periods of validity
        anchors, deleted = {}, []
        for zone, configured in self.sources.zones.items():
            anchor = _combine(zone, configured, self._keys(zone), now)
            if anchor is None:
                deleted.append(zone)
            else:
                anchors[zone] = anchor
        self.deleted = tuple(deleted)
        if anchors == self.anchors:
            return False
        self.anchors = anchors
        self.version += 1
        return True


def _usable(configured: Iterable[Configured], now: float) -> list[Configured]:
    return [it for it in configured if it.period.begins <= now < it.period.ends]


def _gone(keys: Keys) -> Keys:
    return {key: it for key, it in keys.items() if it.state in GONE}


def _without(zone: bytes, keys: Keys, removed: Iterable[bytes]) -> Keys:
    """Return the states without the keys of configured anchors that were removed.

    A key that is still in the zone is a new one, then.
    """
    return {
        key: it
        for key, it in keys.items()
        if it.state in GONE or not any(matches(zone, ds, key) for ds in removed)
    }


def _combine(zone: bytes, configured: list[Configured], keys: Keys, now: float) -> Anchor | None:
    """Return the anchor of a zone, None if all of its keys were revoked."""
    gone = _gone(keys)
    alive = [it for it in configured if not any(it.matches(key) for key in gone)]
    trusted = [key for key, it in keys.items() if it.state in TRUSTED]
    if not alive and not trusted:
        return None
    usable = _usable(alive, now)
    ds = tuple(it.rdata for it in usable if it.is_ds)
    dnskeys = [it.rdata for it in usable if not it.is_ds]
    return Anchor(zone, ds, tuple(dict.fromkeys([*dnskeys, *trusted])))
