"""The handler that lowers the client's EDNS UDP payload size (CoreDNS: plugin/bufsize)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from corepy.plugin import Cacheability, Handler

if TYPE_CHECKING:
    from corepy.dns import Reply, Request


class Bufsize(Handler):
    """Limits the UDP payload size of each query to `size` bytes.

    The change depends only on the query's bytes, so the packet cache may repeat the reply.
    """

    name: ClassVar[str] = "bufsize"
    cacheability = Cacheability.SAFE
    inputs = b""

    def __init__(self, size: int) -> None:
        """`size` is in bytes."""
        self.size = size

    async def serve_dns(self, request: Request) -> Reply:
        """Return the next handler's reply."""
        edns = request.edns
        if edns is not None and edns.udp_size > self.size:
            request.set_udp_size(self.size)
        return await self.next.serve_dns(request)
