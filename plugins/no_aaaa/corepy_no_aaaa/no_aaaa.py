"""The handler that keeps IPv6 addresses from clients in a cluster without IPv6."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, ClassVar, Final

from corepy.dns import Reply
from corepy.dns import constants as c
from corepy.dns.form_error import FormError
from corepy.dns.names import from_text, lower, parent_offsets
from corepy.plugin import (
    Cacheability,
    ExplainedHandler,
    FastHandler,
    apply_step,
)
from corepy_no_aaaa.filtering import filtered
from corepy_no_aaaa.metrics import ANSWERED, FILTERED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corepy.dns import Request
    from corepy.plugin.handler import Answer

TTL: Final = 300
"""Seconds for which a client may keep the answer that there is no AAAA record."""

REPEATED: Final = 1.0
"""Seconds for which the packet cache repeats a reply.

It lowers the TTLs every full second, so within one the reply is the same as from here.
"""

_FILTERED_TYPES: Final = frozenset(
    (c.TYPE_HTTPS, c.TYPE_SVCB, c.TYPE_SRV, c.TYPE_MX, c.TYPE_NS, c.TYPE_ANY)
)
"""Types of queries whose replies may have addresses besides the records that were asked for."""

_OPCODE: Final = 0x78
_QNAME: Final = b"\xc0\x0c"
_COUNTS: Final = b"\0\1\0\0\0\1\0\0"
# Serial, refresh, retry and expire are those of RFC 6303 section 3, as in *hosts*.
_SOA_RDATA: Final = (
    _QNAME + from_text("nobody.invalid.") + Struct("!5I").pack(1, 3600, 1200, 604800, TTL)
)
_SOA: Final = (
    Struct("!2sHHIH").pack(_QNAME, c.TYPE_SOA, c.CLASS_IN, TTL, len(_SOA_RDATA)) + _SOA_RDATA
)
"""A SOA record of the name in the question."""


class NoAAAA(FastHandler, ExplainedHandler):
    """Answers AAAA queries without data, and removes IPv6 addresses from other replies.

    Queries for A records pass through unchanged, and so do those of clients that validate replies:
    a validator refuses unsigned data.
    """

    name: ClassVar[str] = "no_aaaa"
    cacheability = Cacheability.SAFE
    inputs = b""

    def __init__(self, excepted: Sequence[str] = ()) -> None:
        """Leave the names in the zones `excepted` alone."""
        self._excepted = tuple(excepted)
        self._excepted_labels = [lower(from_text(zone))[:-1] for zone in excepted]

    @property
    def excepted(self) -> tuple[str, ...]:
        """The zones whose names keep their AAAA records."""
        return self._excepted

    def begin_dns(self, request: Request) -> Answer:
        """Answer an AAAA query; pass others on, some with a step for the reply."""
        qtype = request.qtype
        if qtype == c.TYPE_AAAA:
            if self._applies(request):
                return _no_data(request)
        elif qtype in _FILTERED_TYPES and self._applies(request):
            return apply_step(self.next.begin_dns(request), _filter, request)
        return self.next.begin_dns(request)

    def _applies(self, request: Request) -> bool:
        if request.qclass != c.CLASS_IN or request.wire[2] & _OPCODE:
            return False
        if request.do and request.cd:
            return False
        return not self._is_excepted(request.name_wire)

    def _is_excepted(self, name: bytes) -> bool:
        """Return whether a name is in an excepted zone, or would be without a search domain.

        *autopath* and some resolvers end a search at a name without data: they would never ask for
        the name in the zone.
        """
        return any(
            labels in name and any(name.startswith(labels, at) for at in parent_offsets(name))
            for labels in self._excepted_labels
        )

    def explain_state(self, request: Request, reply: Reply | None = None) -> dict[str, str | int]:
        """Return the effect on the query, and if there is none, why."""
        if request.qtype != c.TYPE_AAAA and request.qtype not in _FILTERED_TYPES:
            return {"state": "not affected"}
        if self._applies(request):
            is_answered = request.qtype == c.TYPE_AAAA
            return {"state": "answers" if is_answered else "removes IPv6 addresses"}
        if request.do and request.cd:
            return {"state": "the client validates (DO and CD)"}
        return {"state": "excepted"}


def _no_data(request: Request) -> Reply:
    """Return a reply without an answer, with a SOA record for caches (RFC 2308 section 2.2).

    AA is set: glibc takes a reply without it, RA and additional records for a referral, and asks
    again (resolv/res_send.c).
    """
    wire = request.wire
    flags = bytes((0x84 | wire[2] & 0x01, wire[3] & 0x10))  # QR and AA, RD and CD of the query
    question = wire[c.HEADER_SIZE : request.question_end]
    reply = Reply(b"".join((wire[:2], flags, _COUNTS, question, _SOA)))
    reply.validated, reply.validated_for = reply.wire, request.asked
    reply.since = request.received
    reply.deadline = request.received + REPEATED
    value = ANSWERED.labels(request.context.server)
    value.inc()
    reply.hit_counters = (value,)
    return reply


def _filter(request: Request, reply: Reply | None) -> Reply | None:
    """Remove IPv6 addresses from a reply; without any, it stays as it is."""
    if reply is None or reply.is_dropped or reply.series is not None:
        return reply
    try:
        wire = filtered(request, reply)
    except FormError:
        return reply  # the server validates it
    if wire is not None:
        reply.wire = wire
        value = FILTERED.labels(request.context.server)
        value.inc()
        if reply.deadline is not None:
            reply.hit_counters += (value,)
    return reply
