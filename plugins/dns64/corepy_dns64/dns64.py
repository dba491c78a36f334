"""The handler that translates A records to AAAA records (RFC 6147; CoreDNS: plugin/dns64)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from corepy.dns import FormError, Reply
from corepy.dns import constants as c
from corepy.dns.records import rr
from corepy.plugin import (
    Cacheability,
    ExplainedHandler,
    FastHandler,
    apply_step,
    lookup,
    without_deadline,
)
from corepy_dns64.metrics import TRANSLATED
from corepy_dns64.synthesis import (
    MAPPED,
    TTL_WITHOUT_SOA,
    addresses,
    answer_of,
    longest_ttl,
    reply_with,
    translated,
    without_mapped,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from corepy.dns import Request
    from corepy.plugin.handler import Answer
    from corepy_dns64.prefix import Prefix

_SOCKADDR_IN6: Final = 28
"""Bytes of an IPv6 socket address (ipv6(7)); the IP address starts at byte 8."""

_IP_START: Final = 8
_IPV4: Final = 1
_IPV6: Final = 2
"""Address families as in `Request.family`."""

_NO_LOOKUP: Final = "plugin/dns64: too many nested look-ups"
_MALFORMED: Final = "plugin/dns64: a reply that it has to translate is malformed"


class DNS64(FastHandler, ExplainedHandler):
    """Answers queries for AAAA records that do not exist with translated A records.

    The effect depends on the address family of the client, unless `allow_ipv4` is set. The handler
    is SAFE nevertheless: a reply that clients of the other family would not get has no deadline.
    """

    name: ClassVar[str] = "dns64"
    cacheability = Cacheability.SAFE
    inputs = b""

    def __init__(
        self, prefix: Prefix, *, translate_all: bool = False, allow_ipv4: bool = False
    ) -> None:
        """`translate_all` ignores existing AAAA records; `allow_ipv4` serves IPv4 clients, too."""
        self.prefix = prefix
        self.translate_all = translate_all
        self.allow_ipv4 = allow_ipv4

    def begin_dns(self, request: Request) -> Answer:
        """Return the next handler's answer, translated if necessary."""
        qtype = request.qtype
        if qtype == c.TYPE_AAAA:
            return self._begin_aaaa(request)
        if qtype == c.TYPE_PTR:
            target = self._reverse_target(request)
            if target is not None:
                return self._begin_reverse(request, target)
        return self.next.begin_dns(request)

    def _begin_aaaa(self, request: Request) -> Answer:
        answer = self.next.begin_dns(request)
        if _forbids_synthesis(request):
            return answer
        if self.allow_ipv4 or _is_ipv6(request):
            if type(answer) is not Reply:
                return self._await(request, answer)
            return answer if self._is_final(answer) else self._translate(request, answer)
        if request.context.family == _IPV4:
            return answer  # the same for all clients
        return apply_step(answer, without_deadline, request)

    async def _await(self, request: Request, answer: Awaitable[Reply]) -> Reply:
        reply = await answer
        return reply if self._is_final(reply) else await self._translate(request, reply)

    async def _translate(self, request: Request, reply: Reply) -> Reply:
        try:
            return await self._replace(request, reply)
        except FormError as error:
            return request.error(c.SERVFAIL, f"{_MALFORMED}: {error}")

    def _is_final(self, reply: Reply) -> bool:
        """Return whether the client gets the reply to the AAAA query unchanged.

        An error other than NXDOMAIN is like an answer without records, because some name servers do
        not support the type AAAA (RFC 6147 section 5.1.2).
        """
        if reply.is_dropped or reply.is_momentary or reply.rcode == c.NXDOMAIN:
            return True
        if reply.series is not None:
            return True
        if self.translate_all or not reply.ancount:
            return False
        native, mapped = addresses(reply)
        return native and not mapped

    async def _replace(self, request: Request, reply: Reply) -> Reply:
        """Return the reply that `_is_final` does not accept, with usable records if possible."""
        native, mapped = addresses(reply)
        usable = reply
        if mapped:
            usable = reply_with(request, without_mapped(reply), reply, c.FLAG_AA)
        if native and not self.translate_all:
            return usable
        found = await lookup(request, request.question[:-4], c.TYPE_A)
        if found is None:
            return request.error(c.SERVFAIL, _NO_LOOKUP)
        if found.is_dropped:
            return request.drop()
        answer, count = translated(self.prefix, found, longest_ttl(reply))
        if not count and (reply.rcode != c.NOERROR or not (self.translate_all or _is_error(found))):
            return self._combined(request, usable, reply, found)
        # AA: glibc takes an empty reply without it and RA for a referral, and asks again.
        flags = 0 if answer else c.FLAG_AA
        made = self._combined(request, reply_with(request, answer, found, flags), reply, found)
        if count:
            _count(request, made)
        return made

    def _combined(self, request: Request, reply: Reply, aaaa: Reply, a: Reply) -> Reply:
        """Return `reply`, which may be repeated as long as the two that it is made of may be.

        It may not if clients over IPv4 can use the same socket: they get another reply.
        """
        deadlines = aaaa.deadline, a.deadline
        if None in deadlines or not (self.allow_ipv4 or request.context.family == _IPV6):
            reply.deadline = None
            return reply
        reply.hit_counters = aaaa.hit_counters + a.hit_counters
        reply.since = max(aaaa.since, a.since)
        reply.deadline = min(it for it in deadlines if it is not None)
        return reply

    def _reverse_target(self, request: Request) -> bytes | None:
        """Return the name of the IPv4 address for the name of an address with the prefix."""
        if not request.name_wire.endswith(self.prefix.reverse_zone) or _forbids_synthesis(request):
            return None
        return self.prefix.reverse_target(request.name_wire)

    async def _begin_reverse(self, request: Request, target: bytes) -> Reply:
        try:
            return await self._reverse(request, target)
        except FormError as error:
            return request.error(c.SERVFAIL, f"{_MALFORMED}: {error}")

    async def _reverse(self, request: Request, target: bytes) -> Reply:
        """Return the PTR records of the IPv4 address behind an alias (RFC 6147 section 5.3.1)."""
        found = await lookup(request, target)
        if found is None:
            return request.error(c.SERVFAIL, _NO_LOOKUP)
        if found.is_dropped:
            return request.drop()
        alias = rr(request.question[:-4], c.TYPE_CNAME, TTL_WITHOUT_SOA, target)
        reply = reply_with(request, [] if _is_error(found) else [alias, *answer_of(found)], found)
        reply.hit_counters, reply.deadline = found.hit_counters, found.deadline
        return reply

    def explain_state(self, request: Request, reply: Reply | None = None) -> dict[str, str | int]:
        """Return whether the query may be translated, and if not, why."""
        if request.qtype == c.TYPE_PTR and self._reverse_target(request) is not None:
            return {"state": "an address with the prefix"}
        if request.qtype != c.TYPE_AAAA or request.qclass != c.CLASS_IN:
            return {"state": "no query for AAAA"}
        if _forbids_synthesis(request):
            return {"state": "the client validates (DO and CD)"}
        if not (self.allow_ipv4 or _is_ipv6(request)):
            return {"state": "the client uses IPv4"}
        return {"state": "translates all" if self.translate_all else "translates"}


def _forbids_synthesis(request: Request) -> bool:
    """Return whether the class is not IN, or the client validates itself (RFC 6147 section 5.5)."""
    return request.qclass != c.CLASS_IN or (request.flags & c.FLAG_CD != 0 and request.do)


def _count(request: Request, reply: Reply) -> None:
    """Count a translated reply, and its repetitions by the packet cache."""
    value = TRANSLATED.labels(request.context.server)
    value.inc()
    if reply.deadline is not None:
        reply.hit_counters += (value,)


def _is_error(reply: Reply) -> bool:
    return reply.rcode not in (c.NOERROR, c.NXDOMAIN)


def _is_ipv6(request: Request) -> bool:
    client = request.client
    if type(client) is bytes and len(client) == _SOCKADDR_IN6:
        return not client.startswith(MAPPED, _IP_START)
    return request.family == _IPV6
