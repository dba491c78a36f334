"""Gates: limits on the queries of a client that apply before the packet cache answers.

A handler in the chain sees no query that the packet cache answers, and one that depends on the
client is UNSAFE, which turns the packet cache off. A handler with a `Gate` keeps it on: the
listener asks the gate about each datagram.

* The gate of a `GatingHandler` is asked about every datagram of a listener, before it is parsed, if
  all server blocks at the listener have this gate. `RequestContext.is_gated` is True then, and the
  handler passes the query on.
* Otherwise the handler decides about queries in the chain, and adds a gate to `Reply.hit_counters`
  of each reply that the packet cache may repeat. The packet cache asks it before each repetition.

Without gates, a batch of datagrams costs two comparisons. Queries over connections are not asked
about: a handler that limits them clears `Reply.deadline`.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Protocol

from corepy.dns.constants import NOERROR
from corepy.plugin.handler import REFUSED, Handler
from corepy.plugin.mixins import HitCounter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corepy.dns import Reply, Request

_TC = 0x02  # in the third byte of a message


class Denial(Enum):
    """What the client of a denied query gets; the value is the word for metrics."""

    DROP = "drop"
    """No reply."""

    REFUSE = "refused"
    """REFUSED."""

    TRUNCATE = "tc"
    """A reply without records that is marked as truncated: a resolver asks again over TCP."""

    __hash__ = object.__hash__  # implemented in C, unlike Enum's; used for every denied query


class Gate(HitCounter, Protocol):
    """Decides by the clients' addresses which queries are processed.

    Clients are numbers as `corepy.net.connection_limit.client_number` makes them. Gates compare by
    identity.
    """

    def over_limit(self, clients: Sequence[int], now: float) -> Sequence[int]:
        """Count a query of each client at the monotonic time `now`.

        Return the indexes of those over the limit, in ascending order. Called for each batch of
        datagrams, so it should take a tenth of a microsecond for each client.
        """

    def deny(self, peer: object, server: str) -> Denial | None:
        """Return what happens to a query over the limit; None if it is processed all the same.

        `peer` is the socket address of the client, `server` the listener's name in metrics.
        """


class GatingHandler(Handler):
    """A handler whose gate may decide about all queries of its server block."""

    gate: Gate


def denied_reply(request: Request, denial: Denial) -> Reply:
    """Return the reply to a denied query, which no cache stores; the one for DROP is not sent."""
    if denial is Denial.DROP:
        return request.drop()
    reply = request.error(REFUSED if denial is Denial.REFUSE else NOERROR)
    if denial is Denial.TRUNCATE:
        wire = reply.wire
        reply.patch(b"".join((wire[:2], bytes((wire[2] | _TC,)), wire[3:])))
    reply.is_momentary = True
    return reply
