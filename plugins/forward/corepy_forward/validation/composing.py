"""Makes the replies to clients from a reply that was validated for all of them."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final

from corepy.dns import Reply
from corepy.dns import constants as c
from corepy.dns.edns import ede
from corepy.dns.wire import ADDITIONAL, ANSWER, AUTHORITY

if TYPE_CHECKING:
    from corepy.dns import Request
    from corepy_forward.validation.record_sets import Message, Record
    from corepy_forward.validation.replies import Validated

_ONLY_WITH_DO: Final = frozenset((c.TYPE_RRSIG, c.TYPE_NSEC, c.TYPE_NSEC3))
"""Types that clients without DO get only if they ask for them (RFC 4035 section 3.2.1)."""

_QNAME: Final = b"\xc0\x0c"
_RCODE: Final = 0x0F
_CHANGED: Final = c.FLAG_AD | c.FLAG_CD
_pack_fixed: Final = Struct("!HHIH").pack
_pack_counts: Final = Struct("!HHH").pack


class Composer:
    """Makes replies from one message; `validated` is None for clients with CD."""

    def __init__(
        self, request: Request, reply: Reply, message: Message, validated: Validated | None
    ) -> None:
        """`request` is one of the clients' queries."""
        self._qtype = request.qtype
        self._name = request.name_wire
        self._question_end = request.question_end
        self._reply = reply
        self._message = message
        self._validated = validated
        self.is_secure = validated is not None and validated.verdict.is_secure
        self._wires: dict[bool, bytes] = {}

    def reply(self, request: Request) -> Reply:
        """Return the reply for a client."""
        do, end = request.do, self._question_end
        wire = self._wires.get(do)
        if wire is None:
            wire = self._wires[do] = self._compose(do)
        flags = (wire[2] << 8 | wire[3]) & ~_CHANGED | request.flags & c.FLAG_CD
        if self._validated is not None and self._validated.rcode is not None:
            flags = flags & ~_RCODE | self._validated.rcode
        if self.is_secure and (do or request.ad):
            flags |= c.FLAG_AD  # RFC 6840 section 5.8
        head = wire[:2] + flags.to_bytes(2, "big") + wire[4:12]
        made = Reply(head + request.wire[12:end] + wire[end:], options=self._options())
        made.validated, made.validated_for = made.wire, request.asked
        return made

    def _options(self) -> bytes:
        options = self._reply.options
        if self._validated is not None and self._validated.verdict.ede >= 0:
            options += ede(self._validated.verdict.ede, self._validated.verdict.text)
        return options

    def _compose(self, do: bool) -> bytes:
        """Return the message with the records for clients with or without DO."""
        wire, records = self._message.wire, self._message.records
        kept = [(it, self._ttl(it)) for it in records if self._is_kept(it, do)]
        if len(kept) == len(records) and all(record.ttl == ttl for record, ttl in kept):
            return wire
        counts = [sum(it.section == part for it, _ in kept) for part in _SECTIONS]
        packed = b"".join(self._packed(record, ttl) for record, ttl in kept)
        return wire[:6] + _pack_counts(*counts) + wire[12 : self._question_end] + packed

    def _is_kept(self, record: Record, do: bool) -> bool:
        section, rtype, validated = record.section, record.rtype, self._validated
        if rtype in _ONLY_WITH_DO and not do:
            is_asked = self._qtype in (rtype, c.TYPE_ANY) and section == ANSWER
            if not is_asked:
                return False
        if validated is None:
            return True
        if section == ANSWER:
            return record.key in validated.answer
        if not self.is_secure:
            return True
        return section == AUTHORITY and record.key in validated.authority

    def _ttl(self, record: Record) -> int:
        """Return the TTL in seconds, within that of the signature (RFC 4035 section 5.3.3)."""
        if self._validated is None:
            return record.ttl
        proven = self._validated.answer if record.section == ANSWER else self._validated.authority
        return min(record.ttl, proven.get(record.key, record.ttl))

    def _packed(self, record: Record, ttl: int) -> bytes:
        owner = _QNAME if record.owner == self._name and len(self._name) > 1 else record.owner
        rdata = record.rdata
        return owner + _pack_fixed(record.rtype, c.CLASS_IN, ttl, len(rdata)) + rdata


_SECTIONS: Final = (ANSWER, AUTHORITY, ADDITIONAL)
