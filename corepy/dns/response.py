"""Classifies replies, for cache and log.

Based on CoreDNS's plugin/pkg/response (typify.go, classify.go) and plugin/pkg/dnsutil/ttl.go. Where
they differ from RFC 2308, this follows RFC 2308.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from corepy.dns import constants as c
from corepy.dns.reply import Reply
from corepy.dns.wire import (
    Buffer,
    counts,
    min_ttl,
    skip_questions,
    soa_negative_ttl,
    ttl_offsets,
)

SHORT_TTL: Final = 5
"""TTL in seconds of a reply without usable TTLs (ttl.go, MinimalDefaultTTL)."""

_SOA, _NS, _RRSIG, _CNAME, _DNAME = (
    rtype.to_bytes(2, "big")
    for rtype in (c.TYPE_SOA, c.TYPE_NS, c.TYPE_RRSIG, c.TYPE_CNAME, c.TYPE_DNAME)
)
_ALIASES: Final = frozenset((_CNAME, _DNAME, _RRSIG))
_LEAST_RRSIG: Final = b"\0\x12"
"""Length of an RRSIG's data up to its names."""


class Kind(Enum):
    """Kind of a reply; the values are CoreDNS's names in the log plugin and metrics."""

    NO_ERROR = "NOERROR"
    NAME_ERROR = "NXDOMAIN"
    SERVER_ERROR = "SERVERERROR"
    NO_DATA = "NODATA"
    DELEGATION = "DELEGATION"
    META = "META"
    UPDATE = "UPDATE"
    OTHER_ERROR = "OTHERERROR"

    __hash__ = object.__hash__  # implemented in C, unlike Enum's; used for every reply


class ReplyClass(Enum):
    """Class of a reply; the values are the log plugin's arguments."""

    ALL = "all"
    SUCCESS = "success"
    DENIAL = "denial"
    ERROR = "error"

    __hash__ = object.__hash__  # as above


_TIMED: Final = frozenset((Kind.NO_ERROR, Kind.NAME_ERROR, Kind.NO_DATA))

_EMPTY: Final = {
    c.NXDOMAIN: Kind.NAME_ERROR,
    c.SERVFAIL: Kind.SERVER_ERROR,
    c.NOTIMP: Kind.SERVER_ERROR,
}
"""Kinds of replies by rcode, regardless of the answer section."""

_CLASSES: Final = {
    Kind.NO_ERROR: ReplyClass.SUCCESS,
    Kind.DELEGATION: ReplyClass.SUCCESS,
    Kind.NAME_ERROR: ReplyClass.DENIAL,
    Kind.NO_DATA: ReplyClass.DENIAL,
}


def classify(kind: Kind) -> ReplyClass:
    """Return the class of a kind of reply."""
    return _CLASSES.get(kind, ReplyClass.ERROR)


def typify(reply: Reply | bytes, now: float | None = None) -> Kind:
    """Return the kind of a reply; raise FormError.

    `now` is the wall clock in seconds, given if the client set DO: a reply with an RRSIG that is
    not valid at that time is OTHER_ERROR, so that it is not cached.
    """
    if isinstance(reply, Reply):
        wire, rcode = reply.wire, reply.rcode
    else:
        wire, rcode = reply, reply[3] & 15 if len(reply) > 3 else 0
    qd, an, _, _ = counts(wire)
    opcode = wire[2] >> 3 & 15
    if opcode == c.OPCODE_UPDATE:
        return Kind.UPDATE
    if opcode == c.OPCODE_NOTIFY or (qd and _first_qtype(wire) in c.TRANSFERS):
        return Kind.META
    if now is not None and _has_expired_signature(wire, _offsets(reply), int(now)):
        return Kind.OTHER_ERROR
    if an and rcode == c.NOERROR:
        return Kind.NO_ERROR
    if an and rcode == c.NXDOMAIN:
        is_denied = _is_denied_alias(wire, _offsets(reply))
        return Kind.NAME_ERROR if is_denied else Kind.OTHER_ERROR
    return _EMPTY.get(rcode, Kind.OTHER_ERROR) if rcode else _typify_empty(wire, _offsets(reply))


def _offsets(reply: Reply | bytes) -> list[int]:
    """Return the offsets of the TTLs; type and class of each record are directly before its TTL."""
    return reply.ttl_offsets if isinstance(reply, Reply) else ttl_offsets(reply)


def _first_qtype(wire: Buffer) -> int:
    end = skip_questions(wire, 1)
    return wire[end - 4] << 8 | wire[end - 3]


def _authority(wire: bytes, offsets: list[int]) -> set[bytes]:
    """Return the types in the authority section."""
    first = wire[6] << 8 | wire[7]
    return {wire[at - 4 : at - 2] for at in offsets[first : first + (wire[8] << 8 | wire[9])]}


def _is_denied_alias(wire: bytes, offsets: list[int]) -> bool:
    """Return whether NXDOMAIN refers to the end of an alias chain, with the SOA as proof.

    RFC 2308 section 2.1. CoreDNS classifies such a reply as another error and never caches it.
    """
    answers = {wire[at - 4 : at - 2] for at in offsets[: wire[6] << 8 | wire[7]]}
    return answers <= _ALIASES and _SOA in _authority(wire, offsets)


def _typify_empty(wire: bytes, offsets: list[int]) -> Kind:
    """Return the kind of a NOERROR reply without an answer."""
    types = _authority(wire, offsets)
    if _SOA in types:
        return Kind.NO_DATA
    return Kind.DELEGATION if _NS in types else Kind.NO_ERROR


def _has_expired_signature(wire: bytes, offsets: list[int], now: int) -> bool:
    for at in offsets:
        if wire[at - 4 : at - 2] != _RRSIG or wire[at + 4 : at + 6] < _LEAST_RRSIG:
            continue
        expiration = int.from_bytes(wire[at + 14 : at + 18], "big")
        inception = int.from_bytes(wire[at + 18 : at + 22], "big")
        if _serial_gap(inception, now) < 0 or _serial_gap(now, expiration) < 0:
            return True
    return False


def _serial_gap(earlier: int, later: int) -> int:
    """Return later - earlier for 32-bit times that wrap around (RFC 4034 section 3.1.5)."""
    return ((later - earlier + 0x80000000) & 0xFFFFFFFF) - 0x80000000


def minimal_ttl(reply: Reply, kind: Kind) -> int:
    """Return the lifetime of a reply in seconds: its lowest TTL, and with a SOA also its MINIMUM.

    RFC 2308 section 5; a SOA in the authority section of a success denies the target of an alias.
    The result is SHORT_TTL for a reply without records, and for kinds that are not cached by TTL
    (plugin/pkg/dnsutil/ttl.go). Raise FormError.
    """
    if kind not in _TIMED:
        return SHORT_TTL
    lowest = min_ttl(reply.wire, reply.ttl_offsets)
    if lowest is None:
        return SHORT_TTL
    if reply.wire[8:10] == b"\0\0":
        return lowest
    negative = soa_negative_ttl(reply.wire, reply.ttl_offsets)
    return lowest if negative is None else min(lowest, negative)
