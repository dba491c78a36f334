"""Sends queries to the upstreams of a `forward` line, for replies that are validated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from corepy.dns import constants as c
from corepy.dns.form_error import FormError
from corepy.plugin import Pending
from corepy_forward.forms import body_for_validation
from corepy_forward.validation.record_sets import Message
from corepy_forward.validation.verdicts import Indeterminate, shown

if TYPE_CHECKING:
    from corepy.dns import Request
    from corepy_forward.attempt import UpstreamLike
    from corepy_forward.exchange import Exchange
    from corepy_forward.pool import Pool

_ANSWERS: Final = (c.NOERROR, c.NXDOMAIN)


class Query(NamedTuple):
    """A query to the upstreams."""

    question: bytes
    """The question section, the name in lower case."""

    body: bytes
    """The query without its ID."""

    request: Request
    """The client's query for which it is sent."""

    @classmethod
    def of(cls, request: Request, options: bytes) -> Query:
        """Return the query of a client, with these EDNS options."""
        return cls(
            request.asked, body_for_validation(request.asked, request.flags, options), request
        )

    @classmethod
    def for_records(cls, name: bytes, rtype: int, request: Request) -> Query:
        """Return a query for records that a client's query needs."""
        question = name + rtype.to_bytes(2, "big") + c.CLASS_IN.to_bytes(2, "big")
        return cls(question, body_for_validation(question, c.FLAG_RD, b""), request)


async def ask(pool: Pool, query: Query, avoided: UpstreamLike | None = None) -> Exchange:
    """Return an exchange that has ended; its reply is complete if an upstream can send it.

    `avoided` is the upstream whose reply to the same query was not accepted.
    """
    if avoided is not None:
        pool.attribute(query.request)
        return await _end_of(pool, pool.begin_elsewhere(query.question, query.body, avoided))
    exchange = await _end_of(pool, _begin(pool, query))
    if exchange.reply is not None and exchange.reply.tc:
        pool.attribute(query.request)
        begin = pool.begin_for_tcp
        exchange = await _end_of(pool, begin(query.question, query.body, query.request.client))
    return exchange


def _begin(pool: Pool, query: Query) -> Exchange:
    """Return the exchange for this query in flight, or a new one."""
    question, body, request = query
    exchange = pool.flights.get(question)
    if exchange is not None and exchange.body == body:
        return exchange
    pool.attribute(request)
    if exchange is None:
        return pool.begin(question, body, False, request.client)
    return pool.begin_beside(exchange, body, False, request.client)


async def _end_of(pool: Pool, exchange: Exchange) -> Exchange:
    pending = Pending(pool.wakeups, lambda _: None)
    exchange.waiters.append(pending)
    if exchange.done:
        pending.wake()
    await pending
    return exchange


def message_of(exchange: Exchange, name: bytes, rtype: int) -> Message:
    """Return the reply to a query for records; raises Indeterminate if no upstream has sent one."""
    title = f"{c.type_name(rtype)} of {shown(name)}"
    reply = exchange.reply
    if reply is None:
        raise Indeterminate(f"no reply to the query for {title}", exchange.ede)
    if reply.rcode not in _ANSWERS:
        rcode = c.rcode_name(reply.rcode)
        raise Indeterminate(f"the query for {title} was answered with {rcode}")
    if reply.tc:
        raise Indeterminate(f"the reply to the query for {title} is truncated")
    try:
        return Message(reply.wire, reply.rcode)
    except FormError as error:
        raise Indeterminate(f"the reply to the query for {title}: {error}") from None
