"""Cached replies.

A hit is one join of the header, the client's own question, and the rest of the cached reply. TTLs
in the rest are lowered at most once a second, and the result is stored. Each cached reply has one
`CacheEntry`, so every slot costs memory, and `SIZE` must be updated when attributes are added.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final, TypeVar

from corepy.dns import Reply
from corepy.dns.constants import FLAG_AD, FLAG_CD, FLAG_RD, NOERROR, NXDOMAIN

if TYPE_CHECKING:
    from asyncio import Task

    from corepy.dns import Request

SIZE: Final = 330
"""Bytes of an entry without its key and records.

This covers the object, its numbers, and its places in the store's table and queue. It is measured
with tracemalloc, and a test verifies it.
"""

_OPCODE_RD_AD: Final = 0x7800 | FLAG_RD | FLAG_AD
_ANSWERS: Final = (NOERROR, NXDOMAIN)
_QR_AA: Final = 0x84
_RA_RCODE: Final = 0x8F
_pack_flags: Final = Struct("!HBB").pack
_ttl: Final = Struct("!I")
_pack_ttl: Final = _ttl.pack_into

# Most headers and most lists of TTL offsets have one of a few values; each value is stored once.
Shared = TypeVar("Shared", bytes, tuple[int, ...])
_shared: Final[dict[bytes | tuple[int, ...], bytes | tuple[int, ...]]] = {}
_MOST_SHARED: Final = 1024
_ONLY: Final[tuple[int, ...]] = (6,)
"""The TTL offset of a single record whose owner is a pointer to the question."""

_heads: Final[dict[tuple[bytes, int, bool], bytes]] = {}


def _share(value: Shared) -> Shared:
    if len(_shared) >= _MOST_SHARED:
        return _shared.get(value, value)  # type: ignore[return-value]  # equal, so of the same type
    return _shared.setdefault(value, value)  # type: ignore[return-value]  # as above


def _head(rest: bytes, cd: int, with_ad: bool) -> bytes:
    """Return the header for the usual query of a key, which has RD set and AD clear.

    Follows CoreDNS's item.toMsg. `rest` is the header of the cached message from its fourth byte
    on. AA is always set, because old stub resolvers drop non-authoritative replies.
    """
    low = rest[0] & _RA_RCODE | cd | (FLAG_AD if with_ad else 0)
    head = _share(_pack_flags(0, _QR_AA | FLAG_RD >> 8, low) + rest[1:])
    if len(_heads) < _MOST_SHARED:
        _heads[rest, cd, with_ad] = head
    return head


class CacheEntry:
    """A reply cached under `key`, fresh for `ttl` seconds from `stored` (monotonic time)."""

    __slots__ = (
        "answers",
        "authentic",
        "denial",
        "failures",
        "head",
        "hits",
        "key",
        "last_good",
        "last_hit",
        "offsets",
        "options",
        "retry_at",
        "shown",
        "stored",
        "tail",
        "task",
        "ttl",
        "used",
        "wildcard",
    )

    def __init__(
        self, key: bytes, request: Request, wire: bytes, offsets: list[int], ttl: int, stored: float
    ) -> None:
        """Store the message `wire`, whose TTLs at `offsets` all equal `ttl`."""
        end = request.question_end
        self.key = key
        self.tail = wire[end:]
        is_usual = len(offsets) == 1 and offsets[0] == end + 6
        self.offsets = _ONLY if is_usual else _share(tuple([at - end for at in offsets]))
        self.authentic = wire[3] & FLAG_AD != 0
        with_ad = self.authentic and request.do
        kind = (wire[3:12], request.flags & FLAG_CD, with_ad)
        self.head = _heads.get(kind) or _head(*kind)
        self.ttl = ttl
        self.stored = stored
        self.shown = ttl
        """The current TTL in `tail`."""
        self.used = False
        """Whether the entry was used since the store last considered it for eviction."""
        self.denial = False
        """Whether the entry is in the store of denials."""
        self.answers = False
        """Whether the reply contains the records asked for.

        If it does not, `last_good` is the last entry that did, if `prefer_positive` requires it.
        """
        self.last_good: CacheEntry | None = None
        self.wildcard = ""
        self.options = b""
        """EDNS options that are cached with the reply."""
        self.hits = 0
        self.last_hit = 0.0
        self.task: Task[Reply | None] | None = None
        """The running attempt to replace this entry, if any.

        No attempt starts before `retry_at`, which depends on the number of `failures` in a row.
        """
        self.retry_at = 0.0
        self.failures = 0

    @property
    def size(self) -> int:
        """Estimated memory in bytes."""
        size = SIZE + len(self.key) + len(self.tail)
        if self.options:
            size += len(self.options)
        return size if self.last_good is None else size + self.last_good.size

    @property
    def rcode(self) -> int:
        """The cached rcode, which is below 16."""
        return self.head[3] & 15

    def left(self, now: float) -> int:
        """Return the remaining TTL in seconds, 0 or less if stale."""
        elapsed = int(now - self.stored)
        # A query that waited above the cache may have arrived before this entry was stored.
        return self.ttl - elapsed if elapsed > 0 else self.ttl

    def describe(self, now: float, stale_mode: str) -> dict[str, str | int]:
        """Return the state for `corepy explain`; `stale_mode` is the mode of `serve_stale`."""
        left = self.left(now)
        if left > 0:
            known: dict[str, str | int] = {"state": "fresh", "seconds left": left, "ttl": self.ttl}
        else:
            known = {"state": "stale", "seconds over": -left, "serve_stale": stale_mode}
        kind = "denial" if self.denial else "success"
        return {**known, "kept as": kind if self.rcode in _ANSWERS else "failure"}

    def reply(self, request: Request, left: int) -> Reply:
        """Return the reply to `request` with `left` seconds in every TTL.

        CoreDNS sets all TTLs to the remainder of the lowest one. A cache may do so: RFC 2181
        section 5.2 requires equal TTLs within an RRset, and a shorter TTL is always safe.
        """
        if left != self.shown:
            self._show(left)
        head = self.head
        if request.flags & _OPCODE_RD_AD != FLAG_RD:
            head = self._unusual_head(request)
        wire = request.wire
        reply = Reply(b"".join((head, wire[12 : request.question_end], self.tail)))
        reply.validated = reply.wire
        reply.validated_for = request.asked
        return reply

    def _show(self, left: int) -> None:
        tail = bytearray(self.tail)
        for at in self.offsets:
            _pack_ttl(tail, at, left)
        self.tail = bytes(tail)
        self.shown = left

    def _unusual_head(self, request: Request) -> bytes:
        low = self.head[3]
        if self.authentic and request.flags & FLAG_AD:
            low |= FLAG_AD  # RFC 6840 section 5.7: the client requests it
        return _pack_flags(0, _QR_AA | request.flags >> 8 & 0x01, low) + self.head[4:]

    def count(self, hits: int, now: float, gap: float) -> None:
        """Count `hits` queries, from zero again after `gap` seconds without one (freq.go)."""
        self.hits = hits if self.last_hit < now - gap else self.hits + hits
        self.last_hit = now
