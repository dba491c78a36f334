"""The handler: lowers the size that a client says it takes (CoreDNS: plugin/bufsize)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from corepy.plugin import Handler, Purity

if TYPE_CHECKING:
    from corepy.dns import Reply, Request


class Bufsize(Handler):
    """Lets no query pass that says its client takes more than `size` bytes over UDP.

    What it does depends on the query's bytes only, so a packet cache may repeat the reply.
    """

    name: ClassVar[str] = "bufsize"
    purity = Purity.PURE

    def __init__(self, size: int) -> None:
        """Take the size in bytes."""
        self.size = size

    async def serve_dns(self, request: Request) -> Reply:
        """Return the next handler's reply."""
        edns = request.edns
        if edns is not None and edns.udp_size > self.size:
            request.set_udp_size(self.size)
        return await self.next.serve_dns(request)
