"""`Reply`: a reply on its way up the chain, and its conversion to wire format.

`finish` runs for every query that the packet cache does not answer: the common case must remain one
comparison and one join. Rare cases (too large, odd rcode) belong in `_finish_odd`.
"""

from __future__ import annotations

from struct import Struct, error
from typing import TYPE_CHECKING, Any, Final

from corepy.dns.compress import LARGEST, cut, rebuild
from corepy.dns.constants import FLAG_TC, HEADER_SIZE, MIN_SIZE, SERVFAIL
from corepy.dns.edns import OPT_SIZE, OPTION_EDE, opt_record, read_short, without_option
from corepy.dns.form_error import FormError
from corepy.dns.survey import has_plain_names, strip_opt
from corepy.dns.wire import ttl_offsets

if TYPE_CHECKING:
    from dnslib import DNSRecord

    from corepy.dns.message import Request

    Read = tuple[bytes, list[int], tuple[int, int] | None]
    """A message, the offsets of its TTLs, and its value of `Reply.plain_ttls`."""

_BYTES: Final = tuple(bytes((i,)) for i in range(256))
_TC_BYTE: Final = FLAG_TC >> 8
_OPCODE_TC: Final = 0x7A
_QNAME_POINTER: Final = 0xC00C
_ONE_AND_OPT: Final = b"\0\1\0\0\0\1"
_ADDRESSES: Final = frozenset((b"\0\1\0\1", b"\0\x1c\0\1"))  # types without names in rdata
_TTL_SIGN: Final = 0x80000000
_unpack_counts = Struct("!HI").unpack_from
_unpack_answer = Struct("!H4sIH").unpack_from  # owner, type and class, TTL, rdlength

# Maximum unfragmented UDP payloads by address family; smaller messages are not compressed
# (request/request.go, Scrub).
_UNFRAGMENTED: Final = {1: 1480, 2: 1220}
_SMALL: Final = 1220

_QUICK: Final = 4096
"""Result size in bytes up to which rewriting is fast, regardless of the message's size."""


class Reply:
    """One reply: `wire` is a whole message with any ID, without OPT, which `finish` adds.

    `options` are the EDNS options to send (rdata of OPT), `extended_rcode` the upper bits of the
    rcode. `error` is the text that the errors plugin logs. `is_substitute` marks the SERVFAIL that
    the server sends after an exception in the chain, which the server has logged itself.
    `is_momentary` marks a failure that depends on the moment and the client, such as too many
    concurrent queries, and must not be cached.

    `validated` is a message that has been validated, or derived from a validated one: as long as it
    is `wire`, its records need not be checked again.

    For the packet cache: `deadline` is the monotonic time in seconds until which the reply may be
    repeated without calling the chain (None: not at all). `since` is the time from which its TTLs
    are decremented in whole seconds. `hit_counters` are notified of the repetitions (see
    `corepy.plugin.HitCounter`).
    """

    __slots__ = (
        "_read",
        "_record",
        "deadline",
        "error",
        "extended_rcode",
        "hit_counters",
        "is_momentary",
        "is_substitute",
        "options",
        "since",
        "validated",
        "wire",
    )

    def __init__(
        self,
        wire: bytes,
        extended_rcode: int = 0,
        options: bytes = b"",
        error: str | None = None,
        deadline: float | None = None,
    ) -> None:
        self.wire = wire
        self.extended_rcode = extended_rcode
        self.options = options
        self.error = error
        self.deadline = deadline
        self.is_momentary = self.is_substitute = False
        self.since = 0.0
        self.hit_counters: tuple[Any, ...] = ()
        self.validated: bytes | None = None
        # Values parsed from a message, each with that message: assigning `wire` invalidates them.
        self._record: tuple[bytes, DNSRecord] | None = None
        self._read: Read | None = None

    @classmethod
    def from_wire(cls, wire: bytes) -> Reply:
        """Return a received message as a reply, without its OPT record; raise FormError."""
        stripped, edns, offsets = strip_opt(wire)
        reply = cls(stripped)
        if edns is not None:
            reply.extended_rcode = edns.extended_rcode
            reply.options = edns.options
        reply.validated = stripped
        reply._read = (stripped, offsets, None)
        return reply

    @classmethod
    def from_answer(cls, wire: bytes, end: int) -> Reply:
        """Return a received message as a reply; a variant of `from_wire` with a fast path.

        The message must have one question, which ends at `end`. If all records except OPT have the
        question's name, type and class, one pass also determines `plain_ttls`. Raise FormError.
        """
        answers, others = (1, 1) if wire[6:12] == _ONE_AND_OPT else _unpack_counts(wire, 6)
        if others > 1 or not answers or wire[2] & _OPCODE_TC or wire[3] & 15:
            return cls.from_wire(wire)
        asked, at, offsets, lowest, highest = wire[end - 4 : end], end, [], _TTL_SIGN, 0
        try:
            for _ in range(answers):
                owner, kind, ttl, length = _unpack_answer(wire, at)
                if owner != _QNAME_POINTER or kind != asked:
                    return cls.from_wire(wire)
                offsets.append(at + 6)
                if ttl < lowest:
                    lowest = ttl
                if ttl > highest:
                    highest = ttl
                at += 12 + length
        except error:
            return cls.from_wire(wire)
        if others and at + OPT_SIZE == len(wire):
            edns = read_short(wire[at:])
            if edns is None or edns.extended_rcode:
                return cls.from_wire(wire)
            wire = b"".join((wire[:10], b"\0\0", wire[12:at]))
        elif others or at != len(wire):
            return cls.from_wire(wire)
        if asked not in _ADDRESSES and not has_plain_names(wire, kind[0] << 8 | kind[1], offsets):
            return cls.from_wire(wire)
        reply = cls(wire)
        reply._read = wire, offsets, ((lowest, highest) if highest < _TTL_SIGN else None)
        return reply

    @property
    def record(self) -> DNSRecord:
        """The reply as a dnslib object, always the same one; change it with `set_record`.

        Raise FormError.
        """
        if self._record is None or self._record[0] is not self.wire:
            from corepy.dns.records import parse

            self._record = (self.wire, parse(self.wire))
        return self._record[1]

    def set_record(self, record: DNSRecord) -> None:
        """Replace the content by a dnslib message; if it has no EDNS options, keep the old ones."""
        from corepy.dns.records import pack_message

        self.wire, extended, options = pack_message(record)
        self.extended_rcode = extended or self.extended_rcode
        self.options = options or self.options
        self._record = (self.wire, record)

    @property
    def ttl_offsets(self) -> list[int]:
        """The offsets of the TTLs in `wire`; the caller must not modify them. Raise FormError."""
        read = self._read
        if read is None or read[0] is not self.wire:
            read = self._read = (self.wire, ttl_offsets(self.wire), None)
        return read[1]

    @property
    def plain_ttls(self) -> tuple[int, int] | None:
        """The lowest and the highest TTL of a plain NOERROR reply.

        A plain reply has only records with the question's name, type and class. None if it has
        others, or if this is unknown.
        """
        read = self._read
        return read[2] if read is not None and read[0] is self.wire else None

    @property
    def rcode(self) -> int:
        """The whole rcode, with its upper bits."""
        return self.extended_rcode << 4 | self.wire[3] & 15

    @property
    def tc(self) -> bool:
        """Truncated."""
        return self.wire[2] & 0x02 != 0

    @property
    def aa(self) -> bool:
        """Authoritative answer."""
        return self.wire[2] & 0x04 != 0

    @property
    def ancount(self) -> int:
        """Number of records in the answer section."""
        return self.wire[6] << 8 | self.wire[7]

    def copy(self) -> Reply:
        """Return an independent copy of the reply."""
        copy = Reply(self.wire, self.extended_rcode, self.options, self.error, self.deadline)
        copy._read = self._read
        return copy


def finish(request: Request, reply: Reply) -> bytes:
    """Return the message to send: with the query's ID, within its size, with OPT if it has one.

    The OPT record is that of CoreDNS's SizeAndDo (request/request.go): version 0, the client's size
    and DO. It contains only the reply's own options; CoreDNS echoes some of the client's, which
    would claim that we support them. A reply that is too large loses records from the end and gets
    TC, as in miekg/dns (msg_truncate.go).
    """
    wire = reply.wire
    edns = request.edns
    if edns is None:
        if len(wire) <= MIN_SIZE and not reply.extended_rcode:
            return request.wire[:2] + wire[2:]
        return _finish_odd(request, reply)
    if reply.options or reply.extended_rcode:
        opt = _opt(request, reply, reply.options)
    else:
        opt = edns.reply_opt
    total = len(wire) + len(opt)
    if (total <= MIN_SIZE or (total <= _SMALL and total <= request.size)) and wire[11] != 255:
        return b"".join((request.wire[:2], wire[2:11], _BYTES[wire[11] + 1], wire[12:], opt))
    return _finish_odd(request, reply)


def _finish_odd(request: Request, reply: Reply) -> bytes:
    try:
        return _fit(request, reply)
    except FormError:
        # The chain made an unreadable message; nothing of it can be sent safely.
        error = request.error(SERVFAIL)
        return _assemble(request, error.wire, _opt(request, error, b""))


def _fit(request: Request, reply: Reply) -> bytes:
    wire = reply.wire
    if request.edns is None and reply.extended_rcode:
        # Without OPT, the upper bits cannot be sent; the lower ones alone would be another rcode.
        wire = b"".join((wire[:3], _BYTES[wire[3] & 0xF0 | SERVFAIL], wire[4:]))
    opt = _opt(request, reply, reply.options)
    limit = request.size
    if len(wire) + len(opt) <= limit and not _gains_from_compression(request, wire):
        return _assemble(request, wire, opt)
    small, whole = _shorten(wire, limit - len(opt), reply)
    if not whole and reply.options:
        # RFC 8914 section 3: extended errors are dropped before data, and TC is set.
        opt = _opt(request, reply, without_option(reply.options, OPTION_EDE))
        small, _ = _shorten(wire, limit - len(opt), reply)
        small = _set_tc(small)
    if len(small) + len(opt) > limit:
        # Not even the question and the options fit together.
        opt = _opt(request, reply, b"")
        small = _set_tc(_shorten(wire, limit - len(opt), reply)[0])
    return _assemble(request, small, opt)


def _gains_from_compression(request: Request, wire: bytes) -> bool:
    """Return whether compression might save a datagram from fragmentation."""
    if not _SMALL < len(wire) <= LARGEST or request.proto != "udp":
        return False
    # A pointer to the question indicates that the message is already compressed.
    return len(wire) > _UNFRAGMENTED[request.family] and b"\xc0\x0c" not in wire


def _shorten(wire: bytes, limit: int, reply: Reply) -> tuple[bytes, bool]:
    """Return the message in at most limit bytes, and whether it still has all records.

    It is compressed unless both message and limit are large. The records of `wire` must have the
    offsets of `reply`.
    """
    if len(wire) <= LARGEST or limit <= _QUICK:
        small = rebuild(wire, limit)
    else:
        small = cut(wire, limit, reply.ttl_offsets)
    return small, small[4:12] == wire[4:12]


def _set_tc(wire: bytes) -> bytes:
    return b"".join((wire[:2], _BYTES[wire[2] | _TC_BYTE], wire[3:]))


def _opt(request: Request, reply: Reply, options: bytes) -> bytes:
    edns = request.edns
    if edns is None:
        return b""
    return opt_record(edns.udp_size, edns.do, reply.extended_rcode, options)


def _assemble(request: Request, wire: bytes, opt: bytes) -> bytes:
    if not opt:
        return request.wire[:2] + wire[2:]
    additional = (wire[10] << 8 | wire[11]) + 1
    head = wire[2:10] + additional.to_bytes(2, "big")
    return b"".join((request.wire[:2], head, wire[HEADER_SIZE:], opt))
