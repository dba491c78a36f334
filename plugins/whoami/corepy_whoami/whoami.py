"""The handler that returns the source of each query (CoreDNS: plugin/whoami/whoami.go)."""

from __future__ import annotations

from socket import AF_INET, AF_INET6, inet_pton
from struct import Struct
from typing import TYPE_CHECKING, ClassVar

from corepy.dns import constants as c
from corepy.dns.names import MAX_NAME, ROOT
from corepy.dns.records import rr
from corepy.plugin import Handler

if TYPE_CHECKING:
    from corepy.dns import Reply, Request

_pack_srv = Struct("!HHH").pack


class Whoami(Handler):
    """Answers with the client's address as A or AAAA and its port as SRV.

    The records are in the additional section. The reply differs for each client, so the packet
    cache must not store it: cacheability is UNSAFE, the default.
    """

    name: ClassVar[str] = "whoami"
    inputs = b""

    async def serve_dns(self, request: Request) -> Reply:
        """Return the reply; no query is passed on."""
        records = [*_address(request), *_port(request)]
        return request.reply(additional=records, authoritative=True)


def _address(request: Request) -> list[bytes]:
    host = request.remote[0].partition("%")[0]
    if not host:  # a client without an IP address
        return []
    qname = request.question[:-4]
    if request.family == 1:
        return [rr(qname, c.TYPE_A, 0, inet_pton(AF_INET, host), request.qclass)]
    return [rr(qname, c.TYPE_AAAA, 0, inet_pton(AF_INET6, host), request.qclass)]


def _port(request: Request) -> list[bytes]:
    label = request.context.network.encode()
    owner = bytes((len(label) + 1,)) + b"_" + label + request.question[:-4]
    if len(owner) > MAX_NAME:
        return []
    rdata = _pack_srv(0, 0, request.remote[1]) + ROOT
    return [rr(owner, c.TYPE_SRV, 0, rdata, request.qclass)]
