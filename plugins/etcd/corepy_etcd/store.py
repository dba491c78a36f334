"""`Store`: a copy of the services below one path of etcd."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corepy.dns import constants as c
from corepy.dns.names import lower, parent_offsets
from corepy.plugin import plugin_logger
from corepy.plugin.backend_records import parse_host
from corepy_etcd.leases import Leases
from corepy_etcd.skydns import Entry, UnusableRecord, name_of_key, service_of_value
from corepy_etcd.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

LOG: Final = plugin_logger("etcd")

MOST_BYTES: Final = 256 << 20
"""Bytes of memory that the copy takes, about 250,000 keys."""

OVERHEAD: Final = 900
"""Bytes of memory for a key, besides those of the key and the value; measured."""

MOST_WARNINGS: Final = 100
"""Unusable keys that are logged one by one."""

MOST_UNUSABLE: Final = 10_000
"""Unusable keys that are remembered, so that each is logged once."""


class Store:
    """The services, by key and by name.

    `changed` is called with the key of each effective change.
    """

    def __init__(self, prefix: str, changed: Callable[[bytes], object]) -> None:
        """Keep the keys that begin with `prefix`, such as "/skydns/"."""
        self.prefix = prefix.encode("utf-8", "surrogateescape")
        self.entries: dict[bytes, Entry] = {}
        self.leases = Leases()
        self.size = 0
        """Bytes of memory, about."""
        self.problem = ""
        """Why keys are left out, "" if none is."""
        self.unusable: dict[bytes, bytes] = {}
        """The beginnings of values that cannot be used, by key."""
        self._tree = Tree()
        self._aliases: dict[bytes, set[bytes]] = {}  # keys by the name that is their host
        self._changed = changed

    def __len__(self) -> int:
        return len(self.entries)

    def find(self, name: bytes, *, exact: bool) -> list[Entry] | None:
        """Return the entries of a name in lower case; see `Tree.find`."""
        return self._tree.find(name, exact=exact)

    # -- changes

    def put(self, key: bytes, value: bytes, lease: int) -> None:
        """Take a value that etcd has; an unusable one removes its key from the copy."""
        try:
            service = service_of_value(value, name_of_key(key, self.prefix))
        except UnusableRecord as error:
            self._refuse(key, value, str(error))
            self.replace(key, None)
        else:
            self.unusable.pop(key, None)
            self.replace(key, Entry(key, service, lease, OVERHEAD + len(key) + len(value)))

    def remove(self, key: bytes) -> None:
        """Remove a key that etcd does not have."""
        self.unusable.pop(key, None)
        self.replace(key, None)

    def replace(self, key: bytes, entry: Entry | None) -> None:
        """Replace the entry of a key; None removes it."""
        before = self.entries.get(key)
        if entry == before:
            return
        if entry is not None and self._exceeds(entry.size - (before.size if before else 0)):
            self._leave_out(key)
            entry = None
            if before is None:
                return
        if before is not None:
            self._take_away(before)
        if entry is not None:
            self._add(entry)
        self._changed(key)

    def relist(self) -> Relist:
        """Begin to compare the copy with all that etcd has."""
        return Relist(self)

    def _add(self, entry: Entry) -> None:
        key, service = entry.key, entry.service
        self.entries[key] = entry
        self.size += entry.size
        self._tree.set(service.key, key, entry)
        if entry.lease:
            self.leases.use(entry.lease)
        if target := _alias_of(entry):
            self._aliases.setdefault(target, set()).add(key)

    def _take_away(self, entry: Entry) -> None:
        key = entry.key
        del self.entries[key]
        self.size -= entry.size
        self._tree.set(entry.service.key, key, None)
        if entry.lease:
            self.leases.release(entry.lease)
        if target := _alias_of(entry):
            keys = self._aliases[target]
            keys.discard(key)
            if not keys:
                del self._aliases[target]

    def _exceeds(self, more: int) -> bool:
        return self.size + more > MOST_BYTES

    def _leave_out(self, key: bytes) -> None:
        if not self.problem:
            path, most = shown_key(self.prefix), MOST_BYTES >> 20
            self.problem = f"the keys below {path} take more than {most} MiB: some are left out"
            LOG.error("%s, such as %s", self.problem, shown_key(key))

    def _refuse(self, key: bytes, value: bytes, reason: str) -> None:
        """Log an unusable value, once."""
        if self.unusable.get(key) == value[:1024] or len(self.unusable) >= MOST_UNUSABLE:
            return
        self.unusable[key] = value[:1024]
        if len(self.unusable) <= MOST_WARNINGS:
            LOG.warning("key %s is ignored: %s", shown_key(key), reason)
        elif len(self.unusable) == MOST_WARNINGS + 1:
            LOG.warning("more than %d keys are ignored; no more are logged", MOST_WARNINGS)

    # -- names

    def affected_names(self, keys: Iterable[bytes]) -> set[bytes]:
        """Return the names whose replies may change with some keys.

        They are the names of the keys, those above, and the names of services whose host is one of
        these, with those above.
        """
        found: set[bytes] = set()
        waiting = list(keys)
        while waiting:
            for name in self._names_up(waiting.pop()) - found:
                found.add(name)
                waiting += self._aliases.get(name, ())
        return found

    def _names_up(self, key: bytes) -> set[bytes]:
        """Return the name of a key and all names above it, down to the top-level domain."""
        try:
            name = name_of_key(key, self.prefix)
        except UnusableRecord:
            return set()
        return {name[at:] for at in parent_offsets(name)}


class Relist:
    """All that etcd has, in portions; keys that it does not have are removed at the end.

    A list that is not finished has only added and changed keys.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seen: set[bytes] = set()  # keys of the copy
        store.problem = ""

    def put(self, key: bytes, value: bytes, lease: int) -> None:
        """Take a value that etcd has."""
        store = self._store
        store.put(key, value, lease)
        if key in store.entries or key in store.unusable:  # not for keys beyond `MOST_BYTES`
            self._seen.add(key)

    def finish(self) -> None:
        """Remove the keys that etcd does not have."""
        gone = [key for key in self._store.entries if key not in self._seen]
        gone += [key for key in self._store.unusable if key not in self._seen]
        for key in gone:
            self._store.remove(key)


def _alias_of(entry: Entry) -> bytes:
    """Return the name that is the host of an entry, in lower case; b"" for an address."""
    host = parse_host(entry.service.host)
    return lower(host.rdata) if host.rtype == c.TYPE_CNAME else b""


def shown_key(key: bytes) -> str:
    """Return a key for a message."""
    text = key[:200].decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)
