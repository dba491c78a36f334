"""Manages the upstreams of one `forward` line and the exchanges in flight to them."""

from __future__ import annotations

import asyncio
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING, ClassVar, Final

from corepy.dns.constants import NOERROR, NXDOMAIN
from corepy.net.connection_limit import client_of
from corepy.plugin import Wakeups
from corepy_forward import metrics
from corepy_forward.exchange import BUDGET, BUDGET_DOWN, Exchange
from corepy_forward.failures import NO_HEALTHY, HealthProbe
from corepy_forward.limits import LEAST_TIME, LIMIT, Crowd, Places
from corepy_forward.settings import Random, make_policy
from corepy_forward.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from corepy.dns import Request
    from corepy_forward.attempt import UpstreamLike
    from corepy_forward.settings import Settings
    from corepy_forward.targets import Target

TIDY_INTERVAL: Final = 5.0
"""Seconds between two checks for idle and aged connections; half of `expire` if that is less."""

HEDGE_BURST: Final = 1000
HEDGE_SHARE: Final = 0.1
"""Maximum second queries per second: `HEDGE_BURST`, plus this share of the queries.

When all upstreams are slow, second queries would only increase their load.
"""

SWEEP: Final = 8
"""Maximum number of exchanges that are ended at once because their time is used up.

Many exchanges may have begun together; to end all of them at once would delay other clients.
"""

SWEEP_PAUSE: Final = 0.001
LONGEST_PAUSE: Final = 0.1

_FINAL: Final = frozenset((NOERROR, NXDOMAIN))
_STOPPING: Final = "the server is stopping"
_LEAST_ATTEMPTS: Final = 4
_UNLIMITED: Final = 64


class Pool:
    """The upstreams of one line; created and used in the event loop. Call `close` at the end."""

    exchange_type: ClassVar[type[Exchange]] = Exchange
    upstream_type: ClassVar[type[Upstream]] = Upstream

    def __init__(self, settings: Settings, targets: Sequence[Target]) -> None:
        """Take the settings, and their targets after host names were resolved."""
        self.settings = settings
        self.loop = asyncio.get_running_loop()
        self.wakeups = Wakeups(self.loop)
        self.flights: dict[object, Exchange] = {}
        """The exchanges in flight, in the order of their start.

        The key is the question, or (question, body, for_tcp) for those that joined a crowd.
        """

        self.crowds: dict[bytes, Crowd] = {}
        """The crowds by question."""

        self.final_rcodes = _FINAL - settings.failover_rcodes
        """Response codes that end an exchange without further checks."""

        self.force_tcp = settings.force_tcp
        self.places = Places(LIMIT.most_of_one(settings.max_concurrent))
        """The client queries that wait for a reply; each takes a place before it is asked."""

        self.upstreams: list[Upstream] = []
        self.max_attempts = 0
        self.is_observed = False
        self._checks: dict[Upstream, HealthProbe] = {}
        self._leaving: list[Upstream] = []
        self._probing = False
        self._closed = False
        self._preferred: list[Upstream] = []
        self._policy = make_policy(settings.policy)
        self._random = Random()
        self._window = 0.0
        self._begun = self._hedges = 0
        self.budget = max(BUDGET, settings.read_timeout)
        self.least_budget = settings.read_timeout if settings.read_timeout > 2 else BUDGET_DOWN
        self._sweep_timer: asyncio.TimerHandle | None = None
        self.retarget(targets)
        self._tidy_timer = self.loop.call_later(self._tidy_interval(), self._tidy)

    def retarget(self, targets: Sequence[Target]) -> None:
        """Switch to these upstreams; those already in use keep their state and sockets."""
        known = {upstream.target: upstream for upstream in self.upstreams}
        self.upstreams = [
            known.pop(target) if target in known else self._open(target) for target in targets
        ]
        for gone in known.values():
            self._checks.pop(gone).stop()
            self._leaving.append(gone)
            self.loop.call_later(self.budget, self._let_go, gone)
        configured = self.settings.max_connect_attempts
        by_default = max(_LEAST_ATTEMPTS, 2 * len(self.upstreams))
        self.max_attempts = by_default if configured is None else configured or _UNLIMITED
        self._rate()

    def _let_go(self, gone: Upstream) -> None:
        """Close a removed upstream, after its last exchange has ended."""
        if gone in self._leaving:
            self._leaving.remove(gone)
            gone.close()

    def trial(self, target: Target) -> Upstream:
        """Return an upstream that is not used for clients; the caller closes it."""
        return self._new(target, lambda: None)

    def _new(self, target: Target, on_change: Callable[[], None]) -> Upstream:
        context = self.settings.tls_contexts.get(target.context_name)
        return self.upstream_type(target, self.settings, self.wakeups, on_change, context)

    def _open(self, target: Target) -> Upstream:
        upstream = self._new(target, self._rate)
        check = self._checks[upstream] = HealthProbe(upstream, self._is_all_down)
        upstream.check = check.start
        if self._probing:
            check.start()
        return upstream

    def start_checks(self) -> None:
        """Probe every upstream now, so that failures are detected before the first query."""
        self._probing = True
        for check in self._checks.values():
            check.start()

    def _rate(self) -> None:
        """Update the preferred upstreams: those that are up, without suspects if possible."""
        alive = [upstream for upstream in self.upstreams if not upstream.is_down()]
        self._preferred = [upstream for upstream in alive if not upstream.is_suspect] or alive

    def _is_all_down(self) -> bool:
        return all(upstream.fails for upstream in self.upstreams)

    def is_any_well(self) -> bool:
        """Whether at least one upstream has passed its last health check."""
        return not self._is_all_down()

    def begin(self, question: bytes, body: bytes, for_tcp: bool, client: object = None) -> Exchange:
        """Start the exchange for a question that is not in flight; it may end at once.

        `client` is the address of the client.
        """
        if self.crowds and question in self.crowds:
            return self._join(self.crowds[question], client, question, body, for_tcp)
        now = monotonic()
        exchange = self.flights[question] = self.exchange_type(self, question, body, for_tcp, now)
        self._begun += 1
        preferred = self._preferred
        if preferred:
            exchange.ask(preferred[0] if len(preferred) == 1 else self._policy(preferred), now)
        else:
            self._begin_without_health(exchange, now)
        return exchange

    def _begin_without_health(self, exchange: Exchange, now: float) -> None:
        """Ask a random upstream while all are down, unless the settings or a stop prevent it."""
        if self._closed:
            exchange.fail(_STOPPING)
            return
        metrics.HEALTHCHECK_BROKEN.value += 1
        if self.settings.failfast:
            exchange.fail(f"failfast_all_unhealthy_upstreams is set: {NO_HEALTHY}")
        else:
            exchange.ask(self._random(self.upstreams), now)

    def begin_for_tcp(self, question: bytes, body: bytes, client: object) -> Exchange:
        """Return an exchange for clients over TCP, which does not end with a truncated reply."""
        first = self.flights.get(question)
        if first is None:
            return self.begin(question, body, True, client)
        if first.body == body and first.for_tcp:
            return first
        return self.begin_beside(first, body, True, client)

    def begin_beside(self, first: Exchange, body: bytes, for_tcp: bool, client: object) -> Exchange:
        """Return an exchange with another query for the question of `first`, which is in flight."""
        question = first.question
        crowd = self.crowds.get(question)
        if crowd is None:
            crowd = self.crowds[question] = Crowd(first, self._begin_in_crowd)
        return self._join(crowd, client, question, body, for_tcp)

    def begin_elsewhere(self, question: bytes, body: bytes, avoided: UpstreamLike) -> Exchange:
        """Return an exchange for a query whose reply from `avoided` was not accepted.

        It is sent to another upstream if there is one, and over TCP, where a reply is harder to
        forge, unless the settings prefer UDP.
        """
        key = question, body, avoided
        exchange = self.flights.get(key)
        if exchange is None:
            now = monotonic()
            exchange = self.exchange_type(self, question, body, True, now)
            exchange.key = key
            self.flights[key] = exchange
            if self._closed:
                exchange.fail(_STOPPING)
            elif not exchange.ask_elsewhere(avoided, now):
                exchange.fail("max_connect_attempts allows no other attempt")
        return exchange

    def attribute(self, request: Request) -> None:
        """Take the client's query for which the next exchange begins, if taps need it."""

    def _join(
        self, crowd: Crowd, client: object, question: bytes, body: bytes, for_tcp: bool
    ) -> Exchange:
        exchange = crowd.find(body, for_tcp)
        if exchange is None:
            exchange = self.exchange_type(self, question, body, for_tcp, monotonic())
            exchange.key = question, body, for_tcp
            self.flights[exchange.key] = exchange
            self._begun += 1
            crowd.join(exchange, client_of(client))
            self.watch_time()
        return exchange

    def _begin_in_crowd(self, exchange: Exchange) -> bool:
        """Start an exchange with an upstream below its limit; return False if all are full."""
        now = monotonic()
        if not self._preferred:
            if not self._closed and all(map(exchange.is_full, self.upstreams)):
                return False
            self._begin_without_health(exchange, now)
            return True
        fit = [upstream for upstream in self._preferred if not exchange.is_full(upstream)]
        if fit:
            exchange.ask(self._policy(fit), now)
        return bool(fit)

    def leave(self, crowd: Crowd, exchange: Exchange) -> None:
        """Remove an exchange that has ended from its crowd."""
        exchange.cancel()
        if crowd.leave(exchange, monotonic() - self._budget_now() + LEAST_TIME):
            self.crowds.pop(exchange.question, None)

    def _budget_now(self) -> float:
        """Return the seconds that an exchange may currently take."""
        return self.budget if self.is_any_well() else self.least_budget

    def watch_time(self) -> None:
        """Start the timer that ends exchanges in time; called when an exchange has a problem."""
        if self._sweep_timer is None:
            self._sweep_timer = self.loop.call_later(LONGEST_PAUSE, self._sweep)

    def _sweep(self) -> None:
        now = monotonic()
        limit = now - self._budget_now()
        for exchange in list(islice(self.flights.values(), SWEEP)):
            if exchange.started <= limit:
                exchange.out_of_time(now)
        first = next(iter(self.flights.values()), None)
        self._sweep_timer = None
        if first is not None:
            pause = min(max(first.started - limit, SWEEP_PAUSE), LONGEST_PAUSE)
            self._sweep_timer = self.loop.call_later(pause, self._sweep)

    def another(
        self,
        tried: Sequence[UpstreamLike],
        *,
        new_only: bool,
        is_full: Callable[[UpstreamLike], bool],
    ) -> Upstream | None:
        """Return the upstream to ask after those in `tried`; None if all are full.

        Healthy upstreams come first, then those tried least, then the next in the order of the
        Corefile. With `new_only`, return None if all have been tried.
        """
        upstreams = self.upstreams
        indexes = [
            i
            for i, each in enumerate(upstreams)
            if not (new_only and each in tried) and not is_full(each)
        ]
        if not indexes or (self.settings.failfast and not self._preferred):
            return None
        count = len(upstreams)
        first = next((i for i, each in enumerate(upstreams) if each is tried[0]), 0)

        def rank(index: int) -> tuple[bool, int, int]:
            upstream = upstreams[index]
            unfit = upstream.is_down() or upstream.is_suspect
            return unfit, tried.count(upstream), (index - first) % count

        return upstreams[min(indexes, key=rank)]

    def may_hedge(self) -> bool:
        """Count a second query for a possibly lost one; return whether it is within the limit."""
        now = monotonic()
        elapsed = now - self._window
        if elapsed > 1:
            self._hedges = int(-HEDGE_BURST - HEDGE_SHARE * self._begun / elapsed)
            self._window, self._begun = now, 0
        self._hedges += 1
        return self._hedges <= 0

    def _tidy_interval(self) -> float:
        return min(TIDY_INTERVAL, max(self.settings.expire / 2, 0.25))

    def _tidy(self) -> None:
        now = monotonic()
        for upstream in self.upstreams:
            upstream.tidy(now)
        self._tidy_timer = self.loop.call_later(self._tidy_interval(), self._tidy)

    def close(self) -> None:
        """End all exchanges and close all sockets."""
        self._tidy_timer.cancel()
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
        self._closed, self._preferred = True, []
        for exchange in list(self.flights.values()):
            if not exchange.done:  # the end of one exchange may end others in its crowd
                exchange.fail(_STOPPING)
        for check in self._checks.values():
            check.stop()
        for upstream in (*self.upstreams, *self._leaving):
            upstream.close()
        self._leaving.clear()  # their timers may still run
