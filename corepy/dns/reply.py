"""`Reply`: a reply on its way up the chain; `finishing` converts it to the message to send."""

from __future__ import annotations

from struct import Struct, error
from typing import TYPE_CHECKING, Any, Final, final

from corepy.dns.edns import OPT_SIZE, read_short
from corepy.dns.survey import has_plain_names, strip_opt
from corepy.dns.wire import ttl_offsets

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Iterable

    from dnslib import DNSRecord

    Messages = Iterable["Reply"] | AsyncIterable["Reply"]
    Read = tuple[bytes, list[int], tuple[int, int] | None]
    """A message, the offsets of its TTLs, and its value of `Reply.plain_ttls`."""

NOT_SET: Final = 0.0
NO_COUNTERS: Final = ()
"""The values of `since` and `hit_counters` in a new reply; the latter is compared by identity."""

_OPCODE_TC: Final = 0x7A
_QR: Final = 0x80
_QNAME_POINTER: Final = 0xC00C
_ONE_AND_OPT: Final = b"\0\1\0\0\0\1"
_ADDRESSES: Final = frozenset((b"\0\1\0\1", b"\0\x1c\0\1"))  # types without names in rdata
_TTL_SIGN: Final = 0x80000000
_unpack_counts: Final = Struct("!HI").unpack_from
_unpack_answer: Final = Struct("!H4sIH").unpack_from  # owner, type and class, TTL, rdlength


class ReplySeries:
    """The messages of one reply, the numbers that were sent, and the calls for their end."""

    __slots__ = ("_callbacks", "_messages", "count", "is_ended", "size")

    def __init__(self, messages: Messages) -> None:
        """`messages` makes replies to one request; it is closed at the end, if it can be."""
        self._messages: Messages | None = messages
        self._callbacks: list[Callable[[Reply], object]] = []
        self.count = 0
        """Messages that were sent."""
        self.size = 0
        """Bytes of these messages, without the length in front of each."""
        self.is_ended = False
        """Whether all messages were sent, or no more will be."""

    def take(self) -> Messages:
        """Return the messages, for a transport that sends them.

        Raises RuntimeError the second time: they cannot be made twice.
        """
        messages, self._messages = self._messages, None
        if messages is None:
            raise RuntimeError("the series of messages was returned as the reply to two queries")
        return messages

    def on_end(self, callback: Callable[[Reply], object]) -> None:
        """Call `callback` when the series has ended.

        Its argument is the last message, or SERVFAIL if the series failed. The `series` of this
        reply has the numbers, but it is None if SERVFAIL was the only message.
        """
        self._callbacks.append(callback)

    def end(self) -> list[Callable[[Reply], object]]:
        """End the series and return the callbacks, which the server calls."""
        self.is_ended = True
        callbacks, self._callbacks = self._callbacks, []
        return callbacks


@final
class Reply:
    """One reply: `wire` is a whole message with any ID, without OPT, which `finish` adds.

    `options` are the EDNS options to send (rdata of OPT), `extended_rcode` the upper bits of the
    rcode. `error` is the text that the errors plugin logs. `is_substitute` marks the SERVFAIL that
    the server sends after an exception in the chain, which the server has logged itself.
    `is_momentary` marks a failure that depends on the moment and the client, such as too many
    concurrent queries, and must not be cached. `is_dropped` marks a reply that the server does not
    send (see `Request.drop`). `series` are the messages of a reply that consists of several (see
    `Request.reply_series`); those are sent, and `wire` is an empty NOERROR which is not.

    `validated` is a message that has been validated, or derived from a validated one, and
    `validated_for` the `Request.asked` that it answers: as long as both are those of the reply and
    of the query, the message need not be checked again. `answered_by` is the directive of the
    handler that made the reply; the server sets it.

    For the packet cache: `deadline` is the monotonic time in seconds until which the reply may be
    repeated without calling the chain (None: not at all). `since` is the time from which its TTLs
    are decremented in whole seconds. `hit_counters` are notified of the repetitions (see
    `corepy.plugin.HitCounter`).
    """

    __slots__ = (
        "_read",
        "_record",
        "answered_by",
        "deadline",
        "error",
        "extended_rcode",
        "hit_counters",
        "is_dropped",
        "is_momentary",
        "is_substitute",
        "options",
        "series",
        "since",
        "validated",
        "validated_for",
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
        self.is_momentary = self.is_substitute = self.is_dropped = False
        self.series: ReplySeries | None = None
        self.since = NOT_SET
        self.hit_counters: tuple[Any, ...] = NO_COUNTERS
        self.validated: bytes | None = None
        self.validated_for: bytes | None = None
        self.answered_by: str | None = None
        # Values parsed from a message, each with that message: assigning `wire` invalidates them.
        self._record: tuple[bytes, DNSRecord] | None = None
        self._read: Read | None = None

    @classmethod
    def from_wire(cls, wire: bytes) -> Reply:
        """Return a received message as a reply, without its OPT record; raise FormError."""
        stripped, edns, offsets = strip_opt(wire)
        reply = Reply(stripped)
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
            return Reply.from_wire(wire)
        asked, at, offsets, lowest, highest = wire[end - 4 : end], end, [], _TTL_SIGN, 0
        try:
            for _ in range(answers):
                owner, kind, ttl, length = _unpack_answer(wire, at)
                if owner != _QNAME_POINTER or kind != asked:
                    return Reply.from_wire(wire)
                offsets.append(at + 6)
                if ttl < lowest:
                    lowest = ttl
                if ttl > highest:
                    highest = ttl
                at += 12 + length
        except error:
            return Reply.from_wire(wire)
        if others and at + OPT_SIZE == len(wire):
            edns = read_short(wire[at:])
            if edns is None or edns.extended_rcode:
                return Reply.from_wire(wire)
            wire = b"".join((wire[:10], b"\0\0", wire[12:at]))
        elif others or at != len(wire):
            return Reply.from_wire(wire)
        if asked not in _ADDRESSES and not has_plain_names(wire, kind[0] << 8 | kind[1], offsets):
            return Reply.from_wire(wire)
        reply = Reply(wire)
        reply.validated = wire
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

    def patch(self, wire: bytes) -> None:
        """Replace the message by a variant that differs only in header flags, TTLs or letter case.

        The records are at the same offsets, so it need not be parsed and validated again. A message
        with other counts, of another length, or that is not a response, is treated as a new one.
        """
        old = self.wire
        if type(wire) is bytes and len(wire) == len(old) and wire[4:12] == old[4:12]:
            if self._read is not None and self._read[0] is old:
                self._read = (wire, self._read[1], None)
            if self.validated is old and wire[2] & _QR:
                self.validated = wire
        self.wire = wire

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
        """Return an independent copy of the reply; a series is shared, and can be sent once."""
        copy = Reply(self.wire, self.extended_rcode, self.options, self.error, self.deadline)
        copy.answered_by = self.answered_by
        copy.is_dropped = self.is_dropped
        copy.series = self.series
        copy._read = self._read
        return copy
