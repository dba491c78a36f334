"""`PendingLimit`: limits the queries over connections that wait for their replies.

One connection is limited by back-pressure, but a client may have hundreds of them. So the queries
of all of its connections to a listener count together; IPv6 clients count by their /64.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corepy.dns.edns import EDE_OTHER, ede
from corepy.net.connection_limit import Shares
from corepy.plugin import metrics
from corepy.plugin.handler import SERVFAIL

if TYPE_CHECKING:
    from corepy.dns import Reply, Request

MAX_PENDING: Final = 4096
"""Queries of all connections of a listener; one client may have three quarters (`Shares`).

With replies after 100 ms, that is a client of 30,000 queries a second: many hosts behind one
address do not reach it.
"""

_OPTION: Final = ede(EDE_OTHER, "too many queries of this client wait for replies")

OVERFLOWS: Final = metrics.counter(
    "corepy_stream_overflows_total",
    "Queries over connections that were answered SERVFAIL because too many waited for replies.",
    ("server",),
)


class PendingLimit:
    """Counts the pending queries of each client."""

    def __init__(self, most: int = MAX_PENDING) -> None:
        """`most` is the limit of all clients together."""
        self.most = most
        self.used = 0
        self._shares = Shares()

    def permits(self, client: bytes) -> bool:
        """Return whether the client may have another pending query."""
        return self._shares.permit(client, self.most - self.used)

    def add(self, client: bytes) -> None:
        """Count a pending query, or a reply of several messages."""
        self._shares.add(client)
        self.used += 1

    def give_back(self, client: bytes) -> None:
        """Count a query as answered."""
        self._shares.give_back(client)
        self.used -= 1


def overload(request: Request) -> Reply:
    """Return the reply to a query beyond the limit."""
    OVERFLOWS.labels(request.context.server).inc()
    reply = request.error(SERVFAIL)
    reply.options = _OPTION
    return reply
