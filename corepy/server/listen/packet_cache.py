"""Caches replies by the bytes of the query, and answers from them without running the chain.

A query is answered from here if the same bytes, except for the ID, came to the same socket before
and the chain would give the same answer again. The cache admits a reply that

* comes from a chain with a handler of cacheability SETS_DEADLINE (the cache plugin) below handlers
  of cacheability SAFE or OBSERVES only (`ZoneRoute.obstacle`), and has a `Reply.deadline`: until
  then the handler that SETS_DEADLINE guarantees the reply;
* answered a plain query: opcode QUERY, no EDNS options (cookies, client subnet), no signature, no
  capitals in the name. Other queries come in too many variants to be worth their memory. Clients of
  encrypted transports pad their queries, so padding with zeros is accepted there;
* belongs to the current generation: a change of the router empties the cache.

The key needs neither address nor port nor transport, since each socket has a cache of its own. All
else that a reply can depend on (flags, name, type, class, EDNS size, DO) is in the bytes.

TTLs are lowered in place, at most once a second. Hits are counted on the entry and reported to the
reply's hit counters in bulk: within a second, and when the entry is aged or removed.
"""

from __future__ import annotations

import os
import struct
from asyncio import get_running_loop
from typing import TYPE_CHECKING, Any, Final, TypeGuard

from corepy.dns import ANONYMOUS, wire
from corepy.dns.edns import is_uniform
from corepy.net.arena import Arena
from corepy.plugin.memory_limit import cgroup_limit
from corepy.server.contain.failure_report import report_background

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corepy.dns import Reply, Request
    from corepy.net.arena import Chunk
    from corepy.plugin import HitCounter

LARGEST_MEMORY: Final = 64 * 1024 * 1024
SHARE: Final = 8
"""The limits of all packet caches of the process together.

They take at most LARGEST_MEMORY bytes, including their bookkeeping, and at most 1/SHARE of the
cgroup's memory limit.
"""

ENTRY_SIZE: Final = 640
"""Bytes of an entry besides the reply and its key: the object, its numbers, its dictionary slot.

Measured; a test compares it with the real size.
"""

MAX_SIZE: Final = 1232
"""Bytes of the largest reply that is cached; larger replies are rarely asked for again."""

CREDIT_INTERVAL: Final = 1.0
SWITCH: Final = "COREPY_PACKET_CACHE"
"""Environment variable; "off" disables the packet cache."""

_OPCODE_BITS: Final = 0x78
_LATEST: Final = 1e12
"""Seconds; monotonic times of replies are below it, unless a plugin sets infinity or NaN."""

_pack_iov: Final = struct.Struct("=QQ").pack


def is_enabled() -> bool:
    """Return whether packet caches are enabled in this process."""
    return os.environ.get(SWITCH, "on").lower() != "off"


class MemoryPool:
    """The memory that all packet caches of a process share."""

    def __init__(self, limit: int | None = None) -> None:
        """Use at most `limit` bytes; by default a limit that depends on the cgroup."""
        allowed = cgroup_limit()
        usual = LARGEST_MEMORY if allowed is None else min(LARGEST_MEMORY, allowed // SHARE)
        self.limit = self._whole = usual if limit is None else limit
        self.used = 0
        self._arena = Arena(self.limit)

    def divide(self, processes: int) -> None:
        """Divide the limit by the number of processes of this server."""
        self.limit = self._whole // processes

    def take(self, key: bytes, size: int) -> Chunk | None:
        """Return a chunk for a reply of `size` bytes; None if the memory is used up."""
        if self.used + ENTRY_SIZE + len(key) + size > self.limit:
            return None
        chunk = self._arena.take(size)
        if chunk is not None:
            self.used += ENTRY_SIZE + len(key) + chunk.size
        return chunk

    def give_back(self, key: bytes, chunk: Chunk) -> None:
        """Release the chunk that `take` returned for `key`."""
        self.used -= ENTRY_SIZE + len(key) + chunk.size
        self._arena.give_back(chunk)


class CachedReply:
    """One cached reply.

    The listener reads `due`, `iov`, `gates` and `hit_listeners`, and counts `hits`.
    """

    __slots__ = (
        "_aged",
        "_offsets",
        "_since",
        "chunk",
        "deadline",
        "due",
        "gates",
        "hit_counters",
        "hit_listeners",
        "hits",
        "iov",
        "shaped",
        "size",
    )

    def __init__(self, reply: Reply, body: bytes, chunk: Chunk, now: float) -> None:
        """Copy `body`, a reply without its ID, into `chunk`."""
        chunk.memory[chunk.start : chunk.start + len(body)] = body
        self.chunk = chunk
        self.size = len(body)
        self.iov = _pack_iov(chunk.address, len(body))
        self.hits = 0
        self.due = now
        """From this time on the entry must be aged before it is used again."""
        assert reply.deadline is not None
        self.deadline = reply.deadline
        self.hit_counters = reply.hit_counters
        self.hit_listeners = tuple(
            hit_counter for hit_counter in reply.hit_counters if hasattr(hit_counter, "on_hit")
        )
        self.gates = tuple(it for it in reply.hit_counters if hasattr(it, "over_limit"))
        """The gates that decide about each repetition."""
        self.shaped: Any = None
        """The reply in the form of another protocol, until its TTLs change; for the listener."""
        self._since = reply.since
        self._aged = int(now - reply.since)
        self._offsets: list[int] | None = None

    @property
    def body(self) -> bytes:
        """The reply with its current TTLs, without its ID."""
        start = self.chunk.start
        return self.chunk.memory[start : start + self.size]

    @property
    def rcode(self) -> int:
        """The rcode in the header of the reply."""
        flags: int = self.chunk.memory[self.chunk.start + 1]
        return flags & 15

    def age(self, now: float) -> None:
        """Lower the TTLs to their values at `now`, and set `due` to their next change."""
        self.shaped = None
        seconds = int(now - self._since)
        if seconds > self._aged:
            if self._offsets is None:
                first = self.chunk.start - 2
                self._offsets = [first + at for at in wire.ttl_offsets(b"\0\0" + self.body)]
            wire.age(self.chunk.memory, self._offsets, seconds - self._aged)
            self._aged = seconds
        due = self._since + seconds + 1
        self.due = due if due < self.deadline else self.deadline

    def credit(self) -> None:
        """Report the hits since the last call to the hit counters."""
        hits, self.hits = self.hits, 0
        if hits:
            for hit_counter in self.hit_counters:
                try:
                    hit_counter.count_hits(hits)
                except BaseException as error:
                    report_background(error, "a hit counter failed")

    def show(self, ident: bytes, client: object, received: float) -> None:
        """Report a query to the entry's hit listeners; one that raises is removed."""
        for hit_listener in self.hit_listeners:
            try:
                take_reply = hit_listener.on_hit(ident, client, received)
                if take_reply is not None:
                    take_reply(self.body)
            except BaseException as error:
                self.hit_listeners = tuple(
                    it for it in self.hit_listeners if it is not hit_listener
                )
                report_background(error, "a hit listener failed")


def why_not(request: Request, reply: Reply, sent: bytes) -> str | None:
    """Return why `PacketCache.admit` does not store a reply; None if it does, given memory.

    The conditions must match those of `admit`, which is too hot to give reasons. A test compares
    the two.
    """
    if reply.deadline is None:
        return "no plugin has set its deadline"
    if reply.deadline <= request.received:
        return "the deadline of this reply has passed"
    if not (reply.deadline < _LATEST and -_LATEST < reply.since < _LATEST):
        return "a time of this reply is out of range"
    if len(sent) > MAX_SIZE:
        return f"the reply is larger than {MAX_SIZE} bytes"
    if request.wire[2] & _OPCODE_BITS:
        return "the opcode of the query is not QUERY"
    if request.edns is not None and request.edns.options and not _is_padded(request):
        return "the query has EDNS options"
    if request.identity.tsig is not None:
        return "the query is signed"
    name = request.name_wire
    return (
        None if request.wire[12 : 12 + len(name)] == name else "the name contains capital letters"
    )


def _is_padded(request: Request) -> bool:
    """Return whether a query with EDNS options may be repeated by many clients."""
    assert request.edns is not None
    return (
        request.context.pads_replies
        and not request.edns.version
        and is_uniform(request.edns.options)
    )


class PacketCache:
    """The cached replies of one socket."""

    def __init__(
        self, memory_pool: MemoryPool, hit_counts: Sequence[HitCounter] | None = None
    ) -> None:
        """Store replies in `memory_pool`, which all packet caches share.

        `hit_counts` count the hits, one for each value of the rcode in a header.
        """
        self.entries: dict[bytes, CachedReply] = {}
        self._memory_pool = memory_pool
        self._hit_counts = hit_counts
        self._touched: list[CachedReply] = []
        self._touched_before: list[CachedReply] = []
        self._loop = get_running_loop()

    def admit(self, request: Request, reply: Reply, sent: bytes) -> None:
        """Store `sent`, the reply to `request`, if it may answer the same bytes again."""
        if (
            reply.deadline is None
            or not request.received < reply.deadline < _LATEST  # as neither inf nor NaN is
            or len(sent) > MAX_SIZE
            or not -_LATEST < reply.since < _LATEST
        ):
            return
        query = request.wire
        if query[2] & _OPCODE_BITS:
            return
        if request.edns is not None and request.edns.options and not _is_padded(request):
            return
        if request.identity is not ANONYMOUS and request.identity.tsig is not None:
            return  # the bytes that are left without the record are those of an unsigned query
        name = request.name_wire
        if query[12 : 12 + len(name)] != name:
            return
        key = query[2:]
        self._forget(key)
        chunk = self._memory_pool.take(key, len(sent) - 2)
        if chunk is None:
            # The next attempt finds memory if the oldest entry had the same size.
            if self.entries:
                self._forget(next(iter(self.entries)))
            return
        entry = CachedReply(reply, sent[2:], chunk, request.received)
        if self._hit_counts is not None:
            entry.hit_counters += (self._hit_counts[sent[3] & 15],)
        self.entries[key] = entry

    def view(self, query: bytes, now: float) -> tuple[int, float] | None:
        """Return the hits not yet reported and the seconds left of the entry for `query`.

        None without an entry. For `corepy explain`: counts no hit.
        """
        entry = self.entries.get(query[2:])
        return None if entry is None else (entry.hits, entry.deadline - now)

    def are_usable(
        self, entries: Sequence[CachedReply | None], keys: Sequence[bytes], now: float
    ) -> TypeGuard[Sequence[CachedReply]]:
        """Return whether the entries found for `keys` can answer all of them at `now`."""
        if None in entries:
            return False
        for index, entry in enumerate(entries):
            assert entry is not None
            if entry.due <= now and not self._look_at(keys[index], entry, now):
                return False
        return True

    def find(self, key: bytes, now: float) -> CachedReply | None:
        """Return the entry for `key` if it is valid at `now`, and count the hit."""
        entry = self.entries.get(key)
        if entry is None or (entry.due <= now and not self._look_at(key, entry, now)):
            return None
        entry.hits += 1
        return entry

    def _look_at(self, key: bytes, entry: CachedReply, now: float) -> bool:
        """Age an entry that is due; return whether it is still valid. An expired one is removed."""
        entry.credit()
        if entry.deadline <= now:
            self._forget(key)
            return False
        entry.age(now)
        if not self._touched and not self._touched_before:
            self._loop.call_later(CREDIT_INTERVAL, self.credit)
        self._touched.append(entry)
        return True

    def report_hits(self) -> None:
        """Report all hits up to now to the hit counters."""
        for entry in self._touched_before:
            entry.credit()
        for entry in self._touched:
            entry.credit()

    def credit(self) -> None:
        """Report the hits of the last interval.

        An entry may have hits until it is due again, so it is looked at in two intervals.
        """
        self.report_hits()
        self._touched_before, self._touched = self._touched, []
        if self._touched_before:
            self._loop.call_later(CREDIT_INTERVAL, self.credit)

    def _forget(self, key: bytes) -> None:
        entry = self.entries.pop(key, None)
        if entry is not None:
            entry.credit()
            self._memory_pool.give_back(key, entry.chunk)

    def clear(self) -> None:
        """Remove all entries."""
        for key in list(self.entries):
            self._forget(key)
