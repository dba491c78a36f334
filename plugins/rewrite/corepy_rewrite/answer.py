"""A reply while steps change it; finally it answers the client's question."""

from __future__ import annotations

import math
from dataclasses import replace
from struct import Struct
from typing import TYPE_CHECKING, Final

from corepy.dns import constants as c
from corepy.dns.edns import OPT_SIZE, option, parse_options
from corepy.dns.names import lower
from corepy.dns.wire import counts, read_ttl
from corepy_rewrite.records import read_records, write_message

if TYPE_CHECKING:
    from collections.abc import Callable

    from corepy.dns import Reply, Request
    from corepy_rewrite.exchange import Exchange
    from corepy_rewrite.records import Record

_ADDRESS_SIZES: Final = {c.TYPE_A: 4, c.TYPE_AAAA: 16}
_FIXED: Final = 12  # bytes of a record whose owner is a pointer, without rdata
_QNAME: Final = b"\xc0\x0c"
_RCODE: Final = 15
_AA: Final = c.FLAG_AA >> 8
_TC: Final = c.FLAG_TC >> 8
_pack_ttl = Struct("!I").pack_into


class Answer:
    """The reply to the query of an exchange as it was passed on."""

    def __init__(self, exchange: Exchange, asked: Request, reply: Reply) -> None:
        """Begin with `reply`, which answers `asked`."""
        self.exchange = exchange
        self.asked = asked
        self.reply = reply
        self.rcode = reply.rcode
        self.is_truncated = reply.tc
        self._ttls: bytearray | None = None  # the message with other TTLs
        self._records: list[Record] | None = None
        self._owner = None if asked is exchange.request else self._common_owner()
        self._least_ttl = 0  # that the rules for TTLs allow
        self._has_raised_ttls = self._has_lowered_ttls = False
        # A reply to another question is not an authentic one (RFC 4035 section 3.2.3).
        self._cleared = c.FLAG_AD if asked.asked != exchange.request.asked else 0
        self.options = _Options(exchange, reply)

    def _common_owner(self) -> bytes | None:
        """Return the name of all records, if they are addresses of the question's name only.

        Their owners are pointers to the question, so they take whatever name is written there.
        """
        asked, wire = self.asked, self.reply.wire
        size = _ADDRESS_SIZES.get(asked.qtype)
        number, others = wire[6] << 8 | wire[7], wire[8:12]
        if size is None or not number or others != bytes(4):
            return None
        start, step = asked.question_end, _FIXED + size
        if len(wire) != start + number * step:
            return None
        kind = _QNAME + asked.question[-4:]
        for offset, byte in enumerate(kind):
            if wire[start + offset :: step].count(byte) != number:
                return None
        return asked.name_wire

    @property
    def records(self) -> list[Record]:
        """All records; raises FormError."""
        if self._records is None:
            wire = self.reply.wire if self._ttls is None else bytes(self._ttls)
            self._records = read_records(wire)
            if self._owner is not None:
                for record in self._records:
                    record.owner = self._owner
                self._owner = None
        return self._records

    def replace_records(self, records: list[Record]) -> None:
        """Use other records, which are not validated (RFC 4035 section 3.2.3).

        The packet cache must not repeat the reply, whose parts are valid for different times.
        """
        self._cleared = c.FLAG_AD
        self._records = records
        self._owner = None
        self.reply.deadline = None

    def map_names(
        self, function: Callable[[bytes], bytes], *, owners: bool = False, values: bool = False
    ) -> None:
        """Replace the owners and the values of records by the result of a function.

        Changed records are not authentic, so AD is cleared (RFC 4035 section 3.2.3).
        """
        mapped = _Mapped(function)  # most records of a reply have the same owner
        if self._owner is not None:
            if owners:
                self._owner = mapped[self._owner]
        else:
            for record in self.records:
                if owners:
                    record.owner = mapped[record.owner]
                if values and (value := record.value) is not None:
                    record.value = mapped[value]
        if mapped.has_changes:
            self._cleared = c.FLAG_AD

    def limit_ttls(self, least: int, most: int) -> None:
        """Raise TTLs to `least` and lower them to `most` seconds."""
        self._least_ttl = min(max(self._least_ttl, least), most)
        if self._records is not None:
            for record in self._records:
                record.ttl = self._limited(record.ttl, least, most)
            return
        wire = self.reply.wire if self._ttls is None else self._ttls
        changed = bytearray(wire)
        for offset in self.reply.ttl_offsets:
            _pack_ttl(changed, offset, self._limited(read_ttl(wire, offset), least, most))
        self._ttls = changed

    def _limited(self, ttl: int, least: int, most: int) -> int:
        """Return a TTL moved into a range, and note whether it was outside."""
        if ttl < least:
            self._has_raised_ttls = True
            return least
        if ttl > most:
            self._has_lowered_ttls = True
            return most
        return ttl

    def close(self) -> Reply:
        """Return the reply to the client's query; raises FormError."""
        reply = self.reply
        if reply.deadline is not None and (self._least_ttl or self._has_lowered_ttls):
            reply.deadline = min(reply.deadline, self._deadline_of_ttls())
        wire = self._written()
        if self.asked is self.exchange.request and self._records is None:
            reply.patch(wire)
        else:
            reply.wire = wire
        reply.extended_rcode = self.rcode >> 4
        self.options.close()
        return reply

    def _written(self) -> bytes:
        """Return the message with the client's question."""
        request, asked = self.exchange.request, self.asked
        wire = self._with_flags(self.reply.wire if self._ttls is None else bytes(self._ttls))
        if self._records is None:
            if asked is request:
                return wire
            keeps_name = asked.name_wire == request.name_wire
            keeps_offsets = keeps_name or counts(wire)[1:] == (0, 0, 0)
            if keeps_offsets or self._owner == request.name_wire:
                return b"".join((wire[:12], request.question, wire[asked.question_end :]))
        own, question = request.name_wire, request.question
        for record in self.records:
            if lower(record.owner) == own:
                record.owner = question[:-4]  # in the client's case
        return write_message(wire[:12], question, self.records)

    def _with_flags(self, wire: bytes) -> bytes:
        """Return the message with the rcode, TC and AD.

        An error that becomes NOERROR has AA: glibc takes an empty reply without it and RA for a
        referral, and asks again.
        """
        first, second = wire[2], wire[3] & ~self._cleared & ~_RCODE | self.rcode & _RCODE
        first = first | _TC if self.is_truncated else first & ~_TC
        if self.rcode == c.NOERROR != self.reply.rcode:
            first |= _AA
        if (first, second) == (wire[2], wire[3]):
            return wire
        return b"".join((wire[:2], bytes((first, second)), wire[4:]))

    def _deadline_of_ttls(self) -> float:
        """Return when a TTL falls below the least one that the rules allow, at least a second.

        The packet cache lowers TTLs by the whole seconds since `Reply.since`. It must neither leave
        the range of a rule, nor repeat a TTL of 0 that was lowered by a rule: at that time, the
        chain returns the whole TTL again.
        """
        reply, received = self.reply, self.exchange.request.received
        if self._has_raised_ttls:
            reply.since = received  # the new TTLs are those of this moment
        if self._records is not None:
            ttls = [record.ttl for record in self._records]
        else:
            wire = reply.wire if self._ttls is None else self._ttls
            ttls = [read_ttl(wire, offset) for offset in reply.ttl_offsets]
        least = max(self._least_ttl, 1)
        left = min((ttl - least for ttl in ttls if ttl >= least), default=None)
        if left is None:  # a TTL of 0 stays as it is
            return math.inf
        return reply.since + int(received - reply.since) + left + 1.0


class _Mapped(dict[bytes, bytes]):
    """The results of a function of names, each computed once."""

    def __init__(self, function: Callable[[bytes], bytes]) -> None:
        super().__init__()
        self._function = function
        self.has_changes = False
        """Whether a result differs from the name."""

    def __missing__(self, name: bytes) -> bytes:
        self[name] = mapped = self._function(name)
        if mapped != name:
            self.has_changes = True
        return mapped


class _Options:
    """The EDNS options of a reply: its own, and those of the query that rules have changed.

    As in CoreDNS, a reply repeats the options of the query as the rules have left it, if it has
    none of their own. The server repeats the client's own ones.
    """

    def __init__(self, exchange: Exchange, reply: Reply) -> None:
        self._exchange = exchange
        self._reply = reply
        self._own: list[tuple[int, bytes]] | None = None
        self._repeated: dict[int, bytes] = {}

    @property
    def _codes(self) -> set[int]:
        """The codes of changed options that the server would repeat."""
        exchange = self._exchange
        return exchange.changed_codes & exchange.request.context.echoed_options

    def _read(self) -> list[tuple[int, bytes]]:
        if self._own is None:
            self._own = parse_options(self._reply.options)
            codes = self._codes - {code for code, _ in self._own}
            for code, data in self._exchange.options or ():
                if code in codes:
                    self._repeated.setdefault(code, data)
        return self._own

    def revert(self, code: int, data: bytes | None) -> None:
        """Give an option the value that the query had before a rule, None to remove it."""
        own = self._read()
        for index, (other, _) in enumerate(own):
            if other == code:
                own[index : index + 1] = [] if data is None else [(code, data)]
                return
        if code in self._repeated:
            if data is None:
                del self._repeated[code]
            else:
                self._repeated[code] = data

    def close(self) -> None:
        """Store the options in the reply, and exempt others from being repeated by the server.

        Repeated options are left out if they do not fit.
        """
        exchange, reply = self._exchange, self._reply
        request = exchange.request
        if request.edns is None or not exchange.changed_codes:
            return
        own = self._read()
        options = b"".join(option(code, data) for code, data in own)
        room = request.size - OPT_SIZE - len(reply.wire)
        clients = dict(reversed(exchange.client_options))
        exempt = set()
        for code in self._codes.difference(code for code, _ in own):
            data = self._repeated.get(code)
            if data is not None and clients.get(code) == data:
                continue
            repeated = b"" if data is None else option(code, data)
            if repeated and len(options) + len(repeated) <= room:
                options += repeated
            else:
                exempt.add(code)
        reply.options = options
        if not exempt.isdisjoint(clients):
            echoed = request.context.echoed_options - exempt
            request.context = replace(request.context, echoed_options=echoed)
