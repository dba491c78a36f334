"""Replies by the bytes of the query, in front of the chain.

A query is answered from here when the very same bytes, its ID aside, came to the same socket before
and the chain would answer it the same way again. That is known for a reply that

* comes from a site whose chain has a keeper (the cache plugin) and above it only handlers that are
  pure or observers (`Site.obstacle`), and has a `Reply.deadline`, which is the keeper's word that
  it holds until then;
* answered a plain query: opcode QUERY, no EDNS options (cookies, client subnet), no capitals in the
  name. Others could be kept as well but come in too many variants to be worth their memory;
* belongs to the generation that answers now: a swap empties the cache.

Address, port and transport need no key, since each socket has a cache of its own; everything else
that a reply can depend on (flags, name, type, class, EDNS size, DO) is in the bytes.

TTLs are lowered where the reply lies, once a second at most. Hits are counted on the entry and
credited in bulk to the reply's observers when the entry ages or goes, and within a second.
"""

from __future__ import annotations

import asyncio
import os
import struct
from typing import TYPE_CHECKING, Final, TypeGuard

from corepy.dns import wire
from corepy.net.memory import Arena
from corepy.plugin.memory import cgroup_limit
from corepy.server.failure import report_background

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corepy.dns import Reply, Request
    from corepy.net.memory import Chunk

LARGEST_MEMORY: Final = 64 * 1024 * 1024
SHARE: Final = 8
"""Bytes that all packet caches of the process may take together, bookkeeping included, and the part
of the cgroup's memory limit, one in so many, that they take at most.
"""

ENTRY_SIZE: Final = 640
"""Bytes that an entry takes beside the reply and its key: the object, its numbers, its place in the
dictionary (measured; a test holds it to the truth).
"""

MAX_SIZE: Final = 1232
"""Bytes of the largest reply kept: a larger one is not what a cache is asked all day."""

CREDIT_INTERVAL: Final = 1.0
SWITCH: Final = "COREPY_PACKET_CACHE"
"""Environment variable; "off" sends every query down the chain."""

_OPCODE_BITS: Final = 0x78
_pack_iov = struct.Struct("=QQ").pack


def is_enabled() -> bool:
    """Return whether this process wants packet caches at all."""
    return os.environ.get(SWITCH, "on").lower() != "off"


class Room:
    """The memory that all packet caches of a process share."""

    def __init__(self, limit: int | None = None) -> None:
        """Take at most `limit` bytes; unless given, what the machine allows."""
        allowed = cgroup_limit()
        usual = LARGEST_MEMORY if allowed is None else min(LARGEST_MEMORY, allowed // SHARE)
        self.limit = self._whole = usual if limit is None else limit
        self.used = 0
        self._arena = Arena(self.limit)

    def divide(self, processes: int) -> None:
        """Leave the other processes of this server as much as we take."""
        self.limit = self._whole // processes

    def take(self, key: bytes, size: int) -> Chunk | None:
        """Return a chunk for a reply of `size` bytes, None if there is no room."""
        if self.used + ENTRY_SIZE + len(key) + size > self.limit:
            return None
        chunk = self._arena.take(size)
        if chunk is not None:
            self.used += ENTRY_SIZE + len(key) + chunk.size
        return chunk

    def give_back(self, key: bytes, chunk: Chunk) -> None:
        """Take back what `take` gave for `key`."""
        self.used -= ENTRY_SIZE + len(key) + chunk.size
        self._arena.give_back(chunk)


class Entry:
    """One reply. The listener reads `due`, `iov` and `witnesses`, and counts `hits`."""

    __slots__ = (
        "_aged",
        "_offsets",
        "_since",
        "chunk",
        "deadline",
        "due",
        "hits",
        "iov",
        "observers",
        "size",
        "witnesses",
    )

    def __init__(self, reply: Reply, body: bytes, chunk: Chunk, now: float) -> None:
        """Put `body`, a reply without its ID, into `chunk`."""
        chunk.view[chunk.start : chunk.start + len(body)] = body
        self.chunk = chunk
        self.size = len(body)
        self.iov = _pack_iov(chunk.address, len(body))
        self.hits = 0
        self.due = now
        """When the entry must be looked at before it is used again."""
        self.deadline = reply.deadline or 0.0
        self.observers = reply.observers
        self.witnesses = tuple(
            observer for observer in reply.observers if hasattr(observer, "seen")
        )
        self._since = reply.since
        self._aged = int(now - reply.since)
        self._offsets: list[int] | None = None

    @property
    def body(self) -> bytes:
        """The reply as it is now, without its ID."""
        start = self.chunk.start
        return self.chunk.view[start : start + self.size].tobytes()

    def age(self, now: float) -> None:
        """Lower the TTLs to what they are at `now`, and be due when they change again."""
        seconds = int(now - self._since)
        if seconds > self._aged:
            if self._offsets is None:
                first = self.chunk.start - 2
                self._offsets = [first + at for at in wire.ttl_offsets(b"\0\0" + self.body)]
            wire.age(self.chunk.view, self._offsets, seconds - self._aged)
            self._aged = seconds
        due = self._since + seconds + 1
        self.due = due if due < self.deadline else self.deadline

    def credit(self) -> None:
        """Tell the observers of the hits since the last time."""
        hits, self.hits = self.hits, 0
        if hits:
            for observer in self.observers:
                try:
                    observer.repeated(hits)
                except BaseException as error:
                    report_background(error, "an observer of replies failed")

    def show(self, ident: bytes, peer: object, received: float) -> None:
        """Show a query that the entry answers to those who asked for it; who fails at it once is
        not asked again.
        """
        for witness in self.witnesses:
            try:
                witness.seen(ident, peer, received)
            except BaseException as error:
                self.witnesses = tuple(it for it in self.witnesses if it is not witness)
                report_background(error, "a witness of queries failed")


def why_not(request: Request, reply: Reply, sent: bytes) -> str | None:
    """Return why `PacketCache.admit` does not keep a reply, in words; None if it does, given room.

    What it says must follow `admit`, which has no time for words; a test compares the two.
    """
    if reply.deadline is None:
        return "nothing says yet for how long it holds"
    if reply.deadline <= request.received:
        return "the time for which this reply may be repeated is over"
    if len(sent) > MAX_SIZE:
        return f"the reply is larger than {MAX_SIZE} bytes"
    if request.wire[2] & _OPCODE_BITS:
        return "the query is none of opcode QUERY"
    if request.edns is not None and request.edns.options:
        return "the query has EDNS options"
    name = request.name_wire
    return None if request.wire[12 : 12 + len(name)] == name else "the name has capitals in it"


class PacketCache:
    """The replies of one socket."""

    def __init__(self, room: Room) -> None:
        """Keep replies in `room`, which is shared."""
        self.entries: dict[bytes, Entry] = {}
        self._room = room
        self._touched: list[Entry] = []
        self._loop = asyncio.get_running_loop()

    def admit(self, request: Request, reply: Reply, sent: bytes) -> None:
        """Keep `sent`, what was answered to `request`, if it can be said again to the same
        bytes.
        """
        if reply.deadline is None or reply.deadline <= request.received or len(sent) > MAX_SIZE:
            return
        query = request.wire
        if query[2] & _OPCODE_BITS or (request.edns is not None and request.edns.options):
            return
        name = request.name_wire
        if query[12 : 12 + len(name)] != name:
            return
        key = query[2:]
        self._forget(key)
        chunk = self._room.take(key, len(sent) - 2)
        if chunk is None:
            # Once more will find room, if the oldest was of the same size.
            if self.entries:
                self._forget(next(iter(self.entries)))
            return
        self.entries[key] = Entry(reply, sent[2:], chunk, request.received)

    def view(self, query: bytes, now: float) -> tuple[int, float] | None:
        """Return the hits not yet credited and the seconds left of what answers `query`; None if
        nothing does. For an operator's eyes: counts nothing.
        """
        entry = self.entries.get(query[2:])
        return None if entry is None else (entry.hits, entry.deadline - now)

    def are_usable(
        self, entries: Sequence[Entry | None], keys: Sequence[bytes], now: float
    ) -> TypeGuard[Sequence[Entry]]:
        """Return whether what was found for `keys` answers all of them at `now`."""
        if None in entries:
            return False
        for index, entry in enumerate(entries):
            assert entry is not None
            if entry.due <= now and not self._look_at(keys[index], entry, now):
                return False
        return True

    def find(self, key: bytes, now: float) -> Entry | None:
        """Return the entry that answers `key` at `now`, with the hit counted."""
        entry = self.entries.get(key)
        if entry is None or (entry.due <= now and not self._look_at(key, entry, now)):
            return None
        entry.hits += 1
        return entry

    def _look_at(self, key: bytes, entry: Entry, now: float) -> bool:
        """Age an entry that is due and return whether it may be used; it is forgotten if not."""
        entry.credit()
        if entry.deadline <= now:
            self._forget(key)
            return False
        entry.age(now)
        if not self._touched:
            self._loop.call_later(CREDIT_INTERVAL, self.credit)
        self._touched.append(entry)
        return True

    def credit(self) -> None:
        """Tell all observers of the hits up to now."""
        touched, self._touched = self._touched, []
        for entry in touched:
            entry.credit()

    def _forget(self, key: bytes) -> None:
        entry = self.entries.pop(key, None)
        if entry is not None:
            entry.credit()
            self._room.give_back(key, entry.chunk)

    def clear(self) -> None:
        """Forget everything."""
        for key in list(self.entries):
            self._forget(key)
