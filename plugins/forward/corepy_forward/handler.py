"""The handler: selects the queries to forward, and returns the replies of exchanges to clients.

`begin_dns` runs for every query that the cache does not answer; measure before adding a line.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from corepy.dns import Reply, names
from corepy.dns.constants import NOERROR, NOTIMP, REFUSED, SERVFAIL, TRANSFERS
from corepy.dns.edns import EDE_NOT_SUPPORTED, EDE_OTHER, ede
from corepy.plugin import (
    Cacheability,
    ExplainedHandler,
    FastHandler,
    Pending,
    StartupError,
    ZoneMatcher,
    hookimpl,
)
from corepy.plugin.memory_limit import cgroup_limit
from corepy.plugin.protocols import AttemptObserver, MessageTap
from corepy_forward import metrics
from corepy_forward.forms import body_of
from corepy_forward.limits import LIMIT
from corepy_forward.observing import report_attempts
from corepy_forward.pool import Pool
from corepy_forward.resolve import look_up
from corepy_forward.targets import without_repeats
from corepy_forward.usable import Watch, changes, choose, log_problems, own_addresses, own_among

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from corepy.dns import Request
    from corepy.plugin import BlockConfig, Handler, LifecycleContext
    from corepy.plugin.handler import Answer
    from corepy_forward.exchange import Exchange
    from corepy_forward.limits import Places
    from corepy_forward.settings import Settings
    from corepy_forward.targets import Target
    from corepy_forward.usable import OwnAddress

_OVERLOADED = ede(EDE_OTHER, "too many queries wait for an upstream")
_NO_TRANSFERS = EDE_NOT_SUPPORTED, "zone transfers are not forwarded"
_OPCODE = 0x7800
_SECONDS_OF_QUIET = 1.0


class Forward(FastHandler, ExplainedHandler):
    """Forwards the queries that match one `forward` line of a Corefile."""

    name: ClassVar[str] = "forward"
    cacheability = Cacheability.SAFE
    any_class: ClassVar[bool] = True

    def __init__(
        self, settings: Settings, config: BlockConfig, with_metadata: bool = False
    ) -> None:
        """Take the settings of the line and the configuration of its server block.

        `with_metadata`: store the upstream that answered in each query, as `forward/upstream`.
        """
        self.settings = settings
        self._config = config
        self.pool: Pool | None = None
        self.is_last = True
        """Whether the line is the last one of its block.

        `next` does not show it, because other handlers may be between two lines.
        """

        self._watch: Watch | None = None
        self._taps: Sequence[MessageTap] = ()
        self._observers: Sequence[AttemptObserver] = ()
        self.with_metadata = with_metadata
        self._zone = names.from_text(settings.zone)
        self._ignored = ZoneMatcher(settings.ignored)
        self._takes_all = settings.zone == "." and not settings.ignored
        self._looks_further = bool(settings.next_rcodes) or settings.next_on_nodata
        self._force_tcp = settings.force_tcp
        self._rejected = 0
        self._problems: list[str] = []
        self._quiet_until = 0.0

    @property
    def inputs(self) -> bytes | None:
        """The upstreams in use: those of a host name or a file may differ although it does not."""
        if self.pool is None:
            return None
        used = (upstream.target for upstream in self.pool.upstreams)
        return repr(sorted({(it.transport, it.address, it.server_name) for it in used})).encode()

    def begin_dns(self, request: Request) -> Answer:
        """Return a refusal, or start or join an exchange and return its pending reply.

        The reply is an upstream's; SERVFAIL without one, or if too many queries wait.
        """
        if not self._takes_all and not self.matches(request.name_wire):
            return self.next.begin_dns(request)
        if request.qtype in TRANSFERS or request.flags & _OPCODE:
            return _not_forwarded(request)
        pool = self.pool or self._open(self.static_targets())
        if request.context.protocol != "udp":
            return self._begin_for_tcp(pool, request)
        answer = self._ask(pool, request)
        return self._look_further(request, answer) if self._looks_further else answer

    def _begin_for_tcp(self, pool: Pool, request: Request) -> Answer:
        """Ask for a client over TCP; if it joins clients over UDP, the reply may be truncated."""
        joined = pool.flights.get(request.asked)
        answer = self._ask(pool, request)
        if joined is not None and not joined.for_tcp and not self._force_tcp:
            answer = self._whole(pool, request, answer)
        return self._look_further(request, answer) if self._looks_further else answer

    def _ask(self, pool: Pool, request: Request, *, whole: bool = False) -> Answer:
        """Return the pending reply of an exchange, or a refusal.

        With `whole`, the exchange does not end with a truncated reply.
        """
        places = pool.places
        if not places.take(request):
            return self._reject(request)
        try:
            exchange = (_join_for_tcp if whole else self._join)(pool, request)
        except BaseException:
            places.leave(request)
            raise
        pending = Pending(pool.wakeups, partial(self._conclude, places, request, exchange))
        exchange.waiters.append(pending)
        if exchange.done:
            pending.wake()
        return pending

    def _conclude(
        self, places: Places, request: Request, exchange: Exchange, _reply: Reply | None
    ) -> Reply | None:
        """Release the place of the query; return its reply if the exchange has ended."""
        places.leave(request)
        if self._observers and request.metadata:  # usually empty
            report_attempts(self._observers, request, exchange)
        return self._reply(request, exchange) if exchange.done else None

    async def _whole(self, pool: Pool, request: Request, answer: Answer) -> Reply:
        """Ask again if a client over TCP got a truncated reply of an exchange for UDP clients."""
        reply = answer if isinstance(answer, Reply) else await answer
        if not reply.tc:
            return reply
        answer = self._ask(pool, request, whole=True)
        return answer if isinstance(answer, Reply) else await answer

    async def _look_further(self, request: Request, answer: Answer) -> Reply:
        reply = answer if isinstance(answer, Reply) else await answer
        return await self.next.serve_dns(request) if self._wants_next(reply) else reply

    def explain_state(self, request: Request, reply: Reply | None = None) -> dict[str, str | int]:
        """Return the upstreams that the query may be sent to, for `corepy explain`."""
        if not self.queries_upstream(request):
            return {"state": "the name is outside its zones"}
        if self.pool is None:
            known = [target.address for target in self.static_targets()]
        else:
            known = [
                f"{each.address} (down)" if each.is_down() else each.address
                for each in self.pool.upstreams
            ]
        return {"upstreams": ", ".join(known) or "none known yet"}

    def copy_for_trace(self, below: Handler) -> Self:
        """Return a copy that records the upstream that answered, as metadata of the query."""
        traced = super().copy_for_trace(below)
        traced.with_metadata = True
        return traced

    def queries_upstream(self, request: Request) -> bool:
        """Return whether the query matches the zone and exceptions of this line."""
        return self._takes_all or self.matches(request.name_wire)

    def matches(self, name: bytes) -> bool:
        """Whether a name, in wire form and lower case, is to be forwarded (forward.go, match)."""
        if not names.is_subdomain(name, self._zone):
            return False
        return name == self._zone or self._ignored.find(name) is None

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

    def _reply(self, request: Request, exchange: Exchange) -> Reply:
        reply = exchange.reply
        if reply is None:
            return request.error(SERVFAIL, exchange.reason, (exchange.ede, exchange.ede_text))
        if len(exchange.waiters) > 1:
            reply = reply.copy()
        if self.with_metadata and exchange.upstream is not None:
            request.metadata["forward/upstream"] = exchange.upstream.address
        wire, end = request.wire, request.question_end
        asked = wire[12:end]
        if not reply.wire.startswith(asked, 12):
            reply.patch(reply.wire[:12] + asked + reply.wire[end:])
        return reply

    def _wants_next(self, reply: Reply) -> bool:
        """Whether the next `forward` line of this block is to answer instead."""
        if self.is_last:
            return False
        if reply.rcode in self.settings.next_rcodes:
            return True
        return self.settings.next_on_nodata and reply.rcode == NOERROR and not reply.ancount

    def _reject(self, request: Request) -> Reply:
        """Reject a query over the limit, at minimal cost; log at most one line per second."""
        metrics.MAX_CONCURRENT_REJECTS.value += 1
        self._rejected += 1
        now = request.received
        reason = None
        if now >= self._quiet_until:
            most = LIMIT.most_of_one(self.settings.max_concurrent)
            reason = (
                f"{self._rejected} queries refused since the last line like this one:"
                f" concurrent queries exceeded maximum {most}"
            )
            self._quiet_until, self._rejected = now + _SECONDS_OF_QUIET, 0
        reply = request.error(SERVFAIL, reason)
        reply.options = _OVERLOADED
        reply.is_momentary = True
        return reply

    def static_targets(self) -> list[Target]:
        """Return the upstreams that are known without resolving host names."""
        return without_repeats(t for entry in self.settings.entries for t in entry.targets)

    def _open(self, targets: list[Target]) -> Pool:
        if self._taps:
            from corepy_forward.tapping import TappedPool

            self.pool = TappedPool(self.settings, targets, self._taps)
        else:
            self.pool = Pool(self.settings, targets)
        self.pool.is_observed = bool(self._observers)
        return self.pool

    @hookimpl
    async def rehearse(self, context: LifecycleContext) -> None:
        """Prepare as at a start, unless the context is offline."""
        if not context.offline:
            await self.before_listen(context)

    @hookimpl
    async def before_listen(self, context: LifecycleContext) -> None:
        """Resolve host names and reject own addresses as upstreams; raises StartupError."""
        LIMIT.configure(cgroup_limit())
        self._taps = self._config.handlers.of_kind(MessageTap)
        self._observers = self._config.handlers.of_kind(AttemptObserver)
        known = [problem for entry in self.settings.entries for problem in entry.problems]
        problems: list[str] = []
        if any(entry.hostname for entry in self.settings.entries):
            problems = await look_up(self.settings.entries, self.settings.resolvers)
        own = own_addresses(self._config, context.addresses)
        self._refuse_own(own)
        choice = choose(self.settings.entries, own)
        self._problems = [*problems, *choice.problems]
        if not choice.targets:
            raise StartupError("; ".join(self._problems) or "no valid upstream addresses found")
        if context.process_group.is_leader:
            log_problems(self._problems, known)
        self._open(choice.targets)

    def _refuse_own(self, addresses: Sequence[OwnAddress]) -> None:
        """Raise StartupError if a TO is this server; for lines of files, `choose` skips them."""
        named = [t for entry in self.settings.entries if not entry.file for t in entry.targets]
        own = own_among(named, addresses)
        if own is not None:
            raise StartupError(
                f"upstream {own.address} is an address that this server listens on for"
                f" {self._config.keys[0].zone}; queries would loop"
            )

    @hookimpl
    def serving(self, context: LifecycleContext) -> None:
        """Start to probe the upstreams, and to watch their files, interfaces and host names.

        Raises StartupError if an upstream is this server, on a port that the kernel has chosen.
        """
        own = own_addresses(self._config, context.addresses)
        self._refuse_own(own)
        pool = self.pool
        assert pool is not None
        pool.start_checks()
        if changes(self.settings):
            self._watch = Watch(self.settings, pool, own, self._problems)

    @hookimpl
    def status(self) -> dict[str, Any] | None:
        """Return the state of the upstreams, for an operator."""
        if self.pool is None:
            return None
        upstreams = self.pool.upstreams
        problems = list(self._problems)
        if all(upstream.is_down() for upstream in upstreams):
            problems.append(f"all upstreams for {self.settings.zone} are down")
        return {
            "zone": self.settings.zone,
            "upstreams": [upstream.status() for upstream in upstreams],
            "problems": problems,
        }

    @hookimpl
    def shutdown(self) -> None:
        """Stop watching and close all sockets."""
        if self._watch is not None:
            self._watch.stop()
        if self.pool is not None:
            self.pool.close()


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
