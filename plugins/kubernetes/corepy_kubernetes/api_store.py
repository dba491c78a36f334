"""The objects of a cluster as this process knows them, and the receivers of their changes.

A process has one store for each configuration of the API. Its receivers are the indexes of the
handlers, and, in the leader of a server with several processes, the followers. A receiver that
joins later gets all objects first, in portions of a few milliseconds of work, and then the changes.
"""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import TYPE_CHECKING, Final, Protocol

from corepy.plugin import plugin_logger
from corepy_kubernetes.api_turns import Turns
from corepy_kubernetes.item_lines import Put, Removed, Synced
from corepy_kubernetes.objects import KINDS, Serials

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from corepy_kubernetes.item_lines import Change
    from corepy_kubernetes.objects import Feed, Item, Kind, Relist

    Key = tuple[str, str]
    """Namespace and name."""

UNKNOWN_VERSION: Final = -1
MOST_TOMBSTONES: Final = 1000
"""Removed objects whose versions are remembered, so that a late event does not restore them."""

MOST_OBJECTS: Final = 1_000_000
"""Objects of a kind; Kubernetes supports 150,000 pods. Further ones are left out."""

PORTION: Final = 100
"""Objects that a receiver takes between two turns of the event loop."""


_log = plugin_logger("kubernetes")


class Receiver(Protocol):
    """Gets the changes of a store."""

    def change(self, change: Put | Removed | Synced) -> None:
        """Take a change; it returns at once."""


class Store:
    """The objects by kind; all changes go through its methods."""

    def __init__(self, kinds: Iterable[Kind]) -> None:
        self.kinds = tuple(kinds)
        self.receivers: list[Receiver] = []
        self.synced: set[Kind] = set()
        """The kinds of which there was a whole list, from the API or from a snapshot."""
        self._objects: dict[Kind, dict[Key, tuple[int, Item]]] = {kind: {} for kind in self.kinds}
        self._tombstones: dict[Kind, dict[Key, int]] = {kind: {} for kind in self.kinds}
        self._full: set[Kind] = set()
        """The kinds of which objects were left out."""
        self.changes = 0
        """The number of changes so far."""

    @property
    def is_synced(self) -> bool:
        """Whether there was a whole list of each kind."""
        return len(self.synced) == len(self.kinds)

    def __len__(self) -> int:
        return sum(map(len, self._objects.values()))

    def has(self, kind: Kind, namespace: str, name: str) -> bool:
        """Return whether there is an object with this name."""
        return (namespace, name) in self._objects[kind]

    def items(self, kind: Kind) -> Iterator[Item]:
        """Yield the objects of a kind; the store must not change meanwhile."""
        return (item for _, item in self._objects[kind].values())

    def put(
        self,
        item: Item,
        version: int = UNKNOWN_VERSION,
        triggered: float | None = None,
        *,
        is_listed: bool = False,
    ) -> None:
        """Add or replace an object.

        An event that is older than the object, or than its removal, has no effect; a list is always
        believed, because the API may have been restored from a backup.
        """
        kind, key = KINDS[type(item)], (item.namespace, item.name)
        objects = self._objects[kind]
        found = objects.get(key)
        if version > UNKNOWN_VERSION and not is_listed:
            known = self._tombstones[kind].get(key) if found is None else found[0]
            if known is not None and version <= known:
                return
        if found is None and len(objects) >= MOST_OBJECTS:
            self._leave_out(kind)
            return
        objects[key] = version, item
        if found is None or item != found[1]:
            self._pass_on(Put(kind, item, triggered))

    def _leave_out(self, kind: Kind) -> None:
        if kind not in self._full:
            self._full.add(kind)
            message = "there are more than %d %s, so further ones are ignored"
            _log.error(message, MOST_OBJECTS, kind.value)

    def remove(self, kind: Kind, namespace: str, name: str, version: int = UNKNOWN_VERSION) -> None:
        """Remove an object, unless the event is older than it; unknown ones are ignored."""
        key = namespace, name
        found = self._objects[kind].get(key)
        if found is not None and UNKNOWN_VERSION < version < found[0]:
            return
        if version != UNKNOWN_VERSION:
            self._add_tombstone(self._tombstones[kind], key, version)
        if found is not None:
            del self._objects[kind][key]
            self._pass_on(Removed(kind, namespace, name))

    def _add_tombstone(self, tombstones: dict[Key, int], key: Key, version: int) -> None:
        tombstones[key] = max(version, tombstones.pop(key, UNKNOWN_VERSION))
        if len(tombstones) > MOST_TOMBSTONES:
            del tombstones[next(iter(tombstones))]

    def relist(self, kind: Kind) -> StoreList:
        """Begin a list of all objects of a kind; nothing is removed before its end."""
        return StoreList(self, kind)

    def _pass_on(self, change: Put | Removed | Synced) -> None:
        self.changes += 1
        for receiver in self.receivers:
            receiver.change(change)

    def finish(self, kind: Kind, listed: set[Key]) -> None:
        """End a list: remove the objects that are not in it."""
        for namespace, name in [key for key in self._objects[kind] if key not in listed]:
            self.remove(kind, namespace, name)
        self._tombstones[kind].clear()
        if kind not in self.synced:
            self.synced.add(kind)
            self._pass_on(Synced(kind))

    def snapshot(self) -> Iterator[Put | Synced]:
        """Yield the changes that make an empty store equal to this one.

        The store may change meanwhile: an object has the state of the moment at which it is taken,
        and those that are added later may be missing.
        """
        for kind in self.kinds:
            objects = self._objects[kind]
            for key in list(objects):
                found = objects.get(key)
                if found is not None:
                    yield Put(kind, found[1])
            if kind in self.synced:
                yield Synced(kind)


class StoreList:
    """A list of all objects of a kind, which may take several pages."""

    def __init__(self, store: Store, kind: Kind) -> None:
        self._store = store
        self._kind = kind
        self._keys: set[Key] = set()

    def put(self, item: Item, version: int = UNKNOWN_VERSION) -> None:
        """Add or replace an object of the list."""
        self._store.put(item, version, is_listed=True)
        self.keep(item.namespace, item.name)

    def keep(self, namespace: str, name: str) -> None:
        """Leave an object of the list as it is known."""
        if self._store.has(self._kind, namespace, name):  # not beyond `MOST_OBJECTS`
            self._keys.add((namespace, name))

    async def remove_others(self) -> None:
        """Remove the objects that are not in the list, which may be many, in turns."""
        turns = Turns()
        for item in list(self._store.items(self._kind)):
            if (item.namespace, item.name) not in self._keys:
                self._store.remove(self._kind, item.namespace, item.name)
                await turns.take()

    def finish(self) -> None:
        """End the list: remove the objects that are not in it."""
        self._store.finish(self._kind, self._keys)


class ChangeQueue:
    """Changes that a receiver has not taken yet: all objects, then of each object the last change.

    So its size is bounded by the number of objects that exist, or have existed meanwhile.
    """

    def __init__(self, store: Store) -> None:
        """Begin with all objects of a store, which are taken from it as late as possible."""
        self._first: Iterator[Put | Synced] | None = store.snapshot()
        self._changes: dict[object, Put | Removed | Synced] = {}

    def add(self, change: Put | Removed | Synced) -> None:
        """Add a change in place of an earlier one of the same object."""
        self._changes[_subject(change)] = change

    def __bool__(self) -> bool:
        return self._first is not None or bool(self._changes)

    def __len__(self) -> int:
        """Return the number of changes, without the first objects."""
        return len(self._changes)

    def take(self, most: int) -> list[Put | Removed | Synced]:
        """Remove and return the oldest changes."""
        if self._first is not None:
            found = list(islice(self._first, most))
            if len(found) < most:
                self._first = None
            return [*found]
        subjects = list(islice(self._changes, most))
        return [self._changes.pop(subject) for subject in subjects]


def _subject(change: Put | Removed | Synced) -> object:
    match change:
        case Put(kind, item):
            return kind, item.namespace, item.name
        case Removed():
            return tuple(change)
        case _:
            return change.kind


class FeedReceiver:
    """Passes the objects of a store to the index of a handler."""

    def __init__(self, store: Store, feed: Feed) -> None:
        self.feed = feed
        self._lists: dict[Kind, Relist] = {kind: feed.relist(kind) for kind in store.kinds}
        """The lists of kinds that are not complete yet."""
        self._queue = ChangeQueue(store)
        self._filling: asyncio.Task[None] | None = None
        self._serials: Serials | None = None
        store.receivers.append(self)
        self._store = store

    def start(self, name: str, serials: Serials | None = None) -> None:
        """Begin to pass what the store has; the feed gets `serials` at the end of it."""
        self._serials = serials
        if self._queue:
            self._filling = asyncio.create_task(self._fill(), name=f"fill the index of {name}")

    def change(self, change: Put | Removed | Synced) -> None:
        """Pass a change, behind those that wait."""
        if self._queue:
            self._queue.add(change)
        else:
            self._apply(change)

    async def _fill(self) -> None:
        while self._queue:
            self._take()
            await asyncio.sleep(0)

    def _take(self) -> None:
        for change in self._queue.take(PORTION):
            self._apply(change)
        if not self._queue and self._serials is not None:
            self.feed.serials = self._serials

    def _apply(self, change: Put | Removed | Synced) -> None:
        match change:
            case Put(kind, item, triggered):
                if kind in self._lists:
                    self._lists[kind].put(item)
                else:
                    self.feed.put(item, triggered)
            case Removed(kind, namespace, name):
                self.feed.remove(kind, namespace, name)
            case Synced(kind):
                if kind in self._lists:
                    self._lists.pop(kind).finish()

    def stop(self) -> None:
        """Pass no further changes."""
        self._store.receivers.remove(self)
        if self._filling is not None:
            self._filling.cancel()


class Applier:
    """Applies changes from a snapshot or from another process to a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lists = {kind: store.relist(kind) for kind in store.kinds}
        self.serials: Serials | None = None

    def apply(self, change: Change) -> None:
        """Apply a change; raises ValueError for a kind that the store has not."""
        match change:
            case Put(kind, item, triggered):
                self._require(kind)
                if kind in self._lists:
                    self._lists[kind].put(item)
                else:
                    self._store.put(item, triggered=triggered)
            case Removed(kind, namespace, name):
                self._require(kind)
                self._store.remove(kind, namespace, name)
            case Synced(kind):
                self._require(kind)
                if kind in self._lists:
                    self._lists.pop(kind).finish()
            case _:
                self.serials = change

    def _require(self, kind: Kind) -> None:
        if kind not in self._store.kinds:
            raise ValueError(f"{kind.value} are not wanted")
