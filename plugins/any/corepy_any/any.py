"""The handler that refuses to list all records of a name (CoreDNS: plugin/any/any.go)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from corepy.dns.constants import CLASS_ANY, CLASS_IN, TYPE_ANY, TYPE_HINFO
from corepy.dns.records import rr
from corepy.plugin import Cacheability, FastHandler

if TYPE_CHECKING:
    from corepy.dns import Request
    from corepy.plugin.handler import Answer

TTL: Final = 8482
REPEATED: Final = 1.0
"""Seconds for which the packet cache repeats a reply.

It lowers the TTLs every full second, so within one the reply is the same as from here.
"""

_RDATA: Final = b"\x0dANY obsoleted\x0cSee RFC 8482"


class AnyHandler(FastHandler):
    """Answers queries of type ANY with a HINFO record (RFC 8482 section 4.2)."""

    name: ClassVar[str] = "any"
    cacheability = Cacheability.SAFE
    inputs = b""

    def begin_dns(self, request: Request) -> Answer:
        """Return the HINFO record for type ANY, else the next handler's answer."""
        if request.qtype != TYPE_ANY:
            return self.next.begin_dns(request)
        # A record has one class; CoreDNS always uses IN.
        rclass = CLASS_IN if request.qclass == CLASS_ANY else request.qclass
        owner = request.question[:-4]
        reply = request.reply(answer=[rr(owner, TYPE_HINFO, TTL, _RDATA, rclass)])
        reply.since = request.received
        reply.deadline = request.received + REPEATED
        return reply
