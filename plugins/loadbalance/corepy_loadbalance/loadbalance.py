"""The handler that reorders the records of each reply (CoreDNS: plugin/loadbalance)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from corepy.dns import FormError
from corepy.dns import constants as c
from corepy.dns.compress import LARGEST
from corepy.dns.wire import ADDITIONAL, ANSWER, counts
from corepy.plugin import Cacheability, Handler
from corepy_loadbalance.orders import Preference, round_robin, shuffle, weighted
from corepy_loadbalance.records import alike, rearrange

if TYPE_CHECKING:
    from corepy.dns import Reply, Request
    from corepy_loadbalance.weights import WeightFile

_WEIGHTED: Final = (c.TYPE_A, c.TYPE_AAAA, c.TYPE_SRV)
_NOT_AUTHORITY: Final = (ANSWER, ADDITIONAL)


class LoadBalance(Handler):
    """Changes the order of the records in successful replies.

    The order is random for each reply, so the packet cache must not repeat one: cacheability is
    UNSAFE.
    """

    name: ClassVar[str] = "loadbalance"
    cacheability = Cacheability.UNSAFE
    inputs = b""

    def __init__(self, weights: WeightFile | None, preference: Preference | None) -> None:
        """Order by `weights`, or at random if None; then by `preference`."""
        self.weights = weights
        self.preference = preference

    async def serve_dns(self, request: Request) -> Reply:
        """Return the next handler's reply with its records reordered."""
        reply = await self.next.serve_dns(request)
        wire = reply.wire
        if reply.rcode == c.NOERROR and request.qtype not in c.TRANSFERS:
            try:
                if len(wire) > LARGEST:
                    reply.wire = self._shuffled(reply)
                elif max(counts(wire)[1:]) > 1:
                    reply.wire = self._rearranged(wire, request.qtype)
            except FormError:
                pass  # the server rejects malformed replies and reports them
        return reply

    def _shuffled(self, reply: Reply) -> bytes:
        """Return a large message, shuffled if its answers are addresses of one name."""
        wire = reply.wire
        found = alike(wire, reply.ttl_offsets)
        if self.weights is not None or found is None:
            return wire
        start, records = found
        end = start + len(records) * len(records[0])
        shuffle(records)
        return b"".join((wire[:start], *records, wire[end:]))

    def _rearranged(self, wire: bytes, qtype: int) -> bytes:
        weights = self.weights
        if weights is None:
            wire = rearrange(wire, round_robin)
        elif qtype in _WEIGHTED:
            wire = rearrange(wire, lambda r: weighted(r, weights.weight), _NOT_AUTHORITY)
        if self.preference is not None:
            wire = rearrange(wire, self.preference.order, _NOT_AUTHORITY)
        return wire
