"""What kind of reply a message is: the question that cache and log ask first.

After CoreDNS's plugin/pkg/response (typify.go, classify.go) and plugin/pkg/dnsutil/ttl.go, with
RFC 2308 taken at its word where they differ.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from corepy.dns import constants as c
from corepy.dns.reply import Reply
from corepy.dns.wire import (
    ANSWER,
    AUTHORITY,
    Buffer,
    counts,
    min_ttl,
    skip_questions,
    soa_negative_ttl,
    walk,
)

SHORT_TTL: Final = 5
"""Seconds for a reply whose records tell no time (ttl.go, MinimalDefaultTTL)."""

_ALIASES: Final = frozenset((c.TYPE_CNAME, c.TYPE_DNAME, c.TYPE_RRSIG))
_TRANSFERS: Final = frozenset((c.TYPE_AXFR, c.TYPE_IXFR))


class Kind(Enum):
    """Kind of a reply; the values are CoreDNS's names, as the log plugin and metrics use them."""

    NO_ERROR = "NOERROR"
    NAME_ERROR = "NXDOMAIN"
    SERVER_ERROR = "SERVERERROR"
    NO_DATA = "NODATA"
    DELEGATION = "DELEGATION"
    META = "META"
    UPDATE = "UPDATE"
    OTHER_ERROR = "OTHERERROR"

    __hash__ = object.__hash__  # in C; Enum's is Python, and every reply is looked up by its kind


class ReplyClass(Enum):
    """Class of a reply; the values are the log plugin's arguments."""

    ALL = "all"
    SUCCESS = "success"
    DENIAL = "denial"
    ERROR = "error"

    __hash__ = object.__hash__  # as above


_TIMED: Final = frozenset((Kind.NO_ERROR, Kind.NAME_ERROR, Kind.NO_DATA))

_CLASSES: Final = {
    Kind.NO_ERROR: ReplyClass.SUCCESS,
    Kind.DELEGATION: ReplyClass.SUCCESS,
    Kind.NAME_ERROR: ReplyClass.DENIAL,
    Kind.NO_DATA: ReplyClass.DENIAL,
}


def classify(kind: Kind) -> ReplyClass:
    """Return the class that a kind of reply belongs to."""
    return _CLASSES.get(kind, ReplyClass.ERROR)


def typify(reply: Reply | bytes, now: float | None = None) -> Kind:
    """Return the kind of a reply; raises FormError.

    now is the wall clock in seconds, to be given if the client set DO: a reply with an RRSIG that
    is not valid at that time is an other error, so that it is not cached.
    """
    if isinstance(reply, Reply):
        wire, rcode = reply.wire, reply.rcode
    else:
        wire, rcode = reply, reply[3] & 15 if len(reply) > 3 else 0
    qd, an, _, _ = counts(wire)
    opcode = wire[2] >> 3 & 15
    if opcode == c.OPCODE_UPDATE:
        return Kind.UPDATE
    if opcode == c.OPCODE_NOTIFY or (qd and _first_qtype(wire) in _TRANSFERS):
        return Kind.META
    if now is not None and _has_expired_signature(wire, int(now)):
        return Kind.OTHER_ERROR
    if an and rcode == c.NOERROR:
        return Kind.NO_ERROR
    if an and rcode == c.NXDOMAIN:
        return Kind.NAME_ERROR if _is_denied_alias(wire) else Kind.OTHER_ERROR
    return _typify_empty(wire, rcode)


def _first_qtype(wire: Buffer) -> int:
    end = skip_questions(wire, 1)
    return wire[end - 4] << 8 | wire[end - 3]


def _is_denied_alias(wire: bytes) -> bool:
    """Tell whether NXDOMAIN is about the end of an alias chain, with the SOA to prove it.

    RFC 2308 section 2.1. CoreDNS calls such a reply an other error and never caches it.
    """
    proven = False
    for section, rtype, *_ in walk(wire):
        if section == ANSWER and rtype not in _ALIASES:
            return False
        proven = proven or (section == AUTHORITY and rtype == c.TYPE_SOA)
    return proven


def _typify_empty(wire: bytes, rcode: int) -> Kind:
    """Return the kind of a reply that its answer section says nothing about."""
    if rcode == c.NXDOMAIN:
        return Kind.NAME_ERROR
    if rcode in (c.SERVFAIL, c.NOTIMP):
        return Kind.SERVER_ERROR
    if rcode != c.NOERROR:
        return Kind.OTHER_ERROR
    types = {rtype for section, rtype, *_ in walk(wire) if section == AUTHORITY}
    if c.TYPE_SOA in types:
        return Kind.NO_DATA
    return Kind.DELEGATION if c.TYPE_NS in types else Kind.NO_ERROR


def _has_expired_signature(wire: bytes, now: int) -> bool:
    for _, rtype, _, _, rdata, rdlength, _, _ in walk(wire):
        if rtype != c.TYPE_RRSIG or rdlength < 18:
            continue
        expiration = int.from_bytes(wire[rdata + 8 : rdata + 12], "big")
        inception = int.from_bytes(wire[rdata + 12 : rdata + 16], "big")
        if _serial_gap(inception, now) < 0 or _serial_gap(now, expiration) < 0:
            return True
    return False


def _serial_gap(earlier: int, later: int) -> int:
    """Return later - earlier for 32-bit times that wrap around (RFC 4034 section 3.1.5)."""
    return ((later - earlier + 0x80000000) & 0xFFFFFFFF) - 0x80000000


def minimal_ttl(reply: Reply, kind: Kind) -> int:
    """Return how many seconds a reply holds: its lowest TTL, with a SOA also its MINIMUM.

    RFC 2308 section 5; a SOA in the authority section of a success denies what an alias leads to.
    SHORT_TTL where there are no records, or where the kind is none to be kept by TTL
    (plugin/pkg/dnsutil/ttl.go). Raises FormError.
    """
    if kind not in _TIMED:
        return SHORT_TTL
    lowest = min_ttl(reply.wire, reply.ttl_offsets)
    if lowest is None:
        return SHORT_TTL
    if reply.wire[8:10] == b"\0\0":
        return lowest
    negative = soa_negative_ttl(reply.wire)
    return lowest if negative is None else min(lowest, negative)
