"""The handler that answers for local names (CoreDNS: plugin/local/local.go).

The names are those of RFC 6761 section 6.3 and of the reverse zones of RFC 6303 section 4.2 and
RFC 1912 section 4.1.
"""

from __future__ import annotations

import logging
from struct import pack
from typing import TYPE_CHECKING, ClassVar, Final

from corepy.dns import constants as c
from corepy.dns.names import from_text, is_subdomain, parent_offsets
from corepy.dns.records import rr
from corepy.plugin import Cacheability, ExplainedHandler, FastHandler, plugin_logger
from corepy_local.metrics import REQUESTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from corepy.dns import Reply, Request
    from corepy.plugin.handler import Answer

TTL: Final = 604800
"""Seconds: a week, as in CoreDNS and in the zones that Debian's BIND comes with."""

REPEATED: Final = 1.0
"""Seconds for which the packet cache repeats a reply.

It lowers the TTLs every full second, so within one the reply is the same as from here.
"""

LOG: Final = plugin_logger("local")

_LOCALHOST: Final = from_text("localhost.")
_FIRST_LABEL: Final = _LOCALHOST[:-1]
_REVERSE: Final = tuple(from_text(f"{first}.in-addr.arpa.") for first in (0, 127, 255))
_APEXES: Final = (_LOCALHOST, *_REVERSE)
_LOOPBACK: Final = from_text("1.0.0.127.in-addr.arpa.")
_BETWEEN: Final = frozenset(_LOOPBACK[at:] for at in parent_offsets(_LOOPBACK)[1:3])
"""The names between the zone and its only record, which have none themselves."""

_CLASSES: Final = frozenset((c.CLASS_IN, c.CLASS_ANY))

_ADDRESSES: Final = {c.TYPE_A: b"\x7f\0\0\1", c.TYPE_AAAA: bytes(15) + b"\1"}
_SOA: Final = _LOCALHOST + from_text("root.localhost.") + pack("!5I", 1, 0, 0, 0, TTL)
_AT_APEX: Final = {c.TYPE_SOA: _SOA, c.TYPE_NS: _LOCALHOST}
_AT_LOCALHOST: Final = {**_AT_APEX, **_ADDRESSES}
_AT_LOOPBACK: Final = {c.TYPE_PTR: _LOCALHOST}

_COUNTERS: Final = (REQUESTS,)


class Local(FastHandler, ExplainedHandler):
    """Answers for local names, so that these queries do not leave the node.

    It comes before *cache* in the chain, and its replies are the same for every client.
    """

    name: ClassVar[str] = "local"
    cacheability = Cacheability.SAFE
    inputs = b""

    with_prefix: bool = True
    """Whether names that begin with the label localhost are local, too."""

    def begin_dns(self, request: Request) -> Answer:
        """Return the reply for a local name, else the next handler's answer."""
        name = request.name_wire
        # Two tests that run in C exclude nearly all names.
        if not (name.endswith(_APEXES) or name.startswith(_FIRST_LABEL)):
            return self.next.begin_dns(request)
        if request.qclass in _CLASSES:
            if self._is_below_localhost(name):
                return self._below_localhost(request)
            zone = _zone_of(name)
            if zone is not None:
                return _repeated(request, _in_zone(request, zone))
        return self.next.begin_dns(request)

    def explain_state(
        self, request: Request, reply: Reply | None = None
    ) -> Mapping[str, str | int]:
        """Return whether the name is local."""
        name = request.name_wire
        is_local = self._is_below_localhost(name) or _zone_of(name) is not None
        is_local &= request.qclass in _CLASSES
        return {} if reply is not None else {"state": "local name" if is_local else "not local"}

    def _is_below_localhost(self, name: bytes) -> bool:
        if name == _LOCALHOST:
            return False
        return (self.with_prefix and name.startswith(_FIRST_LABEL)) or is_subdomain(
            name, _LOCALHOST
        )

    def _below_localhost(self, request: Request) -> Reply:
        """Return the loopback address; the reply is counted, and logged by *debug*."""
        REQUESTS.value += 1
        owner = request.question[:-4]
        reply = _lookup(request, _ADDRESSES, owner)
        if LOG.isEnabledFor(logging.DEBUG):
            # The packet cache would not log its repetitions.
            LOG.debug(
                'Intercepting localhost query for "%s" %s, from %s',
                request.name,
                request.type,
                request.remote[0],
            )
            return reply
        reply.hit_counters = _COUNTERS
        return _repeated(request, reply)


def _zone_of(name: bytes) -> bytes | None:
    return next((zone for zone in _APEXES if is_subdomain(name, zone)), None)


def _in_zone(request: Request, zone: bytes) -> Reply:
    """Return the reply for a name in `zone`, one of the apexes."""
    name, owner = request.name_wire, request.question[:-4]
    apex = owner[len(owner) - len(zone) :]
    if name == zone:
        return _lookup(request, _AT_LOCALHOST if zone == _LOCALHOST else _AT_APEX, apex)
    if name == _LOOPBACK:
        return _lookup(request, _AT_LOOPBACK, apex)
    # A name above an existing one exists (RFC 8020 section 2); CoreDNS denies it.
    if name in _BETWEEN:
        return _lookup(request, {}, apex)
    return request.reply(c.NXDOMAIN, authority=[_soa(apex)])


def _lookup(request: Request, rdata: Mapping[int, bytes], apex: bytes) -> Reply:
    """Return the record of the type that was asked for, or NODATA with the SOA of `apex`."""
    found = rdata.get(request.qtype)
    if found is None:
        # AA: glibc takes an empty reply without it and RA for a referral, and asks again.
        return request.reply(authority=[_soa(apex)], authoritative=True)
    return request.reply(answer=[rr(request.question[:-4], request.qtype, TTL, found)])


def _soa(apex: bytes) -> bytes:
    return rr(apex, c.TYPE_SOA, TTL, _SOA)


def _repeated(request: Request, reply: Reply) -> Reply:
    reply.since = request.received
    reply.deadline = request.received + REPEATED
    return reply
