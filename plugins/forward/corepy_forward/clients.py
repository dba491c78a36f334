"""The queries of clients that wait for the upstreams of one line.

`Clients.begin` runs for every query that the cache does not answer; measure before adding a line.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, final

from corepy.dns import names
from corepy.dns.constants import NOTIMP, REFUSED, SERVFAIL, TRANSFERS
from corepy.dns.edns import EDE_NOT_SUPPORTED, EDE_OTHER, ede
from corepy.plugin import Pending, ZoneMatcher
from corepy_forward import metrics
from corepy_forward.forms import body_of
from corepy_forward.limits import LIMIT
from corepy_forward.observing import report_attempts

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from corepy.dns import Reply, Request
    from corepy.plugin import Handler
    from corepy.plugin.handler import Answer
    from corepy.plugin.protocols import AttemptObserver
    from corepy_forward.exchange import Exchange
    from corepy_forward.limits import Places
    from corepy_forward.pool import Pool
    from corepy_forward.settings import Settings

_OVERLOADED: Final = ede(EDE_OTHER, "too many queries wait for an upstream")
_NO_TRANSFERS: Final = EDE_NOT_SUPPORTED, "zone transfers are not forwarded"
_OPCODE: Final = 0x7800
_SECONDS_OF_QUIET: Final = 1.0


class Caller(Protocol):
    """The handler, or its copy in a traced chain: it has the pool and the coroutines."""

    next: Handler
    pool: Pool | None
    with_metadata: bool

    def open_static(self) -> Pool:
        """Return a new pool of the upstreams that are known without resolving host names."""

    def whole(self, pool: Pool, request: Request, answer: Answer) -> Coroutine[Any, Any, Reply]:
        """Return a complete reply for a client over TCP."""

    def look_further(self, request: Request, answer: Answer) -> Coroutine[Any, Any, Reply]:
        """Return the reply, or that of the next line."""


@final
class Clients:
    """Starts or joins the exchanges for queries, and returns their replies to the clients."""

    __slots__ = (
        "_force_tcp",
        "_ignored",
        "_looks_further",
        "_most",
        "_quiet_until",
        "_rejected",
        "_takes_all",
        "_zone",
        "observers",
    )

    def __init__(self, settings: Settings) -> None:
        """Take the settings of the line."""
        self._zone = names.from_text(settings.zone)
        self._ignored = ZoneMatcher(settings.ignored)
        self._takes_all = settings.zone == "." and not settings.ignored
        self._looks_further = bool(settings.next_rcodes) or settings.next_on_nodata
        self._force_tcp = settings.force_tcp
        self._most = settings.max_concurrent
        self._rejected = 0
        self._quiet_until = 0.0
        self.observers: Sequence[AttemptObserver] = ()

    def match(self, request: Request) -> bool:
        """Whether a query matches the zone and exceptions of the line (forward.go, match)."""
        if self._takes_all:
            return True
        name = request.name_wire
        if not names.is_subdomain(name, self._zone):
            return False
        return name == self._zone or self._ignored.find(name) is None

    def begin(self, caller: Caller, request: Request) -> Answer:
        """Return a refusal, or start or join an exchange and return its pending reply.

        The reply is an upstream's; SERVFAIL without one, or if too many queries wait.
        """
        if not self._takes_all and not self.match(request):
            return caller.next.begin_dns(request)
        if request.qtype in TRANSFERS or request.flags & _OPCODE:
            return _not_forwarded(request)
        pool = caller.pool or caller.open_static()
        if request.context.protocol != "udp":
            return self._begin_for_tcp(caller, pool, request)
        answer = self.ask(pool, request, caller.with_metadata, False)
        return caller.look_further(request, answer) if self._looks_further else answer

    def _begin_for_tcp(self, caller: Caller, pool: Pool, request: Request) -> Answer:
        """Ask for a client over TCP; if it joins clients over UDP, the reply may be truncated."""
        joined = pool.flights.get(request.asked)
        answer = self.ask(pool, request, caller.with_metadata, False)
        if joined is not None and not joined.for_tcp and not self._force_tcp:
            answer = caller.whole(pool, request, answer)
        return caller.look_further(request, answer) if self._looks_further else answer

    def ask(self, pool: Pool, request: Request, with_metadata: bool, whole: bool) -> Answer:
        """Return the pending reply of an exchange, or a refusal.

        `with_metadata`: store the upstream that answers in the query, as `forward/upstream`. With
        `whole`, the exchange does not end with a truncated reply.
        """
        places = pool.places
        if not places.take(request):
            return self.reject(request)
        try:
            exchange = _join_for_tcp(pool, request) if whole else self._join(pool, request)
        except BaseException:
            places.leave(request)
            raise
        step = partial(self._conclude, places, request, exchange, with_metadata)
        pending = Pending(pool.wakeups, step)
        exchange.waiters.append(pending)
        if exchange.done:
            pending.wake()
        return pending

    def _conclude(
        self,
        places: Places,
        request: Request,
        exchange: Exchange,
        with_metadata: bool,
        _reply: object,
    ) -> Reply | None:
        """Release the place of the query; return its reply if the exchange has ended."""
        places.leave(request)
        if self.observers and request.metadata:  # usually empty
            report_attempts(self.observers, request, exchange)
        return _reply_of(exchange, request, with_metadata) if exchange.done else None

    def _join(self, pool: Pool, request: Request) -> Exchange:
        """Return the exchange in flight for this question, or a new one."""
        question = request.asked
        body = body_of(request, question)
        exchange = pool.flights.get(question)
        if exchange is None:
            for_tcp = request.context.protocol != "udp" and not self._force_tcp
            return pool.begin(question, body, for_tcp, request.client)
        if exchange.body != body:
            for_tcp = request.context.protocol != "udp" and not self._force_tcp
            return pool.begin_beside(exchange, body, for_tcp, request.client)
        metrics.SHARED.value += 1
        return exchange

    def reject(self, request: Request) -> Reply:
        """Reject a query over the limit, at minimal cost; log at most one line per second."""
        metrics.MAX_CONCURRENT_REJECTS.value += 1
        self._rejected += 1
        now = request.received
        reason = None
        if now >= self._quiet_until:
            most = LIMIT.most_of_one(self._most)
            reason = (
                f"{self._rejected} queries refused since the last line like this one:"
                f" concurrent queries exceeded maximum {most}"
            )
            self._quiet_until, self._rejected = now + _SECONDS_OF_QUIET, 0
        reply = request.error(SERVFAIL, reason)
        reply.options = _OVERLOADED
        reply.is_momentary = True
        return reply


def _reply_of(exchange: Exchange, request: Request, with_metadata: bool) -> Reply:
    """Return the reply of an exchange that has ended, for one of its queries."""
    reply = exchange.reply
    if reply is None:
        return request.error(SERVFAIL, exchange.reason, (exchange.ede, exchange.ede_text))
    if len(exchange.waiters) > 1:
        reply = reply.copy()
    if with_metadata and exchange.upstream is not None:
        request.metadata["forward/upstream"] = exchange.upstream.address
    wire, end = request.wire, request.question_end
    asked = wire[12:end]
    if not reply.wire.startswith(asked, 12):
        reply.patch(reply.wire[:12] + asked + reply.wire[end:])
    return reply


def _join_for_tcp(pool: Pool, request: Request) -> Exchange:
    """Return an exchange for this question whose reply is complete."""
    question = request.asked
    return pool.begin_for_tcp(question, body_of(request, question), request.client)


def _not_forwarded(request: Request) -> Reply:
    """Return the refusal of a NOTIFY or transfer, which is for a zone's primary or secondary.

    Such a server authorizes by the source address, which would be ours, and a transfer may consist
    of any number of messages. NOTIFY (RFC 1996) is the only opcode besides QUERY that gets here.
    """
    if request.flags & _OPCODE:
        return request.error(NOTIMP)
    return request.error(REFUSED, None, _NO_TRANSFERS)
