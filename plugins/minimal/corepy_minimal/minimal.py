"""The handler that removes the authority and additional sections (CoreDNS: plugin/minimal)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from corepy.dns import FormError
from corepy.dns.response import Kind, ReplyClass, classify, typify
from corepy.dns.wire import ANSWER, walk
from corepy.plugin import Cacheability, Handler

if TYPE_CHECKING:
    from corepy.dns import Reply, Request

_NOTHING_TO_TAKE: Final = bytes(4)


class Minimal(Handler):
    """Removes the sections after the answer section from replies with an answer.

    Denials, delegations and errors are not changed, because they need these sections. The change
    depends only on the reply, so the packet cache may repeat it.
    """

    name: ClassVar[str] = "minimal"
    cacheability = Cacheability.SAFE
    inputs = b""

    async def serve_dns(self, request: Request) -> Reply:
        """Return the next handler's reply, shortened."""
        reply = await self.next.serve_dns(request)
        if reply.wire[8:12] != _NOTHING_TO_TAKE:
            try:
                kind = typify(reply)
                if kind is not Kind.DELEGATION and classify(kind) is ReplyClass.SUCCESS:
                    reply.wire = _answer_of(reply.wire)
            except FormError:
                pass  # the server rejects malformed replies and reports them
        return reply


def _answer_of(wire: bytes) -> bytes:
    """Return a message up to its answer section, in which no pointer leads to later sections."""
    for section, *_, owner, _ in walk(wire):
        if section != ANSWER:
            return wire[:8] + _NOTHING_TO_TAKE + wire[12:owner]
    return wire
