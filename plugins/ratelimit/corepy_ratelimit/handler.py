"""The handler of *ratelimit*, which passes its gate to the server.

It decides about a query itself only if the listener has not asked the gate: another server block at
the same address has no *ratelimit*, or one of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from corepy.net.connection_limit import client_number
from corepy.plugin import (
    Cacheability,
    ExplainedHandler,
    FastHandler,
    GatingHandler,
    apply_step,
    denied_reply,
    hookimpl,
    is_lookup,
)
from corepy_ratelimit.rates import WHOLE

if TYPE_CHECKING:
    from corepy.dns import Reply, Request
    from corepy.plugin import LifecycleContext
    from corepy.plugin.handler import Answer
    from corepy_ratelimit.limiter import Limiter

_UDP = "udp"


class RateLimit(FastHandler, ExplainedHandler, GatingHandler):
    """Denies queries over UDP from clients over their limit."""

    name: ClassVar[str] = "ratelimit"
    cacheability = Cacheability.OBSERVES
    inputs = b""

    def __init__(self, limiter: Limiter) -> None:
        """Take the gate."""
        self.gate: Limiter = limiter

    def begin_dns(self, request: Request) -> Answer:
        """Deny the query, or return the next handler's answer."""
        context = request.context
        if context.is_gated or context.protocol != _UDP or is_lookup(request):
            return self.next.begin_dns(request)
        gate = self.gate
        if gate.over_limit((client_number(request.client),), request.received):
            denial = gate.deny(request.client, context.server)
            if denial is not None:
                return denied_reply(request, denial)
        return apply_step(self.next.begin_dns(request), self._attach, request)

    def _attach(self, _request: Request, reply: Reply | None) -> Reply | None:
        """Make the packet cache ask the gate before it repeats the reply."""
        if reply is not None and reply.deadline is not None:
            reply.hit_counters += (self.gate,)
        return reply

    def explain_state(self, request: Request, reply: Reply | None = None) -> dict[str, str | int]:
        """Return the limit, and how many queries the client may send at once."""
        gate = self.gate
        settings, rates = gate.settings, gate.rates
        if request.client in settings.exempt:
            return {"state": "exempt client"}
        tokens = rates.tokens(client_number(request.client), request.received)
        return {
            "state": "within the limit" if tokens > WHOLE else "over the limit",
            "limit": f"{settings.limit:g} queries a second, {rates.burst:g} at once",
            "left": int(tokens + 1 - WHOLE),
            "applies to": "queries over UDP",
        }

    @hookimpl
    def before_listen(self, context: LifecycleContext) -> None:
        """Divide the limit among the processes of the server."""
        self.gate.start(context.process_group.size)

    @hookimpl
    def shutdown(self) -> None:
        """Leave the metrics."""
        self.gate.stop()
