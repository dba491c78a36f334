"""The content of a hosts file, for look-ups by name and by address.

An entry of a list with 100,000 names takes little memory: keys and values are `bytes` (wire names
and packed addresses), which the garbage collector does not traverse, and equal addresses on
consecutive lines are one object.

Each table consists of many small dictionaries, because growing or freeing a large one is a single
operation, for which a query would wait.
"""

from __future__ import annotations

import time
from typing import Final, Generic, NamedTuple, TypeVar

from corepy.dns.names import ROOT, is_subdomain
from corepy_hosts.reverse import address_of

WILDCARD: Final = b"\x01*"
"""The first label of a wildcard, `*`, in wire form."""

MOST_BYTES: Final = 60_000
"""Maximum bytes of the records of one name: a message has at most 65,535."""

_LEAST_RECORD: Final = 14
"""Bytes of the shortest record with a name, whose owner is a pointer."""

_MOST_NAMES: Final = MOST_BYTES // _LEAST_RECORD
_OVERHEAD: Final = 12
"""Bytes of a record without its data."""

MOST_DIFFERENCES: Final = 10_000
"""Differences up to which they are counted: the event loop would take long to free large sets."""

_SHARDS: Final = 64
_SHARD_MASK: Final = _SHARDS - 1

Value = TypeVar("Value")

Addresses = tuple[bytes, bytes]
"""The IPv4 and the IPv6 addresses of a name, packed and concatenated."""


class Shards(Generic[Value]):
    """A mapping that grows in small steps, and can be freed in small steps."""

    __slots__ = ("_shards",)

    def __init__(self) -> None:
        self._shards: tuple[dict[bytes, Value], ...] = tuple({} for _ in range(_SHARDS))

    def shard(self, key: bytes) -> dict[bytes, Value]:
        """Return the dictionary for a key."""
        return self._shards[hash(key) & _SHARD_MASK]

    def keys(self) -> set[bytes]:
        """Return all keys."""
        return {key for shard in self._shards for key in shard}

    def has_names_below(self, name: bytes) -> bool:
        """Return whether a key is a name below `name`, in a thread."""
        for shard in self._shards:
            for key in list(shard):  # in one step: another thread may free the shard
                if len(key) > len(name) and is_subdomain(key, name):
                    return True
            time.sleep(0)  # the event loop may run
        return False

    def differences(self, other: Shards[Value]) -> set[bytes]:
        """Return the keys whose values differ, or that only one of the two mappings has.

        If there are more than MOST_DIFFERENCES, only some of them are returned, but more than that.
        """
        found: set[bytes] = set()
        for mine, theirs in zip(self._shards, other._shards, strict=True):
            found.update(key for key, value in mine.items() if theirs.get(key) != value)
            found.update(theirs.keys() - mine.keys())
            if len(found) > MOST_DIFFERENCES:
                break
            time.sleep(0)  # the event loop may run
        return found

    def free(self) -> None:
        """Remove everything, in a thread: the event loop may run between two steps."""
        for shard in self._shards:
            shard.clear()
            time.sleep(0)


class HostTable:
    """Names with their addresses, and addresses with their names; each pair once, in file order."""

    __slots__ = ("_names", "_v4", "_v6", "entries", "has_wildcards", "modified", "problem")

    def __init__(self) -> None:
        self._v4 = Shards[bytes]()
        self._v6 = Shards[bytes]()
        self._names = Shards[bytes | list[bytes]]()
        self.has_wildcards = False
        self.entries = 0
        """Number of addresses of all names, and of names of all addresses (CoreDNS: Map.Len)."""
        self.modified = 0.0
        """Modification time of the file, in seconds of the wall clock; 0 if none was read."""
        self.problem = ""
        """A message about lines of the file that cannot be used, "" if all can."""

    def add(self, name: bytes, address: bytes, *, with_reverse: bool) -> bool:
        """Add a pair; return False if the records of the name would not fit into a message.

        `name` is in wire form and lower case, and may be a wildcard, which has no reverse entry;
        `address` is packed.
        """
        size = len(address)
        family = (self._v4 if size == 4 else self._v6).shard(name)
        known = family.get(name)
        if known is None:
            family[name] = address
        elif _contains(known, address):
            return True
        elif (len(known) // size + 1) * (size + _OVERHEAD) > MOST_BYTES:
            return False
        else:
            family[name] = known + address
        self.entries += 1
        if name.startswith(WILDCARD):
            self.has_wildcards = True
        elif with_reverse:
            self._add_name(address, name)
        return True

    def _add_name(self, address: bytes, name: bytes) -> None:
        """Add a name of an address, unless there are more than a message has room for."""
        names = self._names.shard(address)
        known = names.get(address)
        if known is None:
            names[address] = name
        elif type(known) is bytes:
            names[address] = [known, name]
        elif len(known) < _MOST_NAMES:
            known.append(name)  # type: ignore[union-attr]  # not bytes
        else:
            return
        self.entries += 1

    def find(self, name: bytes) -> Addresses | None:
        """Return the addresses of a name in wire form and lower case, None if there are none.

        A wildcard matches a name with one more label, unless the name has an entry of its own,
        whatever its address family (RFC 4592 section 2.2.1).
        """
        found = self._own(name)
        if found is None and self.has_wildcards and name != ROOT:
            return self._own(WILDCARD + name[name[0] + 1 :])
        return found

    def _own(self, name: bytes) -> Addresses | None:
        v4 = self._v4.shard(name).get(name, b"")
        v6 = self._v6.shard(name).get(name, b"")
        return (v4, v6) if v4 or v6 else None

    def names_of(self, reverse_name: bytes) -> list[bytes]:
        """Return the names of the address in a reverse name such as 1.2.0.192.in-addr.arpa."""
        address = address_of(reverse_name)
        names = None if address is None else self._names.shard(address).get(address)
        if names is None:
            return []
        return [names] if isinstance(names, bytes) else names

    def has_names_below(self, name: bytes) -> bool:
        """Return whether a name below `name`, or a wildcard there, has addresses; in a thread."""
        return self._v4.has_names_below(name) or self._v6.has_names_below(name)

    def names(self) -> set[bytes]:
        """Return the names that have addresses, wildcards among them."""
        return self._v4.keys() | self._v6.keys()

    def differences(self, other: HostTable) -> Differences:
        """Return the entries in which two tables differ, in a thread."""
        names = self._v4.differences(other._v4)
        names |= self._v6.differences(other._v6)
        has_wildcards = self.has_wildcards or other.has_wildcards
        return Differences(names, self._names.differences(other._names), has_wildcards)

    def free(self) -> None:
        """Remove everything, in a thread."""
        for shards in (self._v4, self._v6, self._names):
            shards.free()


class Differences(NamedTuple):
    """The entries in which two tables differ."""

    names: set[bytes]
    """Names with other addresses, wildcards among them."""
    addresses: set[bytes]
    """Addresses with other names."""
    has_wildcards: bool

    def affect(self, name: bytes) -> bool:
        """Return whether a reply for a name, in wire form and lower case, may have changed.

        If the tables have too many differences, every reply may have changed.
        """
        if len(self.names) > MOST_DIFFERENCES or len(self.addresses) > MOST_DIFFERENCES:
            return True
        if name in self.names:
            return True
        if self.has_wildcards and WILDCARD + name[name[0] + 1 :] in self.names:
            return True
        return address_of(name) in self.addresses


def _contains(addresses: bytes, address: bytes) -> bool:
    """Return whether `address` is one of concatenated `addresses`."""
    size = len(address)
    at = addresses.find(address)
    while at >= 0 and at % size:
        at = addresses.find(address, at + 1)
    return at >= 0
