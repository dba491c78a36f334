"""The handler that adds a name server identifier if requested (CoreDNS: plugin/nsid)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from corepy.dns.edns import option, parse_options, without_option
from corepy.plugin import Cacheability, Handler

if TYPE_CHECKING:
    from corepy.dns import Reply, Request

OPTION_NSID: Final = 3
"""RFC 5001 section 2.3."""


class Nsid(Handler):
    """Adds the option to replies to queries that contain it; other replies are not changed.

    The reply depends only on the query's bytes, so the packet cache may repeat it.
    """

    name: ClassVar[str] = "nsid"
    cacheability = Cacheability.SAFE
    inputs = b""

    def __init__(self, data: bytes) -> None:
        """Identify the server as `data`, which clients show as text or in hexadecimal."""
        self.data = data
        self._option = option(OPTION_NSID, data)

    async def serve_dns(self, request: Request) -> Reply:
        """Return the next handler's reply, with the option if the client requests it."""
        edns = request.edns
        if edns is None or not edns.options:
            return await self.next.serve_dns(request)
        reply = await self.next.serve_dns(request)
        if any(code == OPTION_NSID for code, _ in parse_options(edns.options)):
            options = reply.options and without_option(reply.options, OPTION_NSID)
            reply.options = options + self._option
        return reply
