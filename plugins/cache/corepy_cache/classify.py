"""Classify a reply: whether it may be cached, as which kind, and for how long.

Follows CoreDNS's plugin/cache/cache.go (cacheResponseType, key, answersQuestion); comments mark the
differences. Pure functions over wire bytes, which raise `FormError` for malformed messages. The
usual reply, in which all records answer the question directly, takes one short loop.
"""

from __future__ import annotations

from functools import lru_cache, partial
from struct import Struct
from time import time
from typing import TYPE_CHECKING, Final

from corepy.dns import constants as c
from corepy.dns.form_error import FormError
from corepy.dns.names import is_subdomain
from corepy.dns.response import Kind, minimal_ttl, typify
from corepy.dns.wire import NameReader, read_name, soa_negative_ttl
from corepy.plugin import DEPENDS_ON_CLIENT

if TYPE_CHECKING:
    from corepy.dns import Reply, Request
    from corepy_cache.settings import Settings

_unpack_record: Final = Struct("!HHIH").unpack_from
_QNAME_POINTER: Final = b"\xc0\x0c"
_OPCODE_TC: Final = 0x7A
_SPECIAL: Final = frozenset((c.TYPE_CNAME, c.TYPE_ANY, c.TYPE_AXFR, c.TYPE_IXFR))
NEVER: Final = (Kind.OTHER_ERROR, Kind.META, Kind.UPDATE)
"""Kinds that are never cached."""

MAX_TTL: Final = 0x7FFFFFFF

_FEW: Final = 16
_MOST_ALIASES: Final = 64
"""The maximum length of an alias chain; BIND and unbound follow fewer aliases."""


class Classification:
    """The result of `classify`, immutable because replies share it.

    `ttl` is the TTL of the records in seconds, before any bounds apply.
    """

    __slots__ = ("answers", "denial", "failure", "keep", "kind", "replaces_entry", "ttl", "uniform")

    def __init__(
        self,
        kind: Kind,
        ttl: int,
        answers: bool,
        keep: bool,
        *,
        replaces_entry: bool,
        uniform: bool = False,
    ) -> None:
        self.kind = kind
        self.ttl = ttl
        self.uniform = uniform
        """Whether every record is known to have the TTL `ttl`."""
        self.answers = answers
        """Whether the reply contains the records asked for (a usable positive reply)."""
        self.keep = keep
        self.replaces_entry = replaces_entry
        """Whether the reply gives the current state of the name, so that older entries are
        outdated."""
        self.failure = kind is Kind.SERVER_ERROR
        self.denial = kind is Kind.NAME_ERROR or kind is Kind.NO_DATA


@lru_cache(maxsize=1024)
def _plain(ttl: int, uniform: bool) -> Classification:
    return Classification(
        Kind.NO_ERROR, ttl, answers=True, keep=True, replaces_entry=True, uniform=uniform
    )


def matches(reply: Reply, request: Request) -> bool:
    """Return whether the message is a reply to exactly this question.

    RFC 5452 section 9.1; CoreDNS: request.Request.Match.
    """
    wire, end = reply.wire, request.question_end
    if wire[4:6] != b"\0\1" or not wire[2] & 0x80:
        return False
    if wire.startswith(request.wire[12:end], 12):
        return True
    name_end = end - 4
    return (
        wire[12:name_end].lower() == request.name_wire
        and wire[name_end:end] == request.wire[name_end:end]
    )


def classify(reply: Reply, request: Request, wall_clock: float | None) -> Classification:
    """Classify a reply that `matches`; raises FormError.

    `wall_clock` is given if the client set DO. A reply with a signature that is not valid at that
    time is then not cached (plugin/pkg/response/typify.go).
    """
    wire = reply.wire
    if wall_clock is None:
        ttls = reply.plain_ttls
        if ttls is not None and request.qtype not in _SPECIAL:
            return _plain(ttls[0], ttls[0] == ttls[1])
        if not (wire[2] & _OPCODE_TC or wire[3] & 15 or reply.extended_rcode):
            ttl = _plain_ttl(wire, request)
            if ttl is not None:
                return _plain(ttl, False)
    kind = typify(reply, wall_clock)
    keep = kind not in NEVER
    answers = False
    if kind is Kind.NO_ERROR and reply.ancount:
        answers = _answers(reply, request)
        if not answers:
            kind, keep = _without_answer(reply)
    elif kind is Kind.NAME_ERROR:
        # RFC 2308 section 5: without SOA the negative TTL is unknown.
        keep = soa_negative_ttl(wire, reply.ttl_offsets) is not None
    replaces_entry = _replaces_entry(reply, kind, answers)
    return Classification(
        kind,
        minimal_ttl(reply, kind),
        answers,
        keep and not reply.tc,
        replaces_entry=replaces_entry,
    )


def _replaces_entry(reply: Reply, kind: Kind, answers: bool) -> bool:
    """Return whether a reply replaces the cached one, even if it may not be cached itself.

    RFC 8767 section 4: NOERROR and NXDOMAIN do; all other rcodes are failures to refresh. Of a
    truncated reply only the records that arrived count (RFC 2181 section 9). Without records it
    only requests TCP.
    """
    if kind is Kind.META or kind is Kind.UPDATE:
        return False
    if reply.rcode == c.NOERROR:
        return answers or not reply.tc
    return reply.rcode == c.NXDOMAIN


def _plain_ttl(wire: bytes, request: Request) -> int | None:
    """Return the lowest TTL of a reply that has only the requested records, otherwise None.

    Recognizes the records by their first bytes, with the usual name compression.
    """
    qtype, qclass = request.qtype, request.qclass
    if wire[6:8] == b"\0\0" or wire[8:12] != b"\0\0\0\0" or qtype in _SPECIAL:
        return None
    at = request.question_end
    last = len(wire) - 12
    lowest = MAX_TTL
    for _ in range(wire[6] << 8 | wire[7]):
        if at > last or wire[at : at + 2] != _QNAME_POINTER:
            return None
        rtype, rclass, ttl, rdlength = _unpack_record(wire, at + 2)
        if rtype != qtype or rclass != qclass:
            return None
        if ttl < lowest:
            lowest = ttl
        elif ttl > MAX_TTL:
            return 0  # RFC 2181 section 8
        at += 12 + rdlength
    return lowest


def _without_answer(reply: Reply) -> tuple[Kind, bool]:
    """Return the kind, and whether to cache it, of a NOERROR reply without the requested records.

    With SOA it is a NODATA behind an alias (RFC 2308 section 2.2). Without SOA it is an alias chain
    that an upstream left incomplete, which must not be repeated to other clients.
    """
    if soa_negative_ttl(reply.wire, reply.ttl_offsets) is not None:
        return Kind.NO_DATA, True
    return Kind.NO_ERROR, False


def _answers(reply: Reply, request: Request) -> bool:
    """Return whether the alias chain from the name ends at records of the requested type.

    RFC 1034 section 3.6.2. A chain that forks (RFC 2181 section 10.1), loops, or is longer than any
    resolver follows has no end.
    """
    wire, qtype, qclass = reply.wire, request.qtype, request.qclass
    # Caching the targets of compression pointers pays off only with many records.
    read = partial(read_name, wire) if reply.ancount <= _FEW else NameReader(wire).read
    aliases: dict[bytes, bytes] = {}
    candidates = []
    links = 0
    owner = request.question_end
    for at in reply.ttl_offsets[: reply.ancount]:
        rtype, rclass, _, rdlength = _unpack_record(wire, at - 4)
        if rclass == qclass or qclass == c.CLASS_ANY:
            if rtype == c.TYPE_CNAME and qtype != c.TYPE_ANY:
                target = read(at + 6)[0].lower()
                is_first = wire.startswith(_QNAME_POINTER, owner)
                name = request.name_wire if is_first else read(owner)[0].lower()
                links += 1
                if aliases.setdefault(name, target) != target or links > _MOST_ALIASES:
                    return False
            elif rtype == qtype or qtype == c.TYPE_ANY:
                candidates.append(owner)
        owner = at + 6 + rdlength
    if qtype == c.TYPE_CNAME:
        return request.name_wire in aliases
    end = _end_of_chain(request.name_wire, aliases)
    return end is not None and any(read(at)[0].lower() == end for at in candidates)


def _end_of_chain(name: bytes, aliases: dict[bytes, bytes]) -> bytes | None:
    """Return the name at the end of an alias chain, None if the chain is a loop."""
    for _ in range(len(aliases) + 1):
        target = aliases.get(name)
        if target is None:
            return name
        name = target
    return None


def why_not(settings: Settings, request: Request, reply: Reply) -> str:
    """Return why a reply is not cached; see `CacheStore.keep`."""
    if reply.is_dropped:
        return "it is dropped"
    if DEPENDS_ON_CLIENT in request.metadata:
        return "other clients are denied a part of it"
    if reply.series is not None:
        return "it is a series of messages"
    if not matches(reply, request):
        return "it answers a different question"
    try:
        # time of day: whether a signature is valid (RFC 4034 section 3.1.5)
        classification = classify(reply, request, time() if request.do else None)
    except FormError:
        return "it is malformed"
    if reply.tc:
        return "it is truncated"
    if classification.kind in NEVER:
        return f"{c.rcode_name(reply.rcode)} is never cached ({classification.kind.value})"
    if not classification.keep:
        if classification.kind is Kind.NAME_ERROR:
            return "without an SOA record, a missing name has no TTL"
        return "its CNAME chain has no record of the queried type"
    return _by_settings(settings, request, classification)


def _by_settings(settings: Settings, request: Request, classification: Classification) -> str:
    bounds = (
        settings.denial if classification.denial or classification.failure else settings.success
    )
    if any(is_subdomain(request.name_wire, zone) for zone in bounds.except_zones):
        return "caching is disabled for this name"
    if classification.failure and not settings.servfail:
        return "failures are not cached (servfail 0)"
    return "its TTL is 0"
