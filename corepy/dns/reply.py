"""The reply on its way back up the chain, and how it becomes the bytes that are sent.

`finish` runs for every query that the packet cache does not answer: the usual reply must stay one
comparison and one join away from being sent. What is rare (too large, odd rcode) belongs into
`_finish_odd`.
"""

from __future__ import annotations

from struct import Struct, error
from typing import TYPE_CHECKING, Any, Final

from corepy.dns.compress import LARGEST, cut, rebuild
from corepy.dns.constants import FLAG_TC, HEADER_SIZE, MIN_SIZE, SERVFAIL
from corepy.dns.edns import OPT_SIZE, OPTION_EDE, opt_record, read_short, without_option
from corepy.dns.errors import FormError
from corepy.dns.survey import has_plain_names, strip_opt
from corepy.dns.wire import ttl_offsets

if TYPE_CHECKING:
    from dnslib import DNSRecord

    from corepy.dns.message import Request

    Read = tuple[bytes, list[int], tuple[int, int] | None]
    """A message, where its TTLs lie, and what `Reply.plain_ttls` says of it."""

_BYTES: Final = tuple(bytes((i,)) for i in range(256))
_TC_BYTE: Final = FLAG_TC >> 8
_OPCODE_TC: Final = 0x7A
_QNAME_POINTER: Final = 0xC00C
_ONE_AND_OPT: Final = b"\0\1\0\0\0\1"
_ADDRESSES: Final = frozenset((b"\0\1\0\1", b"\0\x1c\0\1"))  # types whose data holds no names
_TTL_SIGN: Final = 0x80000000
_unpack_counts = Struct("!HI").unpack_from
_unpack_answer = Struct("!H4sIH").unpack_from  # owner, type and class, TTL, rdlength

# Largest UDP payloads that are not worth compressing to save a fragment, by family
# (request/request.go, Scrub).
_UNFRAGMENTED: Final = {1: 1480, 2: 1220}
_SMALL: Final = 1220

_QUICK: Final = 4096
"""Bytes that are soon written, however large the message is that they are taken from."""


class Reply:
    """One reply: `wire` is a whole message with any ID, without OPT, which `finish` adds.

    `options` are the EDNS options to send along (rdata of OPT), `extended_rcode` the upper bits of
    the rcode, `error` what the errors plugin logs. `is_substitute` tells the SERVFAIL that the
    server gives in place of a chain that raised an exception, which it has logged itself.
    `is_momentary` tells a failure that is about this moment and this client, such as one query too
    many, so that nobody keeps it for the next.

    `sound` is the message that somebody has read, or made of what was read: as long as it is
    `wire`, its records need not be gone through again.

    For the packet cache: `deadline` is the monotonic time in seconds until which the reply may be
    repeated without asking the chain again (None: not at all), `since` the time from which its TTLs
    have run for whole seconds, `observers` who wants to be told of the repetitions (see
    `corepy.plugin.Observer`).
    """

    __slots__ = (
        "_read",
        "_record",
        "deadline",
        "error",
        "extended_rcode",
        "is_momentary",
        "is_substitute",
        "observers",
        "options",
        "since",
        "sound",
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
        self.observers: tuple[Any, ...] = ()
        self.sound: bytes | None = None
        # What was read from the message, with the message it was read from: assigning `wire`
        # outdates all of it.
        self._record: tuple[bytes, DNSRecord] | None = None
        self._read: Read | None = None

    @classmethod
    def from_wire(cls, wire: bytes) -> Reply:
        """Return a received message as a reply, its OPT record taken off; raises FormError."""
        stripped, edns, offsets = strip_opt(wire)
        reply = cls(stripped)
        if edns is not None:
            reply.extended_rcode = edns.extended_rcode
            reply.options = edns.options
        reply.sound = stripped
        reply._read = (stripped, offsets, None)
        return reply

    @classmethod
    def from_answer(cls, wire: bytes, end: int) -> Reply:
        """Do what `from_wire` does for a message that is known to have one question, up to `end`.

        Once over the usual reply, which has only records that were asked for and perhaps OPT, tells
        all that there is to know of it (`plain_ttls`). Raises FormError.
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

    @classmethod
    def from_record(cls, record: DNSRecord) -> Reply:
        """Return a reply made of a dnslib message, its OPT record taken off."""
        reply = cls(b"")
        reply.set_record(record)
        return reply

    @property
    def record(self) -> DNSRecord:
        """Dnslib's view, the same object each time; raises FormError. To change, `set_record`."""
        if self._record is None or self._record[0] is not self.wire:
            from corepy.dns.records import parse

            self._record = (self.wire, parse(self.wire))
        return self._record[1]

    def set_record(self, record: DNSRecord) -> None:
        """Make a dnslib message what this reply says; EDNS options it has none of are kept."""
        from corepy.dns.records import pack_message

        self.wire, extended, options = pack_message(record)
        self.extended_rcode = extended or self.extended_rcode
        self.options = options or self.options
        self._record = (self.wire, record)

    @property
    def ttl_offsets(self) -> list[int]:
        """Where the TTLs lie in `wire`; raises FormError. Not to be changed by the caller."""
        read = self._read
        if read is None or read[0] is not self.wire:
            read = self._read = (self.wire, ttl_offsets(self.wire), None)
        return read[1]

    @property
    def plain_ttls(self) -> tuple[int, int] | None:
        """The lowest and the highest TTL of a NOERROR reply all whose records have name, type and
        class of the question; None if it has others, or that is not known.
        """
        read = self._read
        return read[2] if read is not None and read[0] is self.wire else None

    @property
    def rcode(self) -> int:
        """The whole rcode, upper bits included."""
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

    def set_question(self, question: bytes) -> None:
        """Put in the question as asked, which may differ in case from the one that is there.

        Clients that mix case at random check it. Raises ValueError for another question.
        """
        wire = self.wire
        end = HEADER_SIZE + len(question)
        if wire[HEADER_SIZE:end] == question:
            return
        # Type and class are not compared as letters: type 65 is not type 97.
        if (
            wire[HEADER_SIZE : end - 4].lower() != question[:-4].lower()
            or wire[end - 4 : end] != question[-4:]
        ):
            raise ValueError("the question differs in more than case")
        self.wire = b"".join((wire[:HEADER_SIZE], question, wire[end:]))
        if self._read is not None and self._read[0] is wire:
            self._read = (self.wire, self._read[1], None)

    def copy(self) -> Reply:
        """Return a reply with the same content that can be changed by itself."""
        copy = Reply(self.wire, self.extended_rcode, self.options, self.error, self.deadline)
        copy._read = self._read
        return copy


def finish(request: Request, reply: Reply) -> bytes:
    """Return what is sent: the query's ID, OPT if the client sent one, no larger than it takes.

    The OPT record is the one of CoreDNS's SizeAndDo (request/request.go): the client's size and DO,
    version 0, but only the reply's own options (CoreDNS echoes some of the client's, which tells it
    that we understood them). A reply that is too large loses records from the end and gets TC, as
    in miekg/dns (msg_truncate.go).
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
        # Something below made a message that cannot be read; nothing of it can be trusted to be
        # sent.
        error = request.error(SERVFAIL)
        return _assemble(request, error.wire, _opt(request, error, b""))


def _fit(request: Request, reply: Reply) -> bytes:
    wire = reply.wire
    if request.edns is None and reply.extended_rcode:
        # No OPT, no room for the upper bits; the lower ones alone would say something else.
        wire = b"".join((wire[:3], _BYTES[wire[3] & 0xF0 | SERVFAIL], wire[4:]))
    opt = _opt(request, reply, reply.options)
    limit = request.size
    if len(wire) + len(opt) <= limit and not _gains_from_compression(request, wire):
        return _assemble(request, wire, opt)
    small, whole = _shorten(wire, limit - len(opt), reply)
    if not whole and reply.options:
        # RFC 8914 section 3: extended errors go before data goes, and TC tells it.
        opt = _opt(request, reply, without_option(reply.options, OPTION_EDE))
        small, _ = _shorten(wire, limit - len(opt), reply)
        small = _set_tc(small)
    if len(small) + len(opt) > limit:
        # Not even the question fits beside the options.
        opt = _opt(request, reply, b"")
        small = _set_tc(_shorten(wire, limit - len(opt), reply)[0])
    return _assemble(request, small, opt)


def _gains_from_compression(request: Request, wire: bytes) -> bool:
    """Tell whether a datagram would be fragmented that compressing might save from it."""
    if not _SMALL < len(wire) <= LARGEST or request.proto != "udp":
        return False
    # A pointer to the question shows that the message is compressed already.
    return len(wire) > _UNFRAGMENTED[request.family] and b"\xc0\x0c" not in wire


def _shorten(wire: bytes, limit: int, reply: Reply) -> tuple[bytes, bool]:
    """Return the message in at most limit bytes, and whether all records are in it.

    It is compressed for that, but not if both are large. `wire` has its records where `reply` has.
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
