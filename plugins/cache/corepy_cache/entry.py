"""One kept reply, as the bytes behind its question, and how it becomes a client's reply again.

A hit is one join: header, the client's own question, the rest. TTLs are lowered in the rest, at
most once a second, and the outcome kept. There is one of these for each kept reply, so every slot
costs memory, and `SIZE` has to follow what is added.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final, TypeVar

from corepy.dns import Reply
from corepy.dns.constants import FLAG_AD, FLAG_CD, FLAG_RD

if TYPE_CHECKING:
    from asyncio import Task

    from corepy.dns import Request

SIZE: Final = 330
"""Bytes of an entry beside its key and its records: the object, its numbers, its places in the
store's table and queue (measured with tracemalloc; a test holds it to the truth).
"""

_OPCODE_RD_AD: Final = 0x7800 | FLAG_RD | FLAG_AD
_QR_AA: Final = 0x84
_RA_RCODE: Final = 0x8F
_pack_flags = Struct("!HBB").pack
_ttl = Struct("!I")
_pack_ttl = _ttl.pack_into

# Most headers and most lists of TTL offsets are one of a few; each is held once.
Shared = TypeVar("Shared", bytes, tuple[int, ...])
_shared: dict[bytes | tuple[int, ...], bytes | tuple[int, ...]] = {}
_MOST_SHARED: Final = 1024
_ONLY: Final[tuple[int, ...]] = (6,)
"""Where the TTL of a single record lies whose owner is a pointer to the question."""


def _share(value: Shared) -> Shared:
    if len(_shared) >= _MOST_SHARED:
        return _shared.get(value, value)  # type: ignore[return-value]  # equal, so of one type
    return _shared.setdefault(value, value)  # type: ignore[return-value]  # as above


_heads: dict[tuple[bytes, int, bool], bytes] = {}


def _head(rest: bytes, cd: int, with_ad: bool) -> bytes:
    """Return the header of a reply to the usual query for a key, which has RD and not AD: CoreDNS's
    item.toMsg. `rest` is what the message kept has from its fourth byte on.

    AA is always set, since old stub resolvers drop what is not authoritative.
    """
    low = rest[0] & _RA_RCODE | cd | (FLAG_AD if with_ad else 0)
    head = _share(_pack_flags(0, _QR_AA | FLAG_RD >> 8, low) + rest[1:])
    if len(_heads) < _MOST_SHARED:
        _heads[rest, cd, with_ad] = head
    return head


class Entry:
    """A reply kept under `key`, fresh for `ttl` seconds from `stored` (monotonic)."""

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
        """Take the message `wire`, whose TTLs at `offsets` are all `ttl`, as what `key` keeps."""
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
        """The TTL that stands in `tail` now."""
        self.used = False
        """Asked for since the store last looked."""
        self.denial = False
        """It is kept among the denials."""
        self.answers = False
        """It holds what was asked for; `last_good` is the one before it that did, if it does not
        and `prefer_positive` wants it kept."""
        self.last_good: Entry | None = None
        self.wildcard = ""
        self.options = b""
        """EDNS options of a kept failure."""
        self.hits = 0
        self.last_hit = 0.0
        self.task: Task[Reply | None] | None = None
        """The attempt to replace this, if one is going on; none before `retry_at`, after as many
        `failures` in a row."""
        self.retry_at = 0.0
        self.failures = 0

    @property
    def size(self) -> int:
        """Bytes of memory, estimated."""
        size = SIZE + len(self.key) + len(self.tail)
        if self.options:
            size += len(self.options)
        return size if self.last_good is None else size + self.last_good.size

    @property
    def rcode(self) -> int:
        """The rcode that is kept, one of those below 16."""
        return self.head[3] & 15

    def left(self, now: float) -> int:
        """Return the remaining TTL in seconds, 0 or less when stale."""
        elapsed = int(now - self.stored)
        # A query may have waited above the cache since before this was stored.
        return self.ttl - elapsed if elapsed > 0 else self.ttl

    def reply(self, request: Request, left: int) -> Reply:
        """Return the reply to `request` with `left` seconds in every TTL.

        CoreDNS sets all TTLs to what remains of the lowest, which a cache may do: RFC 2181 section
        5.2 wants them equal within a set of records, and shorter is always safe.
        """
        if left != self.shown:
            self._show(left)
        head = self.head
        if request.flags & _OPCODE_RD_AD != FLAG_RD:
            head = self._unusual_head(request)
        wire = request.wire
        reply = Reply(b"".join((head, wire[12 : request.question_end], self.tail)))
        reply.sound = reply.wire
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
            low |= FLAG_AD  # RFC 6840 section 5.7: the client wants to know
        return _pack_flags(0, _QR_AA | request.flags >> 8 & 0x01, low) + self.head[4:]

    def count(self, hits: int, now: float, gap: float) -> None:
        """Note `hits` queries; they add up unless `gap` seconds passed without one (freq.go)."""
        self.hits = hits if self.last_hit < now - gap else self.hits + hits
        self.last_hit = now
